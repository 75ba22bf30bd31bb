// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
)

// Exit codes of verify.
const (
	exitChanged    = 1
	exitUnread     = 2
	exitIncomplete = 3
)

// verifyCommand checks the chain of a log.
func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that a log is whole and as it was written",
		ArgsUsage: "[RUN | FILE]",
		Description: "Checks the newest run where none is named. RUN may be shortened as long as it is unique.\n" +
			"Exit codes: 0 whole; 1 changed, and the first bad line is named; 2 not found or not readable;\n" +
			"3 incomplete: good as far as it goes, but without its end.\n" +
			"Who can write the file can also make a new chain: only --head, with the head that the run printed, tells.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "head", Usage: "the last line must have this `HASH`"}},
		Action: func(c *cli.Context) error {
			name, err := oneArgument(c)
			if err == nil {
				err = emptyFlag(c)
			}
			if err != nil {
				return cli.Exit(err, exitUnread)
			}
			text, code, err := verifyLog(name, c.String("head"))
			if err != nil {
				return cli.Exit(err, exitUnread)
			}
			fmt.Fprintln(c.App.Writer, text)
			if code != 0 {
				return cli.Exit("", code)
			}
			return nil
		},
	}
}

// verifyLog reads a log and says in a line what it is.
func verifyLog(name, head string) (text string, code int, err error) {
	head = strings.ToLower(head)
	if raw, err := hex.DecodeString(head); head != "" && (err != nil || len(raw) != 32) {
		return "", 0, fmt.Errorf("--head: %q is not a SHA-256 in hex", head)
	}
	f, err := openLog(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	writing := audit.Writing(f)
	v, err := audit.Verify(f)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", audit.Printable(f.Name()), err)
	}
	if run := filepath.Base(filepath.Dir(f.Name())); !namesFile(name) && v.Run != "" && v.Run != run {
		return fmt.Sprintf("changed: what run %s has is the log of run %s", run, audit.Printable(v.Run)), exitChanged, nil
	}
	text, code = verdict(v, head, writing)
	return text, code, nil
}

// verdict puts what was found into a line and an exit code. head is what the last line's hash must be, if it is not empty.
func verdict(v audit.Verification, head string, writing bool) (string, int) {
	lines := fmt.Sprintf("run %s, %d events", audit.Printable(v.Run), v.Events)
	switch {
	case v.FirstBad != nil:
		return fmt.Sprintf("changed: %v", v.FirstBad), exitChanged
	case head != "" && v.Head != head:
		return fmt.Sprintf("changed: %s, head %s, which is not the one asked for", lines, v.Head), exitChanged
	case v.Complete:
		return fmt.Sprintf("ok: %s, status %d, head %s", lines, v.Status, v.Head), 0
	case writing:
		return "incomplete: " + lines + ": the run goes on", exitIncomplete
	case v.Events == 0 && !v.CutOff:
		return "incomplete: the log is empty", exitIncomplete
	case v.CutOff:
		return "incomplete: " + lines + ", the line after them is cut off: the run was killed, or the end was cut away", exitIncomplete
	}
	return "incomplete: " + lines + ", no run.end: the run was killed, or the end was cut away", exitIncomplete
}
