// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func denied(class Class, target string) Event {
	return Event{Time: epoch, Class: class, Action: "open-read", Decision: Deny, Target: target, Errno: "ENOENT"}
}

func TestFoldAfterVerbatim(t *testing.T) {
	f := newFolder()
	e := denied(ClassFile, "/a")
	e.Process = Process{PID: 5, PPID: 4, Exe: "/bin/x", Argv: []string{"x"}}
	written := 0
	for i := range 100 {
		e.Time = epoch.Add(time.Duration(i) * time.Millisecond)
		if f.admit(e, epoch, true) {
			written++
		}
	}
	if written != Verbatim {
		t.Errorf("%d were written, want %d", written, Verbatim)
	}
	events := f.flush(epoch.Add(time.Second), false)
	if len(events) != 1 {
		t.Fatalf("flush gave %d events", len(events))
	}
	got := events[0]
	if got.Count != 100-Verbatim || !got.First.Equal(epoch.Add(Verbatim*time.Millisecond)) || !got.Last.Equal(epoch.Add(99*time.Millisecond)) {
		t.Errorf("count %d from %v to %v", got.Count, got.First, got.Last)
	}
	if got.Target != "/a" || got.PID != 5 || got.Exe != "/bin/x" || got.Argv != nil {
		t.Errorf("the counted event is %+v", got)
	}
	if events := f.flush(epoch.Add(2*time.Second), true); len(events) != 0 {
		t.Errorf("a count was written twice: %+v", events)
	}
	// The key is remembered: it is not written one by one again.
	if f.admit(e, epoch.Add(3*time.Second), true) {
		t.Error("a known key was written again")
	}
}

func TestFoldDropsWhatDiffers(t *testing.T) {
	f := newFolder()
	for pid := 1; pid <= 2; pid++ {
		e := denied(ClassFile, "/a")
		e.PID, e.PPID = pid, 1
		f.admit(e, epoch, false)
	}
	if got := f.flush(epoch, true)[0]; got.PID != 0 || got.PPID != 0 || got.Count != 2 {
		t.Errorf("events of two processes became %+v", got)
	}
}

func TestFoldKeys(t *testing.T) {
	base := denied(ClassFile, "/a")
	changes := map[string]func(*Event){
		"class":    func(e *Event) { e.Class = ClassExec },
		"action":   func(e *Event) { e.Action = "stat" },
		"decision": func(e *Event) { e.Decision = Allow },
		"target":   func(e *Event) { e.Target = "/b" },
		"errno":    func(e *Event) { e.Errno = "EACCES" },
		"exe":      func(e *Event) { e.Exe = "/bin/y" },
	}
	f := newFolder()
	for range Verbatim {
		f.admit(base, epoch, true)
	}
	for name, change := range changes {
		e := base
		change(&e)
		if !f.admit(e, epoch, true) {
			t.Errorf("an event with another %s was counted with the first", name)
		}
	}
	e := base
	e.Reason, e.Argv = "other", []string{"z"}
	if f.admit(e, epoch, true) {
		t.Error("an event with another reason was told apart")
	}
}

func TestFoldWithoutRoom(t *testing.T) {
	f := newFolder()
	if f.admit(denied(ClassFile, "/a"), epoch, false) {
		t.Fatal("written without room")
	}
	events := f.flush(epoch, false)
	if len(events) != 1 || events[0].Count != 1 || events[0].Target != "/a" {
		t.Fatalf("flush gave %+v", events)
	}
}

func TestFoldCallersCount(t *testing.T) {
	f := newFolder()
	e := denied(ClassLimit, "pids")
	e.Count = 7
	f.admit(e, epoch, false)
	f.admit(e, epoch, false)
	if got := f.flush(epoch, true)[0].Count; got != 14 {
		t.Errorf("count %d, want 14", got)
	}
}

// flood sends different events of a class until its budget is used up, and returns how many were sent and written.
func flood(f *folder, class Class, now time.Time, max int) (sent, written int) {
	for ; sent < max; sent++ {
		if f.admit(denied(class, fmt.Sprint("/flood/", sent)), now, true) {
			written++
		}
	}
	return sent, written
}

