// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
)

// summaryLines is how many denials the summary names; the log has them all.
const summaryLines = 10

// String is the end-of-run summary for people: what was denied, credentials first. It is empty where there is nothing to say.
func (r Result) String() string {
	var b strings.Builder
	for _, id := range r.Crashed {
		fmt.Fprintf(&b, "agentjail: the launcher of the earlier run %s was killed (agentjail verify %s)\n", id, id)
	}
	switch r.Reason {
	case reasonDeadline:
		b.WriteString("agentjail: the run's time was over\n")
	case reasonSupervisor, reasonLog, reasonUntaken:
		fmt.Fprintf(&b, "agentjail: the run was ended: %s\n", r.Reason)
	case reasonUnfinished:
		fmt.Fprintf(&b, "agentjail: %s\n", r.Reason)
	}
	if r.Left {
		fmt.Fprintf(&b, "agentjail: %s\n", reasonLeft)
	}
	b.WriteString(r.Troubles())
	b.WriteString(r.workspace())
	b.WriteString(r.failures(r.Summary.Unreached, "is allowed, and could not be reached"))
	b.WriteString(r.failures(r.Summary.Unaccepted, "is inspected in TLS, and a program did not go on with that"))
	b.WriteString(r.failures(r.Summary.Unpublished, "had a server that nothing connected to"))
	if r.Summary.Denied == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "agentjail: %d denied (agentjail log %s --denied)\n", r.Summary.Denied, r.ID)
	for i, d := range r.Summary.Top {
		if i == summaryLines {
			fmt.Fprintf(&b, "  and %d more\n", len(r.Summary.Top)-i)
			break
		}
		mark := " "
		if d.Severity != "" {
			mark = "!"
		}
		fmt.Fprintf(&b, "  %s %s %s", mark, d.Action, quotePath(d.Target))
		if d.Count > 1 {
			fmt.Fprintf(&b, " (%d times)", d.Count)
		}
		if d.Fix != "" {
			b.WriteString("; to allow it: " + audit.Printable(d.Fix))
		}
		b.WriteString("\n")
	}
	switch {
	case r.Summary.Dropped == 0:
	case r.Reason == reasonLog:
		fmt.Fprintf(&b, "agentjail: %d accesses are not in the log\n", r.Summary.Dropped)
	default:
		fmt.Fprintf(&b, "agentjail: %d accesses came too fast to be recorded; the log has their number\n", r.Summary.Dropped)
	}
	fmt.Fprintf(&b, "agentjail: log head %s\n", r.Summary.Head)
	return b.String()
}

// failureLines is how many hosts of a kind the summary names.
const failureLines = 5

// failures is what of the summary is about hosts that were allowed, and failed: the command saw no more than a connection that was reset,
// or a certificate that it does not know.
func (r Result) failures(failures []audit.Failure, what string) string {
	var b strings.Builder
	for i, f := range failures {
		if i == failureLines {
			fmt.Fprintf(&b, "agentjail: and %d more (agentjail log %s)\n", len(failures)-i, r.ID)
			break
		}
		fmt.Fprintf(&b, "agentjail: %s %s: %s\n", audit.Printable(f.Target), what, audit.Printable(f.Reason))
	}
	return b.String()
}

// Keeps tells whether a canonical path lies in agentjail's own state, with the logs of all runs.
func (p Plan) Keeps(path string) bool {
	state, err := filepath.EvalSymlinks(p.State)
	return err == nil && within(state, path)
}

// Shows tells whether the command could see a path of the host.
func (p Plan) Shows(path string) bool {
	if within(p.Home.Private, path) {
		return true
	}
	for _, m := range p.Mounts {
		if m.Kind == Bind && within(m.Source, path) {
			return true
		}
	}
	return false
}
