// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strconv"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// TestReceive: all events that came before a message are in the log when it is there, however many came at one time.
func TestReceive(t *testing.T) {
	launcher, supervisor := connected(t)
	_, log := liveRunDir(t, t.TempDir())
	if err := log.Start(nil); err != nil {
		t.Fatal(err)
	}
	r := &Run{conn: launcher, log: log, messages: make(chan wire.Message)}
	go r.receive()
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
	s, err := log.Close(audit.End{})
	if err != nil || s.Denied != events {
		t.Errorf("%d events, %v; want %d", s.Denied, err, events)
	}
	supervisor.Close()
	if m, ok := <-r.messages; ok {
		t.Errorf("%q after the end", m.Kind)
	}
}