func TestFoldFloodOfDifferentEvents(t *testing.T) {
	f := newFolder()
	sent, written := flood(f, ClassFile, epoch, 200_000)
	if limit := lineBurst / 400; written > limit || written < maxKeys {
		t.Errorf("%d lines were written at once, want at most %d", written, limit)
	}
	if sh := f.shares[ClassFile]; len(f.entries) > maxKeys || sh.keys > maxKeys || sh.bytes > maxKeyBytes || len(f.dirty) > maxKeys {
		t.Errorf("remembers %d events, %d bytes", len(f.entries), sh.bytes)
	}
	total := uint64(written)
	var overflow, named uint64
	for _, e := range f.flush(epoch, true) {
		total += e.Count
		if e.Action == ActionOverflow {
			overflow += e.Count
			if e.Class != ClassFile || e.Decision != Deny || e.Target != "" {
				t.Errorf("the overflow is %+v", e)
			}
		} else {
			named++
		}
	}
	if total != uint64(sent) {
		t.Errorf("%d events were sent, %d are accounted for", sent, total)
	}
	if overflow == 0 || named == 0 {
		t.Errorf("%d in overflow, %d by name", overflow, named)
	}
}

// TestFoldFloodLeavesOthersAlone is what the shares are for.
// Containment check: Q07.
func TestFoldFloodLeavesOthersAlone(t *testing.T) {
	f := newFolder()
	flood(f, ClassFile, epoch, 200_000)
	if f.admit(denied(ClassFile, "/one/more"), epoch, true) {
		t.Fatal("the flood did not use up the budget of its class")
	}
	if !f.admit(denied(ClassNet, "evil.example:443"), epoch, true) {
		t.Error("a flood of class file pushed out class net")
	}
	secret := denied(ClassFile, "/home/u/.ssh/id_rsa")
	secret.Severity = SeverityCredential
	if !f.admit(secret, epoch, true) {
		t.Error("a flood of class file pushed out a credential")
	}
	if !f.admit(denied(ClassFile, "/later"), epoch.Add(time.Minute), true) {
		t.Error("the budget did not come back")
	}
}

func TestFoldSustainedRate(t *testing.T) {
	f := newFolder()
	flood(f, ClassFile, epoch, 100_000)
	var bytes int
	for second := 1; second <= 20; second++ {
		now := epoch.Add(time.Duration(second) * time.Second)
		for i := range 5000 {
			if e := denied(ClassFile, fmt.Sprint(second, "/", i)); f.admit(e, now, true) {
				bytes += lineCost(e)
			}
		}
		for _, e := range f.flush(now, false) {
			bytes += lineCost(e)
		}
	}
	if limit := 20*lineRate + 20*1000; bytes > limit { // and the overflow lines, which cost nothing
		t.Errorf("%d bytes in 20 seconds, want at most %d", bytes, limit)
	}
}

func TestFoldForgetsTheOldest(t *testing.T) {
	f := newFolder()
	for i := range maxKeys {
		f.admit(denied(ClassFile, fmt.Sprint(i)), epoch, true)
	}
	f.admit(denied(ClassFile, "0"), epoch, true) // seen again: now "1" is the oldest
	f.admit(denied(ClassFile, "new"), epoch, true)
	for target, want := range map[string]bool{"0": true, "1": false, "2": true, "new": true} {
		e := denied(ClassFile, target)
		if _, known := f.entries[foldKey{e.Class, e.Action, e.Decision, e.Target, e.Errno, e.Exe}]; known != want {
			t.Errorf("%s remembered: %v, want %v", target, known, want)
		}
	}
}

func TestFoldBoundsBytes(t *testing.T) {
	f := newFolder()
	for i := range maxKeys {
		f.admit(denied(ClassFile, fmt.Sprint(i, strings.Repeat("x", MaxTarget-10))), epoch, false)
	}
	if sh := f.shares[ClassFile]; sh.bytes > maxKeyBytes || sh.keys > maxKeyBytes/MaxTarget+1 {
		t.Errorf("remembers %d events, %d bytes", sh.keys, sh.bytes)
	}
	var total uint64
	for _, e := range f.flush(epoch, true) {
		total += e.Count
	}
	if total != maxKeys {
		t.Errorf("%d events are accounted for, want %d", total, maxKeys)
	}
}

func TestLineCostIsAboutTheLine(t *testing.T) {
	for name, s := range hostile {
		e := capped(Event{Time: epoch, Class: ClassFile, Action: "stat", Decision: Deny, Target: s, Process: Process{PID: 1, Exe: s, Argv: []string{s}}})
		line := len(newChain("01ARZ3NDEKTSV4RRFFQ69G5FAV").append(nil, e))
		if cost := lineCost(e); cost < line-100 || cost > 3*line+100 {
			t.Errorf("%s: a line of %d bytes costs %d", name, line, cost)
		}
	}
}
