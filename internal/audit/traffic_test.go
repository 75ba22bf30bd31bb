// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

func closedConn(target, addr string, sent uint64) Event {
	return Event{
		Time: epoch, Class: ClassNet, Action: "tcp.close", Decision: Report, Target: target,
		Traffic: &Traffic{Address: netip.MustParseAddrPort(addr), Sent: sent, Received: 2 * sent, Duration: 3},
	}
}

func TestTrafficLine(t *testing.T) {
	e := closedConn("a.test:443", "[2001:db8::1]:443", 7)
	e.Seq, e.Run, e.Prev = 1, "R", firstPrev
	line, err := e.MarshalJSON()
	want := `{"seq":1,"time":"2026-01-01T00:00:00Z","mono":0,"run":"R","class":"net","action":"tcp.close","decision":"report","target":"a.test:443",` +
		`"traffic":{"address":"[2001:db8::1]:443","bytes_sent":7,"bytes_received":14,"duration_ms":3},"prev":"` + firstPrev + `"}`
	if err != nil || string(line) != want {
		t.Fatalf("line is\n%s, want\n%s (%v)", line, want, err)
	}
	if got, err := decode(line); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("decode gave %+v (%v)", got, err)
	}
}

// TestFoldSumsTraffic: what is counted instead of written loses no byte, and nobody's event is changed.
func TestFoldSumsTraffic(t *testing.T) {
	f := newFolder()
	e := closedConn("a.test:443", "192.0.2.1:443", 5)
	for range Verbatim {
		f.admit(e, epoch, true)
	}
	for range 10 {
		if f.admit(e, epoch, true) {
			t.Fatal("written, not counted")
		}
	}
	want := Traffic{netip.MustParseAddrPort("192.0.2.1:443"), 50, 100, 30}
	if got := f.flush(epoch, true); len(got) != 1 || got[0].Count != 10 || *got[0].Traffic != want {
		t.Errorf("counted: %+v", got)
	}
	other := closedConn("a.test:443", "192.0.2.2:443", 1)
	other.Reason = "the connection was reset"
	f.admit(e, epoch, true)
	f.admit(other, epoch, true)
	want = Traffic{netip.AddrPort{}, 6, 12, 6}
	if got := f.flush(epoch, true)[0]; *got.Traffic != want || got.Reason != "" {
		t.Errorf("two addresses became %+v", got)
	}
	f.admit(other, epoch, true)
	f.admit(other, epoch, true)
	if got := f.flush(epoch, true)[0]; got.Reason != other.Reason {
		t.Errorf("the reason of all that are counted is %q", got.Reason)
	}
	if e.Traffic.Sent != 5 || other.Traffic.Sent != 1 {
		t.Error("an event was changed")
	}
}

// TestForgottenEndsFreeTheirRoom: whatever reason the counted ones had.
func TestForgottenEndsFreeTheirRoom(t *testing.T) {
	f := newFolder()
	for i := range 3 * maxKeys {
		e := closedConn(fmt.Sprint(i, ".test:443"), "192.0.2.1:443", 1)
		if i%2 == 0 {
			e.Reason = "the connection was reset"
		}
		f.admit(e, epoch, true)
		e.Reason = "the run was over"
		f.admit(e, epoch, false)
		f.flush(epoch, true)
	}
	sh, held := f.shares[shareTraffic], 0
	for _, en := range f.entries {
		held += en.size
	}
	if sh.keys != len(f.entries) || sh.bytes != held {
		t.Errorf("%d entries of %d bytes take the room of %d and %d", len(f.entries), held, sh.keys, sh.bytes)
	}
}

// TestFloodOfEndsLeavesDenialsAlone: connections to ever new hosts take no place that a denial needs, and their bytes stay exact.
// Containment check: Q07.
func TestFloodOfEndsLeavesDenialsAlone(t *testing.T) {
	f := newFolder()
	var sent, told uint64
	for i := range 200_000 {
		sent++
		if e := closedConn(fmt.Sprint(i, ".test:443"), "192.0.2.1:443", 1); f.admit(e, epoch, true) {
			told += e.Traffic.Sent
		}
	}
	if f.admit(closedConn("one.more.test:443", "192.0.2.1:443", 0), epoch, true) {
		t.Fatal("the flood did not use up the budget")
	}
	if !f.admit(denied(ClassNet, "evil.example:443"), epoch, true) {
		t.Error("a flood of ends pushed out a denial")
	}
	for _, e := range f.flush(epoch, true) {
		told += e.Traffic.Sent
	}
	if told != sent {
		t.Errorf("%d bytes were sent, the log has %d", sent, told)
	}
}
