// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
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

// policyFlags say what a run may do; otherwise is the profile without --profile.
func policyFlags(otherwise string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "profile", Usage: "policy `NAME`; " + otherwise + " otherwise"},
		&cli.StringFlag{Name: "policy", Usage: "policy `FILE`, on top of the profile"},
		&cli.StringFlag{Name: "workdir", Usage: "`DIR` to work in (default: the current directory)"},
		&cli.StringSliceFlag{Name: "ro", Usage: "let the command read `PATH`"},
		&cli.StringSliceFlag{Name: "rw", Usage: "let the command read and write `PATH`"},
		&cli.StringSliceFlag{Name: "with", Usage: "let the command read the tools of `SET`, where they are installed: " + strings.Join(profiles.ToolchainNames(), ", ")},
		&cli.StringSliceFlag{Name: "hide", Usage: "hide `PATH`, which lies in a grant"},
		&cli.BoolFlag{Name: "hide-secrets", Usage: "hide .env files and private keys of the working directory"},
		&cli.StringSliceFlag{Name: "protect", Usage: "keep what is called `NAME` from being written or made, wherever it lies"},
		&cli.StringSliceFlag{Name: "unprotect", Usage: "do not protect what is called `NAME`, which is on the list"},
		&cli.StringSliceFlag{Name: "allow-net", Usage: "let the command reach `HOST[:PORT]`, *.SUFFIX[:PORT] or CIDR[:PORT]"},
		&cli.StringSliceFlag{Name: "deny-net", Usage: "refuse `HOST[:PORT][=REASON]`, as --allow-net has it, whatever grants it; without a port all of them"},
		&cli.StringFlag{Name: "max-upload", Usage: "let the command send at most `SIZE`, to all hosts together, such as 1GiB"},
		&cli.StringFlag{Name: "max-upload-per-host", Usage: "let the command send at most `SIZE` to each host"},
		&cli.StringFlag{Name: "max-connections", Usage: "let the command have at most `N` connections at once"},
		&cli.StringSliceFlag{Name: "publish", Usage: "let this machine reach `PORT` inside, at the same port of its loopback"},
		&cli.StringSliceFlag{Name: "socket", Usage: "let the command connect to the Unix socket `PATH` of this machine"},
		&cli.BoolFlag{Name: "proxy", Usage: "give the command a proxy (HTTP, SOCKS 5) to reach the same hosts by, and the variables for it"},
		&cli.StringFlag{Name: "upstream", Usage: "reach hosts by the proxy `URL`, or none (default: environment, HTTPS_PROXY and its like)"},
		&cli.StringSliceFlag{Name: "env", Usage: "let variable `NAME` in, or set NAME=VALUE"},
		&cli.StringFlag{Name: "memory", Usage: "at most `SIZE` of memory, such as 4GiB"},
		&cli.Int64Flag{Name: "pids", Usage: "at most `N` processes and threads"},
		&cli.Float64Flag{Name: "cpus", Usage: "at most `X` processors"},
		&cli.DurationFlag{Name: "ttl", Usage: "end the run after `DURATION`, such as 30m"},
		&cli.StringFlag{Name: "log-on-error", Usage: "`WHAT` becomes of a run whose log cannot be written: stop (default) or continue"},
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

// policyFile is the layer of --policy; an empty one without.
func policyFile(c *cli.Context) (profiles.Policy, error) {
	file := c.String("policy")
	if file == "" {
		return profiles.Policy{}, nil
	}
	// As the plan resolves it, and with a name that no embedded profile has.
	if file = filepath.Clean(file); !filepath.IsAbs(file) {
		file = "." + string(filepath.Separator) + file
	}
	data, err := readPolicy(file)
	if err != nil {
		return profiles.Policy{}, fmt.Errorf("--policy: %w", err)
	}
	return profiles.Parse(file, data)
}

// maxPolicy bounds a policy file; Parse refuses one that is longer.
const maxPolicy = 1 << 20

func readPolicy(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPolicy+1))
}

