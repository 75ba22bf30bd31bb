// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// connected are the two ends of a wire.
func connected(t *testing.T) (launcher, supervisor *wire.Conn) {
	t.Helper()
	launcher, file, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { launcher.Close() })
	if supervisor, err = wire.New(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { supervisor.Close() })
	return launcher, supervisor
}

// TestForwardedOrCounted: while the launcher does not read, events are counted by class; none is lost between the two.
func TestForwardedOrCounted(t *testing.T) {
	launcher, conn := connected(t)
	f := newForwarder(conn)
	want := map[audit.Class]uint64{audit.ClassNet: 30_005, audit.ClassFile: 60_000}
	for range 30_000 {
		f.Emit(audit.Event{Class: audit.ClassNet, Action: "udp.send"})
		f.Emit(audit.Event{Class: audit.ClassFile, Action: "stat", Count: 2})
	}
	f.lost(audit.ClassNet, func() uint64 { return 5 })
	f.lost(audit.ClassExec, func() uint64 { return 0 })
	go func() {
		f.flush()
		conn.Send(msgEnded, nil)
	}()
	got, counted := map[audit.Class]uint64{}, map[audit.Class]uint64{}
	for {
		m, err := launcher.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == msgEnded {
			break
		}
		var e audit.Event
		var counts map[audit.Class]uint64
		if m.Kind == msgEvent {
			err = m.Decode(&e)
			got[e.Class] += max(e.Count, 1)
		} else {
			err = m.Decode(&counts)
		}
		if err != nil {
			t.Fatal(err)
		}
		for class, n := range counts {
			got[class] += n
			counted[class] += n
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("arrived or counted %v, want %v", got, want)
	}
	if counted[audit.ClassNet] <= 5 || counted[audit.ClassFile] == 0 {
		t.Errorf("counted %v: the queue was never full", counted)
	}
}

// TestCountsDoNotWait: a count is sent although no event follows.
func TestCountsDoNotWait(t *testing.T) {
	launcher, conn := connected(t)
	newForwarder(conn).lost(audit.ClassNet, func() uint64 { return 7 })
	m, err := launcher.Recv()
	var counts map[audit.Class]uint64
	if err != nil || m.Kind != msgDropped || m.Decode(&counts) != nil || counts[audit.ClassNet] != 7 {
		t.Errorf("got %q %v, %v", m.Kind, counts, err)
	}
}

// TestForwardedAtOnce: an event is with the launcher when Emit returns, unless others wait before it.
func TestForwardedAtOnce(t *testing.T) {
	launcher, conn := connected(t)
	f := &forwarder{conn: conn, queue: make(chan *forwarded, 1), dropped: map[audit.Class]uint64{}} // nobody takes what waits
	for _, action := range []string{"a", "b"} {
		f.Emit(audit.Event{Class: audit.ClassNet, Action: action})
		m, err := launcher.Recv()
		var e audit.Event
		if err != nil || m.Decode(&e) != nil || e.Action != action {
			t.Fatalf("%v %v", e, err)
		}
	}
	f.add(forwarded{})
	f.Emit(audit.Event{Class: audit.ClassNet, Action: "c", Count: 3})
	if f.dropped[audit.ClassNet] != 3 {
		t.Errorf("counted %v: an event overtook one that waits", f.dropped)
	}
}
