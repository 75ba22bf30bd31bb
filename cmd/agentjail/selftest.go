// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/selftest"
	"github.com/agentjail/agentjail/sandbox"
)

// Exit codes of selftest.
const (
	exitLeaked = 1
	exitSilent = 2 // nothing leaked, but not every try was reported
)

// selftestTime bounds a selftest, which takes a second.
const selftestTime = time.Minute

// selftestCommand tries a policy out.
func selftestCommand() *cli.Command {
	return &cli.Command{
		Name:  "selftest",
		Usage: "try in a jail what a jail must not let happen",
		Description: "Starts a jail with the policy that the flags ask for, as run does, tries there what it must not let happen, and\n" +
			"prints what became of each try. What the policy grants, and what this host cannot show, is not testable.\n" +
			"Exit codes: 0 nothing leaked; 1 something did; 2 some try was not reported; 125 the jail could not be started.",
		Flags: append(policyFlags(baseProfile), &cli.BoolFlag{Name: "json", Usage: "print the results as JSON"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("selftest takes no command, but got %q; to test before a run: agentjail run --selftest", c.Args().First())
			}
			results, err := trySelf(c)
			if err != nil {
				return err
			}
			return printResults(c.App.Writer, results, c.Bool("json"))
		},
	}
}

// printResults prints the table. The error, which has no text, is the exit code of one that is not good.
func printResults(w io.Writer, results selftest.Results, asJSON bool) error {
	var err error
	if asJSON {
		err = json.NewEncoder(w).Encode(results)
	} else {
		err = results.Write(w)
	}
	switch {
	case err != nil:
		return err
	case results.Count(selftest.Leaked) > 0:
		return cli.Exit("", exitLeaked)
	case results.Err() != nil:
		return cli.Exit("", exitSilent)
	}
	return nil
}

// trySelf runs this program as the command of a run with the policy that is asked for.
func trySelf(c *cli.Context) (results selftest.Results, err error) {
	if err := emptyFlag(c); err != nil {
		return nil, err
	}
	uid, gid, ok := sandbox.Sudo()
	if !ok {
		uid, gid = os.Getuid(), os.Getgid()
	}
	bait, err := selftest.Put(uid, gid)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bait.Close()) }()
	host, err := sandbox.Probe(sandbox.Request{Workdir: c.String("workdir")})
	if err != nil {
		return nil, err
	}
	plan, _, err := planFor(c, host, []string{host.Program, selftest.Arg, bait.Facts()})
	if err != nil {
		return nil, err
	}
	if ttl := plan.Limits.TTL; ttl == 0 || ttl > selftestTime {
		plan.Limits.TTL = selftestTime
	}
	report, failed, err := reportOf(plan)
	if err != nil {
		return nil, err
	}
	return bait.Judge(report, selftest.Granted{Shows: plan.Shows, Loopback: plan.Loopback, Syscalls: plan.Syscalls}, failed), nil
}

// reportOf executes a plan and returns what it wrote; failed is why it may not have written all of it.
func reportOf(plan sandbox.Plan) (report io.Reader, failed, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	read := make(chan []byte)
	go func() { read <- firstOf(r) }()
	result, started, err := execute(plan, sandbox.Options{Stdin: null, Stdout: w, Stderr: null})
	w.Close()
	said := <-read
	switch {
	case !started || err != nil:
		return nil, nil, err
	case result.Exec != "":
		failed = errors.New(result.Exec)
	case result.Code != 0:
		failed = fmt.Errorf("the tries ended with status %d; agentjail log %s has more", result.Code, result.ID)
	}
	return bytes.NewReader(said), failed, nil
}

// maxSaid is more than a report may hold: package selftest refuses one that is longer.
const maxSaid = 1 << 20

// firstOf reads the start of what somebody writes, and lets them write on.
func firstOf(r io.Reader) []byte {
	said, _ := io.ReadAll(io.LimitReader(r, maxSaid)) // a report that is cut short is refused
	io.Copy(io.Discard, r)
	return said
}

// testPolicy has a process of its own do a selftest under the policy that a run is asked for: under sudo, a process gives root up for
// one run.
func testPolicy(c *cli.Context, profile string) (selftest.Results, error) {
	runtime.LockOSThread() // see Pdeathsig, prctl(2)
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", append([]string{"selftest", "--json", "--profile=" + profile}, policyArgs(c)...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	out, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) && (ended.ExitCode() == exitLeaked || ended.ExitCode() == exitSilent) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("selftest: %w", err)
	}
	var results selftest.Results
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("selftest: %w", err)
	}
	return results, nil
}

// policyArgs are the flags of a policy as they were given, but for the profile.
func policyArgs(c *cli.Context) []string {
	var args []string
	for _, f := range policyFlags("") {
		name := f.Names()[0]
		switch _, list := f.(*cli.StringSliceFlag); {
		case !c.IsSet(name) || name == "profile":
		case list:
			for _, value := range c.StringSlice(name) {
				args = append(args, "--"+name+"="+value)
			}
		default:
			args = append(args, fmt.Sprintf("--%s=%v", name, c.Value(name)))
		}
	}
	return args
}

// recordResults has a run put the table into its log, and not start where something leaked or was not reported.
func recordResults(results selftest.Results) func(audit.Sink) error {
	return func(log audit.Sink) error {
		data, err := json.Marshal(map[string]any{"results": results})
		if err != nil {
			return err
		}
		log.Emit(audit.Event{Class: audit.ClassRun, Action: "run.selftest", Decision: audit.Report, Detail: data})
		if err := results.Err(); err != nil {
			return fmt.Errorf("selftest: %w", err)
		}
		return nil
	}
}