func withFlags(c *cli.Context, policy profiles.Policy) (profiles.Policy, error) {
	limits := profiles.Limits{Pids: c.Int64("pids"), CPUs: c.Float64("cpus"), TTL: c.Duration("ttl")}
	for name, zero := range map[string]bool{"pids": limits.Pids == 0, "cpus": limits.CPUs == 0, "ttl": limits.TTL == 0} {
		if zero && c.IsSet(name) {
			return policy, fmt.Errorf("--%s 0 would stop everything: leave it out for no limit", name)
		}
	}
	if text := c.String("memory"); text != "" {
		size, err := profiles.ParseSize(text)
		if err != nil {
			return policy, fmt.Errorf("--memory: %w", err)
		}
		limits.Memory = size
	}
	for _, step := range []func(profiles.Policy) (profiles.Policy, error){
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(absolute(c.StringSlice("ro"))...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite(absolute(c.StringSlice("rw"))...) },
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithHide(absolute(c.StringSlice("hide"))...)
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			if !c.IsSet("hide-secrets") {
				return p, nil
			}
			return p.WithSecrets(map[bool]string{true: profiles.SecretsHide, false: profiles.SecretsShow}[c.Bool("hide-secrets")])
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			p, err := p.WithToolchains(listed(c.StringSlice("with"))...)
			if err != nil {
				err = fmt.Errorf("--with: %w", err)
			}
			return p, err
		},
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithProtect(c.StringSlice("protect")...) },
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithUnprotect(c.StringSlice("unprotect")...)
		},
		func(p profiles.Policy) (profiles.Policy, error) { return withNetwork(c, p) },
		func(p profiles.Policy) (profiles.Policy, error) {
			if !c.IsSet("log-on-error") {
				return p, nil
			}
			p, err := p.WithLogOnError(c.String("log-on-error"))
			if err != nil {
				err = fmt.Errorf("--log-on-error: %w", err)
			}
			return p, err
		},
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithLimits(limits) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithEnv(c.StringSlice("env")...) },
	} {
		var err error
		if policy, err = step(policy); err != nil {
			return policy, err
		}
	}
	return policy, nil
}

