// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

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
		fmt.Fprintf(os.Stderr, "agentjail: git sees no repository in there: %s is around the working directory; --rw of it shows it, --workdir works there\n",
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
