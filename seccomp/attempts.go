// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"
	"sync"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// A signal takes a caller away from a notification that has been received, where the listener has no WAIT_KILLABLE_RECV (before Linux
// 5.19). Behind its handler the kernel makes the call once more (SA_RESTART, signal(7)), or the caller does, which sees EINTR. That is one
// attempt, and has one event: attempts knows what is on record of it.

// againTime is how long a call that was not answered may take to come again. What is held of it is on record then.
const againTime = 2 * time.Second

// maxAttempts bounds those that are remembered: one for each thread that waits, or was interrupted in the last againTime.
const maxAttempts = 1 << 13

// maxTold bounds what is remembered of one: with other memory each time, a call that is interrupted for ever has an event each time.
const maxTold = 16

// attempts are the calls on record that have not been answered.
type attempts struct {
	emit     func(audit.Event)
	killable bool // no signal interrupts a caller: none is remembered

	mu sync.Mutex
	of map[uint32]*attempt // by thread, which makes one at a time
}

// attempt is one of them.
type attempt struct {
	call  call
	told  []told
	timer *time.Timer
}

// call is how a call that comes again is known. What it aims at is no part of that: the memory that holds a path may have changed.
type call struct {
	arch uint32
	nr   int32
	ip   uint64
	args [6]uint64
}

// told is an event of an attempt.
type told struct {
	id    uint64 // of the notification that it was last made for
	event audit.Event
	held  bool // not on record yet: its caller was gone before all was read of it
}

func newAttempts(emit func(audit.Event), killable bool) *attempts {
	return &attempts{emit: emit, killable: killable, of: make(map[uint32]*attempt)}
}

// record puts an event on record, unless that was done when the same call came before. An event whose caller waits no more says little of
// the process: it is held until the call comes again, or will not.
func (a *attempts) record(n *notification, e audit.Event, waits bool) {
	if a.killable {
		a.emit(e)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	try := a.attempt(n)
	if try == nil {
		a.emit(e)
		return
	}
	for i := range try.told {
		if t := &try.told[i]; t.id != n.ID && sameEvent(t.event, e) {
			t.id = n.ID
			if t.held && waits {
				t.held = false
				a.emit(e)
			}
			return
		}
	}
	if len(try.told) >= maxTold {
		a.emit(e)
		return
	}
	if !waits && e.Time.IsZero() {
		e.Time = time.Now()
	}
	try.told = append(try.told, told{n.ID, e, !waits})
	if waits {
		a.emit(e)
	}
}

// attempt is that of a notification, nil where there is no room for it.
func (a *attempts) attempt(n *notification) *attempt {
	made := call{n.Arch, n.NR, n.IP, n.Args}
	try := a.of[n.PID]
	if try != nil && try.call == made {
		try.timer.Reset(againTime)
		return try
	}
	if try != nil { // the thread does something else, such as in the handler of the signal
		a.forget(n.PID, try)
	}
	if len(a.of) >= maxAttempts {
		return nil
	}
	try = &attempt{call: made}
	try.timer = time.AfterFunc(againTime, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.of[n.PID] == try {
			a.forget(n.PID, try)
		}
	})
	a.of[n.PID] = try
	return try
}

// settle sends an answer, which ends the attempt of a caller that still waits for it. No other call of that thread's is looked at before.
func (a *attempts) settle(n *notification, send func() error) {
	if a.killable {
		send()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if send() != nil {
		return
	}
	if try := a.of[n.PID]; try != nil && slices.ContainsFunc(try.told, func(t told) bool { return t.id == n.ID }) {
		a.forget(n.PID, try)
	}
}

// forget ends an attempt. What is held of it is on record then.
func (a *attempts) forget(thread uint32, try *attempt) {
	try.timer.Stop()
	delete(a.of, thread)
	for _, t := range try.told {
		if t.held {
			a.emit(t.event)
		}
	}
}

// close ends them all.
func (a *attempts) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for thread, try := range a.of {
		a.forget(thread, try)
	}
}

// sameEvent tells whether two events say the same of an access, and neither that it was another program's.
func sameEvent(a, b audit.Event) bool {
	return a.Class == b.Class && a.Action == b.Action && a.Decision == b.Decision && a.Target == b.Target && a.Errno == b.Errno &&
		(a.Exe == b.Exe || a.Ended || b.Ended)
}
