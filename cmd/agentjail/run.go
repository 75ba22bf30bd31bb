// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a command in a jail",
		ArgsUsage: "[--] COMMAND [ARG...]",
		Description: "The command sees the working directory and the system's programs, and reaches the hosts of its profile.\n" +
			"Exit codes: the command's own; 128+N for signal N; 124 when the deadline ended it; 125 when agentjail could not\n" +
			"or would not start it; 126 and 127 as a shell would.",
		HideHelpCommand: true, // "help" and "h" may be commands to run
		Flags: slices.Concat(policyFlags(byCommand), logFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "filter-terminal", Usage: "keep control sequences from the terminal that do more than show text (clipboard, files, printing)"},
			&cli.BoolFlag{Name: "quiet", Usage: "print neither what the policy widens nor the summary; errors are printed"},
			&cli.BoolFlag{Name: "json", Usage: "print the summary as one line of JSON, on standard error"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the plan and stop"},
			&cli.BoolFlag{Name: "selftest", Usage: "first try in a jail of the same policy what it must not let happen; a leak ends it"},
		}),
		Action: runAction,
	}
}

func runAction(c *cli.Context) error {
	command := c.Args().Slice()
	if len(command) == 0 || command[0] == "" {
		return errors.New("which command? agentjail run [flags] [--] COMMAND [ARG...]")
	}
	if err := emptyFlag(c); err != nil {
		return err
	}
	if c.Bool("json") && c.Bool("dry-run") {
		return errors.New("--json prints the summary of a run, and --dry-run runs nothing: the plan is text for people; leave one of the two out")
	}
	host, err := sandbox.Probe(sandbox.Request{Workdir: c.String("workdir")})
	if err != nil {
		return err
	}
	var early *sandbox.Early
	if !c.Bool("dry-run") {
		early = sandbox.StartEarly(host, os.Stdin, os.Stdout, os.Stderr)
		defer early.Close()
	}
	plan, profile, err := planFor(c, host, command)
	if err != nil {
		return err
	}
	if plan, err = withoutCollector(c.String("log-otlp"), plan); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		plan.Coverage = append(plan.Coverage, sandbox.NetworkCoverage(plan)...)
		_, err := fmt.Fprint(os.Stdout, plan)
		return err
	}
	log, err := logOptions(c, plan)
	if err != nil {
		return err
	}
	options := sandbox.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Log: log, Early: early, FilterTerminal: c.Bool("filter-terminal")}
	if c.Bool("selftest") {
		results, err := testPolicy(c, profile)
		if err != nil {
			return err
		}
		options.Before = recordResults(results)
	}
	p := printer{quiet: c.Bool("quiet"), json: c.Bool("json")}
	p.widened(plan)
	p.shared(log)
	p.unset(c.StringSlice("env"))
	return runPlan(plan, options, p)
}

// planFor compiles the plan of a command under the profile that is asked for, or that its name chooses, and names the profile. A program
// which the command of an earlier run can have written chooses none: it may be there under an agent's name to have that agent's
// hosts and keys.
func planFor(c *cli.Context, host sandbox.Host, command []string) (plan sandbox.Plan, profile string, err error) {
	over, err := policyFile(c)
	if err != nil {
		return sandbox.Plan{}, "", err
	}
	compile := func(profile string) (sandbox.Plan, error) {
		policy, err := profiles.Named(profile)
		if err == nil {
			policy, err = withFlags(c, policy.With(over))
		}
		if err != nil {
			return sandbox.Plan{}, err
		}
		return sandbox.Compile(policy, host, command)
	}
	if name := c.String("profile"); name != "" {
		plan, err = compile(name)
		return plan, name, err
	}
	name := profiles.ForCommand(command[0])
	plan, err = compile(name)
	if err != nil || name == baseProfile || !plan.OwnProgram {
		return plan, name, err
	}
	fmt.Fprintf(os.Stderr, "agentjail: %s lies where the command may write: profile %s; if it is what it says, give --profile %s\n",
		strconv.Quote(command[0]), baseProfile, name)
	plan, err = compile(baseProfile)
	return plan, baseProfile, err
}

const (
	baseProfile = "base"
	byCommand   = "chosen by the command's name"
)

// execute starts a plan, passes signals on and waits for the end. The error of a start that a signal ends has this process's exit code.
func execute(plan sandbox.Plan, options sandbox.Options) (result sandbox.Result, started bool, err error) {
	var job job
	signals, cancel := passedOn(), ending()
	options.Cancel, options.Stopped = cancel, job.stop
	options.Forked = func() { heedStops(signals) }
	run, err := sandbox.Start(plan, options)
	var cancelled *sandbox.CancelledError
	if errors.As(err, &cancelled) {
		if cancelled.Signal == unix.SIGINT {
			interrupt(false) // the terminal is not raw yet, and has told the others
		}
		err = cli.Exit(err, cancelled.Code())
	}
	if err != nil {
		return sandbox.Result{}, false, err
	}
	signal.Stop(cancel)
	go job.pass(signals, run.Signal)
	result, err = run.Wait()
	signal.Stop(signals) // nothing is left to pass them on to: they end this process
	return result, true, err
}

// runPlan executes a plan and turns the result into an exit code.
func runPlan(plan sandbox.Plan, options sandbox.Options, p printer) error {
	result, started, err := execute(plan, options)
	if !started {
		return err
	}
	if result.Exec != "" { // before the denials, which may say why
		fmt.Fprintln(os.Stderr, "agentjail: "+errorText(result.Exec))
	}
	p.print(result)
	if err != nil {
		return err
	}
	if result.Interrupted {
		interrupt(result.Typed)
	}
	if result.Code != 0 {
		return cli.Exit("", result.Code)
	}
	return nil
}
