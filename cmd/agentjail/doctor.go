// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/sandbox"
)

// doctorCommand says what this host can do.
func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say whether agentjail works on this host, and how to fix what is missing",
		Description: "Tries, as the user who calls it, everything that a run needs, in processes that end with it, and changes nothing.\n" +
			"Exit code 0: a run would work. 1: it would not.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("doctor takes no arguments, but got %q", c.Args().First())
			}
			return printDoctor(c.App.Writer, sandbox.Doctor(), c.Bool("json"))
		},
	}
}

// printDoctor prints a report. The error, which has no text, is the exit code of a host on which no run works.
func printDoctor(w io.Writer, report sandbox.DoctorReport, asJSON bool) error {
	var err error
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = report.Write(w)
	}
	if err == nil && !report.Works {
		err = cli.Exit("", 1)
	}
	return err
}
