// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
)

// TestAttempts: a call that comes again since a signal took its caller away is one event, with the process where that could be read, and
// whatever else comes is one of its own. A step is a call: its thread, its arguments, what it aims at, whether its caller waits until it
// is recorded, and until it is answered.
// Containment check: G12.
func TestAttempts(t *testing.T) {
	type step struct {
		thread        uint32
		arg           uint64
		target        string
		waits, stays  bool
		twice, differ bool
	}
	for name, tt := range map[string]struct {
		steps []step
		want  []string
	}{
		"answered":                       {[]step{{1, 1, "a", true, true, false, false}, {1, 1, "a", true, true, false, false}}, []string{"a exe", "a exe"}},
		"interrupted after the event":    {[]step{{1, 1, "a", true, false, false, false}, {1, 1, "a", true, true, false, false}}, []string{"a exe"}},
		"interrupted before the event":   {[]step{{1, 1, "a", false, false, false, false}, {1, 1, "a", true, true, false, false}}, []string{"a exe"}},
		"again and again":                {[]step{{1, 1, "a", false, false, false, false}, {1, 1, "a", true, false, false, false}, {1, 1, "a", false, false, false, false}, {1, 1, "a", true, true, false, false}}, []string{"a exe"}},
		"and then another":               {[]step{{1, 1, "a", true, false, false, false}, {1, 1, "a", true, true, false, false}, {1, 1, "a", true, true, false, false}}, []string{"a exe", "a exe"}},
		"killed":                         {[]step{{1, 1, "a", false, false, false, false}}, []string{"a ended"}},
		"killed after the event":         {[]step{{1, 1, "a", true, false, false, false}}, []string{"a exe"}},
		"another call":                   {[]step{{1, 1, "a", false, false, false, false}, {1, 2, "a", true, true, false, false}}, []string{"a ended", "a exe"}},
		"another thread":                 {[]step{{1, 1, "a", true, false, false, false}, {2, 1, "a", true, true, false, false}}, []string{"a exe", "a exe"}},
		"other memory":                   {[]step{{1, 1, "a", true, false, false, false}, {1, 1, "b", true, true, false, false}}, []string{"a exe", "b exe"}},
		"another program":                {[]step{{1, 1, "a", true, false, false, false}, {1, 1, "a", true, true, false, true}}, []string{"a exe", "a other"}},
		"two events of one call":         {[]step{{1, 1, "a", true, true, true, false}}, []string{"a exe", "a exe"}},
		"two events of one, interrupted": {[]step{{1, 1, "a", true, false, true, false}, {1, 1, "a", true, true, true, false}}, []string{"a exe", "a exe"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			a := newAttempts(func(e audit.Event) {
				who := e.Exe
				if e.Ended {
					who = "ended"
				}
				got = append(got, e.Target+" "+who)
			})
			for id, s := range tt.steps {
				n := &notification{ID: uint64(id), PID: s.thread, Args: [6]uint64{s.arg}}
				e := audit.Event{Class: audit.ClassFile, Decision: audit.Deny, Target: s.target, Process: audit.Process{PID: int(s.thread), Exe: "exe"}}
				if s.differ {
					e.Exe = "other"
				}
				if !s.waits {
					e.Process = audit.Process{PID: int(s.thread), Ended: true}
				}
				for range map[bool]int{false: 1, true: 2}[s.twice] {
					a.record(n, e, s.waits)
				}
				a.settle(s.thread, n.ID, func() error {
					if s.stays {
						return nil
					}
					return errors.New("ENOENT")
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

// TestAttemptsBounded: more threads than are remembered have their events all the same, and what is held is on record at the end.
func TestAttemptsBounded(t *testing.T) {
	events := 0
	a := newAttempts(func(audit.Event) { events++ })
	for i := range uint32(maxAttempts + 10) {
		a.record(&notification{ID: uint64(i), PID: i + 1}, audit.Event{Target: fmt.Sprint(i)}, false)
	}
	if events != 10 || len(a.of) != maxAttempts {
		t.Errorf("%d events, %d attempts", events, len(a.of))
	}
	if a.close(); events != maxAttempts+10 {
		t.Errorf("%d events in the end", events)
	}
}
