// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// TestAttempts: a call that comes again since a signal took its caller away is one event, with the process where that could be read, and
// whatever else comes is one of its own.
// Containment check: G12.
func TestAttempts(t *testing.T) {
	type step struct {
		thread      uint32
		arg         uint64
		target      string
		gone        bool // the caller waits no more when the event is recorded
		interrupted bool // nor when the call is answered
		twice       bool // it has two events
		exe         string
	}
	gone, interrupted := step{gone: true, interrupted: true}, step{interrupted: true}
	for name, tt := range map[string]struct {
		steps []step
		want  []string
	}{
		"answered":                       {[]step{{}, {}}, []string{"a exe", "a exe"}},
		"interrupted after the event":    {[]step{interrupted, {}}, []string{"a exe"}},
		"interrupted before the event":   {[]step{gone, {}}, []string{"a exe"}},
		"again and again":                {[]step{gone, interrupted, gone, {}}, []string{"a exe"}},
		"and then another":               {[]step{interrupted, {}, {}}, []string{"a exe", "a exe"}},
		"killed":                         {[]step{gone}, []string{"a ended"}},
		"killed after the event":         {[]step{interrupted}, []string{"a exe"}},
		"another call":                   {[]step{gone, {arg: 1}}, []string{"a ended", "a exe"}},
		"another thread":                 {[]step{interrupted, {thread: 1}}, []string{"a exe", "a exe"}},
		"other memory":                   {[]step{interrupted, {target: "b"}}, []string{"a exe", "b exe"}},
		"another program":                {[]step{interrupted, {exe: "other"}}, []string{"a exe", "a other"}},
		"two events of one call":         {[]step{{twice: true}}, []string{"a exe", "a exe"}},
		"two events of one, interrupted": {[]step{{twice: true, interrupted: true}, {twice: true}}, []string{"a exe", "a exe"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			a := newAttempts(func(e audit.Event) { got = append(got, e.Target+" "+cmp.Or(e.Exe, "ended")) }, false)
			for id, s := range tt.steps {
				n := &notification{ID: uint64(id), PID: s.thread, Args: [6]uint64{s.arg}}
				e := audit.Event{Target: cmp.Or(s.target, "a"), Process: audit.Process{Exe: cmp.Or(s.exe, "exe")}}
				if s.gone {
					e.Process = audit.Process{Ended: true}
				}
				a.record(n, e, !s.gone)
				if s.twice {
					a.record(n, e, !s.gone)
				}
				a.settle(n, func() error {
					if s.interrupted {
						return unix.ENOENT
					}
					return nil
				})
			}
			a.close()
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if len(a.of) > 0 {
				t.Errorf("%d attempts are left", len(a.of))
			}
		})
	}
}

// TestAttemptsBounded: more threads than are remembered have their events all the same, and so have more events of one call that is never
// answered; what is held is on record at the end.
func TestAttemptsBounded(t *testing.T) {
	events := 0
	a := newAttempts(func(audit.Event) { events++ }, false)
	for i := range uint32(maxAttempts + 10) {
		a.record(&notification{ID: uint64(i), PID: i + 1}, audit.Event{Target: fmt.Sprint(i)}, false)
	}
	if events != 10 || len(a.of) != maxAttempts {
		t.Errorf("%d events, %d attempts", events, len(a.of))
	}
	if a.close(); events != maxAttempts+10 {
		t.Errorf("%d events in the end", events)
	}
	events = 0
	for i := range uint64(maxTold + 10) {
		a.record(&notification{ID: i, PID: 1}, audit.Event{Target: fmt.Sprint(i)}, true)
	}
	if told := len(a.of[1].told); events != maxTold+10 || told != maxTold {
		t.Errorf("%d events of one call, %d of them are remembered", events, told)
	}
}