// withNetwork is withFlags for those about the network.
func withNetwork(c *cli.Context, p profiles.Policy) (profiles.Policy, error) {
	rules, err := parseAll(c, "allow-net", profiles.ParseRule)
	if err != nil {
		return p, err
	}
	denials, err := parseAll(c, "deny-net", profiles.ParseDenial)
	if err != nil {
		return p, err
	}
	quota, err := quotaFlags(c)
	if err != nil {
		return p, err
	}
	for _, step := range []func(profiles.Policy) (profiles.Policy, error){
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithAllow(rules...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithDeny(denials...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithQuota(quota) },
		func(p profiles.Policy) (profiles.Policy, error) {
			p, err := p.WithPublish(c.StringSlice("publish")...)
			if err != nil {
				err = fmt.Errorf("--publish: %w", err)
			}
			return p, err
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithSockets(absolute(c.StringSlice("socket"))...)
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			if c.IsSet("proxy") {
				p = p.WithProxy(c.Bool("proxy"))
			}
			if !c.IsSet("upstream") {
				return p, nil
			}
			return p.WithUpstream(c.String("upstream"))
		},
	} {
		if p, err = step(p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parseAll parses each value of a flag that may be repeated.
func parseAll[T any](c *cli.Context, flag string, parse func(string) (T, error)) (all []T, err error) {
	for _, text := range c.StringSlice(flag) {
		one, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", flag, strconv.Quote(text), err)
		}
		all = append(all, one)
	}
	return all, nil
}

func quotaFlags(c *cli.Context) (q profiles.Quota, err error) {
	size := func(out *int64) func(string) error {
		return func(s string) (err error) { *out, err = profiles.ParseUpload(s); return err }
	}
	for flag, set := range map[string]func(string) error{
		"max-upload": size(&q.Upload), "max-upload-per-host": size(&q.HostUpload),
		"max-connections": func(s string) (err error) { q.Connections, err = profiles.ParseConnections(s); return err },
	} {
		if text := c.String(flag); text != "" {
			if err := set(text); err != nil {
				return q, fmt.Errorf("--%s: %w", flag, err)
			}
		}
	}
	return q, nil
}

// listed are the names of a flag that may be repeated, and may have several with commas between.
func listed(values []string) (names []string) {
	for _, v := range values {
		names = append(names, strings.Split(v, ",")...)
	}
	return names
}

// absolute makes paths of the command line absolute; a policy knows no current directory. An empty one, of a variable that is
// not set, is left for the policy to refuse.
func absolute(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		if full, err := filepath.Abs(p); err == nil && p != "" && !strings.HasPrefix(p, "~") {
			p = full
		}
		out[i] = p
	}
	return out
}

// execute starts a plan, passes signals on and waits for the end. The error of a start that a signal ends is this process's exit code.
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
		err = cli.Exit("", cancelled.Code())
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

// printer writes to stderr what a run widens, and the summary at its end.
type printer struct{ quiet, json bool }

func (p printer) widened(plan sandbox.Plan) {
	if p.quiet || p.json {
		return
	}
	if plan.WithoutFUSE != "" {
		fmt.Fprintf(os.Stderr, "agentjail: no FUSE here (%s): what is not granted is absent all the same, but looks at files are slower and recorded by what the calls say\n",
			audit.Printable(plan.WithoutFUSE))
	}
	if plan.Around != "" {
		fmt.Fprintf(os.Stderr, "agentjail: git sees no repository in there: %s is around the working directory; --workdir shows it\n",
			audit.Printable(plan.Around))
	}
	for _, t := range plan.Tools {
		if t.Asked && len(t.Found) == 0 {
			fmt.Fprintf(os.Stderr, "agentjail: --with %s: none of it is installed where the set looks: %s\n", t.Name, audit.Printable(strings.Join(t.Places, " ")))
		}
	}
	for _, group := range plan.Syscalls {
		fmt.Fprintf(os.Stderr, "agentjail: the policy allows the group %s of system calls\n", group)
	}
	if plan.GoesOn {
		fmt.Fprintln(os.Stderr, "agentjail: the policy lets the command go on where its log cannot be written")
	}
	if plan.Collector != "" {
		fmt.Fprintf(os.Stderr, "agentjail: the policy lets the command reach the collector of its log, %s: it can send records there as well\n", audit.Printable(plan.Collector))
	}
	for _, path := range plan.Sockets() {
		fmt.Fprintf(os.Stderr, "agentjail: the policy allows all that %s does for who connects to it\n", audit.Printable(path))
	}
}

// shared says that the command can write where its log goes.
func (p printer) shared(log sandbox.LogOptions) {
	if log.Shared != nil && !p.quiet && !p.json {
		fmt.Fprintln(os.Stderr, "agentjail: the log goes to standard error, where the command can write lines that look like it: agentjail verify tells them apart")
	}
}

// unset names the variables that were to enter and that the caller does not have.
func (p printer) unset(variables []string) {
	for _, name := range variables {
		if _, set := os.LookupEnv(name); set || p.quiet || p.json || strings.ContainsAny(name, "=*") {
			continue
		}
		fmt.Fprintf(os.Stderr, "agentjail: --env %s: the variable is not set here, and so not in there\n", name)
	}
}

func (p printer) print(r sandbox.Result) {
	switch {
	case stuck(os.Stderr):
	case p.json:
		// The command may have left a line that it did not end, which would be the beginning of this one.
		fmt.Fprintln(os.Stderr)
		json.NewEncoder(os.Stderr).Encode(r)
	case p.quiet: // what is missing is not a summary
		fmt.Fprint(os.Stderr, r.Troubles())
	case r.String() != "":
		fmt.Fprint(os.Stderr, plainly(os.Stderr, os.Getenv("TERM")), r.String())
	}
}

// plainly is what makes a terminal show the summary as it is, "" for any other file. The command can have left it in the middle of an
// escape sequence, which would swallow what follows, with letters that nobody can read, or where the summary goes to a printer or
// scrolls away within two lines. CAN and ST end a sequence, SI, ESC ( B and SGR 0 give the usual letters (console_codes(4)), MC 4 ends
// printing, IRM the insertion, and DECSTBM gives all lines, at which DECSC and DECRC keep the cursor in its place (xterm's "Control
// Sequences"); a terminal that calls itself dumb has none of that. Colours stay, as they may be the user's own.
func plainly(f *os.File, kind string) string {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil || kind == "" || kind == "dumb" {
		return ""
	}
	return "\x18\x1b\\\x1b[4i\x1b[4l\x1b7\x1b[r\x1b8\x0f\x1b(B\x1b[m"
}

// stuck tells whether a file is a terminal that takes nothing: a summary must not keep a run from its end.
func stuck(f *os.File) bool {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}}
	for end := time.Now().Add(2 * time.Second); ; {
		n, err := unix.Poll(fds, int(time.Until(end).Milliseconds()))
		if err != unix.EINTR || time.Now().After(end) {
			return n == 0
		}
	}
}
