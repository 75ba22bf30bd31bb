// SPDX-License-Identifier: Apache-2.0

// Command agentjail runs an AI coding agent so that it sees its working directory and the system's programs, reaches the
// hosts on its allow-list, and nothing else; every access that it was denied is in a log that it cannot touch.
//
// It holds one file per verb. A verb turns flags into a policy, calls the packages and prints; it decides nothing.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/selftest"
	"github.com/agentjail/agentjail/sandbox"
)

func main() {
	sandbox.WithoutCore()
	sandbox.Main(newGateway)
	if len(os.Args) == 3 && os.Args[1] == selftest.Arg {
		os.Exit(selftest.Main(os.Args[2], os.Stdout))
	}
	commands := []*cli.Command{
		runCommand(), psCommand(), stopCommand(), logCommand(), verifyCommand(), keyCommand(), pruneCommand(), profilesCommand(), doctorCommand(),
		selftestCommand(), explainCommand(),
	}
	for _, c := range commands {
		c.OnUsageError = usageError
	}
	app := &cli.App{
		Name:           "agentjail",
		Usage:          "run an AI coding agent with least privilege, and record what it was denied",
		Version:        sandbox.Version(),
		Commands:       commands,
		Action:         noCommand,
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {},
		// A path or a value may hold a comma.
		DisableSliceFlagSeparator: true,
	}
	os.Exit(exitCode(app.Run(os.Args)))
}

// usageError is for a flag that cannot be: what is wrong, without all that could be right.
func usageError(c *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w (%s --help lists the flags)", err, c.Command.HelpName)
}

// noCommand is for a first word that names none.
func noCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowAppHelp(c)
	}
	return fmt.Errorf("there is no command %q; to run a program of that name: agentjail run -- %s", c.Args().First(), c.Args().First())
}

// exitCode prints an error and gives it its code: its own where it has one, 125 otherwise.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintln(os.Stderr, "agentjail: "+errorText(msg))
	}
	var coded cli.ExitCoder
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return sandbox.CodeNotStarted
}

// errorText makes an error fit for a terminal. The kernel's errors name files as they are, and the repository that a run is
// for may have chosen the name. A line after the first is set in, so that no name can write a line of agentjail's. Backslashes
// stay: what was quoted before is not quoted again.
func errorText(msg string) string {
	lines := strings.Split(msg, "\n")
	for i, line := range lines {
		parts := strings.Split(line, `\`)
		for j, part := range parts {
			parts[j] = audit.Printable(part)
		}
		lines[i] = strings.Join(parts, `\`)
	}
	return strings.Join(lines, "\n  ")
}
