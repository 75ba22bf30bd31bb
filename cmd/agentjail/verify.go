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
	exitUnproven   = 4
)

// verifyCommand checks the chain of a log and its signatures.
func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that a log is whole and as it was written",
		ArgsUsage: "[RUN | FILE]",
		Description: "Checks the newest run where none is named. RUN may be shortened as long as it is unique.\n" +
			"Exit codes: 0 whole, and signed by your key (agentjail key) or by the one that --key gives; 1 changed, and the first\n" +
			"bad line is named; 2 not found or not readable; 3 incomplete: good as far as it goes, but without its end,\n" +
			"or written by a run that went on while it could not be written;\n" +
			"4 unproven: whole, but not signed, or by another key than yours.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the log must be signed by the `PUBKEY` that agentjail key printed where it was written"},
			&cli.StringFlag{Name: "head", Usage: "the last line must have this `HASH`, which the run printed"},
		},
		Action: func(c *cli.Context) error {
			name, err := oneArgument(c)
			if err == nil {
				err = emptyFlag(c)
			}
			if err != nil {
				return cli.Exit(err, exitUnread)
			}
			a, err := anchorOf(c.String("head"), c.String("key"))
			if err != nil {
				return cli.Exit(err, exitUnread)
			}
			text, code, err := verifyLog(name, a)
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

// anchor is what a log is held against: what somebody who can write the log cannot change.
type anchor struct {
	head  string          // hash of the last line; empty: any
	key   audit.PublicKey // of the signatures; empty: none is known
	asked bool            // the key was asked for, so that there must be a signature
}

// demanded is the key without which a log is changed. By one's own alone it is not: the log may come from another machine.
func (a anchor) demanded() audit.PublicKey {
	if a.asked {
		return a.key
	}
	return ""
}

// knows tells whether the key that signed is the one to check with.
func (a anchor) knows(signer audit.PublicKey) bool { return signer != "" && signer == a.key }

// anchorOf reads the flags. Without a key, the caller's own is it.
func anchorOf(head, key string) (a anchor, err error) {
	a.head, a.asked = strings.ToLower(head), key != ""
	if raw, err := hex.DecodeString(a.head); head != "" && (err != nil || len(raw) != 32) {
		return a, fmt.Errorf("--head: %q is not a SHA-256 in hex", head)
	}
	if !a.asked {
		a.key, err = ownKey()
		return a, err
	}
	if a.key, err = audit.ParsePublicKey(key); err != nil {
		return a, fmt.Errorf("--key: %q is %w", key, err)
	}
	return a, nil
}

// verifyLog reads a log and says in a line what it is.
func verifyLog(name string, a anchor) (text string, code int, err error) {
	f, err := openLog(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	writing := f.Writing()
	v, err := audit.Verify(f, a.demanded())
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", audit.Printable(f.Name()), err)
	}
	if run := filepath.Base(filepath.Dir(f.Name())); !namesFile(name) && v.Run != "" && v.Run != run {
		return fmt.Sprintf("changed: what run %s has is the log of run %s", run, audit.Printable(v.Run)), exitChanged, nil
	}
	later, err := f.Later()
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", audit.Printable(f.Name()), err)
	}
	// Of a run that goes on, segments may have come since the log was read.
	if v.FirstBad == nil && !v.Complete && later > 0 && (v.Next == 0 || !writing) {
		return "changed: " + torn(v, later), exitChanged, nil
	}
	text, code = verdict(v, a, writing || f.Writing())
	return text, code, nil
}

// torn says what is missing in the middle of a log, of which a later segment is there: no run that was killed leaves that.
func torn(v audit.Verification, later int) string {
	if v.Next > 0 {
		return fmt.Sprintf("segment %d is there, and no line of segment %d: it was removed, replaced or emptied", later, v.Next)
	}
	return fmt.Sprintf("segment %d is there, and segment %d has no log.next: its end was cut away", later, v.Segment+v.Segments-1)
}

// verdict puts what was found into a line and an exit code.
func verdict(v audit.Verification, a anchor, writing bool) (string, int) {
	lines := fmt.Sprintf("run %s, %d events", audit.Printable(v.Run), v.Events)
	if v.Segments > 1 {
		lines += fmt.Sprintf(" in %d segments", v.Segments)
	}
	switch {
	case v.FirstBad != nil:
		return fmt.Sprintf("changed: %v", v.FirstBad), exitChanged
	case a.head != "" && v.Head != a.head:
		return fmt.Sprintf("changed: %s, head %s, which is not the one asked for", lines, v.Head), exitChanged
	case v.Events == 0 && !v.CutOff:
		return "incomplete: the log is empty", exitIncomplete
	case v.Segment > 1:
		return fmt.Sprintf("incomplete: %s from segment %d on, head %s, %s: only a part of the log, which has %d events before it in other segments",
			lines, v.Segment, v.Head, signedPart(v, a), v.First-1), exitIncomplete
	case v.Complete && v.Failed > 0:
		return fmt.Sprintf("incomplete: %s, status %d, head %s, %s: the log could not be written for a time, and %d accesses are not in it",
			lines, v.Status, v.Head, signedPart(v, a), v.Dropped), exitIncomplete
	case !v.Complete:
		return "incomplete: " + lines + ", " + signedPart(v, a) + ": " + whyIncomplete(v, writing), exitIncomplete
	}
	text := fmt.Sprintf("%s, status %d, head %s", lines, v.Status, v.Head)
	switch {
	case a.knows(v.Signer):
		return "ok: " + text + ", signed", 0
	case a.head != "" && !a.asked:
		return "ok: " + text, 0 // its hash is known from elsewhere
	case v.Signer == "":
		return "unproven: " + text + ", not signed: anybody who can write the file can have made all of it; --head tells", exitUnproven
	}
	return fmt.Sprintf("unproven: %s, signed by %s, which is not your key: give the one you expect with --key", text, v.Signer), exitUnproven
}

// signedPart says how much of an incomplete log is signed.
func signedPart(v audit.Verification, a anchor) string {
	switch {
	case v.Signer == "":
		return "none of them signed"
	case !a.knows(v.Signer):
		return fmt.Sprintf("%d signed by %s, which is not your key, and %d after them", v.Signed, v.Signer, v.Events-v.Signed)
	}
	return fmt.Sprintf("%d signed and %d after them", v.Signed, v.Events-v.Signed)
}

func whyIncomplete(v audit.Verification, writing bool) string {
	switch {
	case v.Next > 0:
		return fmt.Sprintf("only a part of the log, which goes on in segment %d", v.Next)
	case writing:
		return "the run goes on"
	case v.CutOff:
		return "the line after them is cut off: the run was killed, or the end was cut away"
	}
	return "no run.end: the run was killed, or the end was cut away"
}
