// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Class says what kind of access an event is about.
type Class string

// The classes, one for each boundary of a run; docs/events.md lists the actions of each.
const (
	ClassRun        Class = "run"
	ClassFile       Class = "file"
	ClassExec       Class = "exec"
	ClassNet        Class = "net"
	ClassDNS        Class = "dns"
	ClassUnix       Class = "unix"
	ClassSyscall    Class = "syscall"
	ClassCredential Class = "credential"
	ClassLimit      Class = "limit"
	ClassWorkspace  Class = "workspace"
	ClassTerminal   Class = "terminal"
)

// classes are all of them, in the order of docs/events.md.
var classes = []Class{
	ClassRun, ClassFile, ClassExec, ClassNet, ClassDNS, ClassUnix, ClassSyscall, ClassCredential, ClassLimit, ClassWorkspace, ClassTerminal,
}

// Classes returns the names of all classes.
func Classes() []string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = string(c)
	}
	return names
}

// Decision says what became of the access.
type Decision string

// The decisions. Report is for facts that were neither allowed nor denied, such as run.start.
const (
	Allow  Decision = "allow"
	Deny   Decision = "deny"
	Report Decision = "report"
)

// Provenance says who vouches for the target of an event.
type Provenance string

// The provenances, strongest first.
const (
	FromKernel   Provenance = "kernel"   // the kernel said it
	FromResolved Provenance = "resolved" // the supervisor resolved or dialed it
	FromClaimed  Provenance = "claimed"  // read from the agent's memory
)

// Severities of an event; the empty severity is an ordinary event.
const (
	SeverityCredential = "credential" // a known place of credentials
	SeverityNoise      = "noise"      // a probe that means nothing, such as a libc looking for /etc/ld.so.preload
)

// Process is the process that made the access, as the supervisor saw it from outside.
// The zero Process is an unknown one.
type Process struct {
	PID  int      `json:"pid,omitempty"`
	PPID int      `json:"ppid,omitempty"`
	Exe  string   `json:"exe,omitempty"`
	Argv []string `json:"argv,omitempty"`
	// Ended: it was killed before more could be read of it.
	Ended bool `json:"ended,omitempty"`
	// Unread: its arguments could not be read in time.
	Unread bool `json:"unread,omitempty"`
}

// Event is one line of the log. The recorder fills Seq, Mono, Run, Redacted, Prev and Sig, and Time where it is zero.
type Event struct {
	Seq      uint64        `json:"seq"`
	Time     time.Time     `json:"time"`
	Mono     time.Duration `json:"mono"` // nanoseconds since the log was opened
	Run      string        `json:"run"`
	Class    Class         `json:"class"`
	Action   string        `json:"action"`
	Decision Decision      `json:"decision"`
	Target   string        `json:"target,omitempty"`
	Rule     string        `json:"rule,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Fix      string        `json:"fix,omitempty"` // the flag that would allow what was denied; see Flag
	Via      string        `json:"via,omitempty"` // the upstream proxy that a connection goes by, HOST:PORT
	Severity string        `json:"severity,omitempty"`
	Errno    string        `json:"errno,omitempty"` // by name, such as ENOENT
	Process
	Count      uint64          `json:"count,omitempty"` // of repeated events folded into this one
	First      *time.Time      `json:"first,omitempty"`
	Last       *time.Time      `json:"last,omitempty"`
	Provenance Provenance      `json:"provenance,omitempty"`
	Truncated  []string        `json:"truncated,omitempty"` // names of fields that were cut
	Redacted   int             `json:"redacted,omitempty"`  // secrets that Options.Redact took out of argv
	Traffic    *Traffic        `json:"traffic,omitempty"`   // of an event about the end of a connection
	Detail     json.RawMessage `json:"detail,omitempty"`    // of class run and limit only
	Prev       string          `json:"prev"`                // hash of the line before
	Sig        string          `json:"sig,omitempty"`       // of log.head and run.end: signature of the line without it
}

// Traffic is what a connection exchanged with the other end, that of the server. Of an event with a count, Sent, Received and Duration are
// the sums of those that it stands for, and Address is there if it is that of all.
type Traffic struct {
	Address  netip.AddrPort `json:"address,omitzero"` // that was dialed
	Sent     uint64         `json:"bytes_sent"`       // by the command
	Received uint64         `json:"bytes_received"`
	Duration uint64         `json:"duration_ms"` // since the other end was reached
}

// plus is the traffic of two events; either may have none.
func (t *Traffic) plus(other *Traffic) *Traffic {
	switch {
	case t == nil:
		return other
	case other == nil:
		return t
	}
	sum := Traffic{Sent: t.Sent + other.Sent, Received: t.Received + other.Received, Duration: t.Duration + other.Duration}
	if t.Address == other.Address {
		sum.Address = t.Address
	}
	return &sum
}

// Sink takes events. Emit never blocks and may be called from any goroutine.
type Sink interface {
	Emit(Event)
}
