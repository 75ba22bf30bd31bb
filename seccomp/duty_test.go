// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"testing"
	"time"
)

func dutyOf(t *testing.T) *duty {
	t.Helper()
	d, err := newDuty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// TestDuty: one worker receives at a time, whatever the order in which workers become slow and are done.
func TestDuty(t *testing.T) {
	d := dutyOf(t)
	workers := make([]*worker, maxWorkers+1)
	for i := range workers {
		workers[i] = &worker{}
	}
	is := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	is("the first", d.relieve(workers[0]), true)
	is("one that waits is relieved", d.relieve(workers[1]), false)
	d.begin()
	is("one that was fast goes on", d.end(workers[0]), true)
	is("one that was fast is relieved", d.relieve(workers[1]), false)
	for i := range maxWorkers - 1 {
		d.begin()
		is("one that decides is relieved", d.relieve(workers[i+1]), true)
	}
	last := workers[maxWorkers-1]
	d.begin()
	is("more than there may be", d.relieve(workers[maxWorkers]), false)
	is("a slow one takes the place of one that could not be relieved", d.end(workers[0]), true)
	is("that one goes on", d.end(last), false)
	is("another slow one goes on", d.end(workers[1]), false)
	d.begin()
	is("there is room again", d.relieve(workers[maxWorkers]), true)
	is("two ended and one came", d.workers == maxWorkers-1, true)
}

// TestDutyTimer: the timer expires for a turn that takes long, not for others, and is set once for all that come meanwhile.
func TestDutyTimer(t *testing.T) {
	d := dutyOf(t)
	w := &worker{}
	d.relieve(w)
	d.begin()
	began := time.Now()
	expired, err := d.expired(-1, -1)
	if err != nil || !expired || time.Since(began) < patience {
		t.Errorf("%v %v after %v, want an expiry after %v", expired, err, time.Since(began), patience)
	}
	for _, c := range []struct {
		what, turns   string // b: one begins, e: one ends
		expires, sets bool
	}{
		{"the turn for which it was set", "b", true, false},
		{"it is done", "e", false, false},
		{"another was begun meanwhile", "beb", false, true},
		{"and takes as long again", "", true, false},
		{"all are done", "ebebe", false, false},
	} {
		for _, step := range c.turns {
			if step == 'b' {
				d.begin()
			} else {
				d.end(w)
			}
		}
		if got := d.takesLong(); got != c.expires || d.armed != c.sets {
			t.Errorf("%s: takes long %v and timer set %v, want %v and %v", c.what, got, d.armed, c.expires, c.sets)
		}
	}
}

// TestDutyWait: the timer is set for longer where nothing takes long, but a second look comes soon after each; and after one that took
// long it is as at the beginning.
func TestDutyWait(t *testing.T) {
	d := dutyOf(t)
	w := &worker{}
	d.relieve(w)
	longest := patience
	for look := range 1000 {
		if got := d.wait(); look%2 == 1 && got != patience || got < longest && look%2 == 0 {
			t.Fatalf("look %d: after %v, and one before after %v", look, got, longest)
		}
		longest = max(longest, d.wait())
		d.begin()
		d.end(w)
		d.takesLong()
	}
	if longest != patience<<maxDoublings {
		t.Errorf("the longest is %v", longest)
	}
	d.begin()
	if !d.takesLong() || d.wait() != patience {
		t.Errorf("after one that took long: %v", d.wait())
	}
}
