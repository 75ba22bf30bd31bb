// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strconv"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// receiving is a run that receives what its supervisor, the other end, tells.
func receiving(t *testing.T) (*Run, *wire.Conn) {
	t.Helper()
	launcher, supervisor := connected(t)
	_, log := liveRunDir(t, t.TempDir())
	if err := log.Start(nil); err != nil {
		t.Fatal(err)
	}
	r := &Run{conn: launcher, log: log, messages: make(chan wire.Message)}
	go r.receive()
	return r, supervisor
}

// TestReceive: all events that came before a message are in the log when it is there, however many came at one time.
func TestReceive(t *testing.T) {
	r, supervisor := receiving(t)
	const events = 1000
	for i := range events {
		if err := supervisor.Send(msgEvent, audit.Event{Class: audit.ClassNet, Action: "udp.send", Decision: audit.Deny, Target: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := supervisor.Send(msgEnded, nil); err != nil {
		t.Fatal(err)
	}
	if m := <-r.messages; m.Kind != msgEnded {
		t.Errorf("got %q", m.Kind)
	}
	s, err := r.log.Close(audit.End{})
	if err != nil || s.Denied != events {
		t.Errorf("%d events, %v; want %d", s.Denied, err, events)
	}
	supervisor.Close()
	if m, ok := <-r.messages; ok {
		t.Errorf("%q after the end", m.Kind)
	}
}

// TestUnfinished: a run whose supervisor is gone after the command's end, and before it has said that all it saw is told, says so. The twins:
// one that said it, and one that is gone before.
// Containment check: Q10.
func TestUnfinished(t *testing.T) {
	for name, tt := range map[string]struct {
		said []string
		want string
	}{
		"gone early": {nil, reasonSupervisor},
		"gone late":  {[]string{msgOver}, reasonUnfinished},
		"done":       {[]string{msgOver, msgEnded}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, supervisor := receiving(t)
			for _, kind := range tt.said {
				if err := supervisor.Send(kind, endReport{Code: 3}); err != nil {
					t.Fatal(err)
				}
			}
			supervisor.Close()
			if got := r.await(); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			if text := (Result{Reason: tt.want}).String(); !strings.Contains(text, tt.want) {
				t.Errorf("the summary says %q", text)
			}
			if _, err := r.log.Close(audit.End{}); err != nil {
				t.Error(err)
			}
		})
	}
}
