// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// A report waits laterTicks times laterTick for the kernel to come back within the same system call. That takes microseconds unless
// the machine is overloaded; an attempt is then reported twice rather than never. It is ticks that are counted, so that a machine
// that stands still as a whole, as a suspended virtual one does, is waited for.
const (
	laterTick  = 50 * time.Millisecond
	laterTicks = 4
)

// maxLater bounds the reports that wait. More are made at once.
const maxLater = 4096

// reporter turns denials into events, one for each attempt.
type reporter struct {
	sink     audit.Sink
	host     *host
	ignore   func(int) bool
	severity func(string) string

	mu    sync.Mutex
	later map[uint32]waiting // by thread: a thread is in one call at a time
	timer *time.Timer        // runs while later is not empty
}

// waiting is an event that its thread's next request may make superfluous.
type waiting struct {
	event   audit.Event
	path    string
	through bool // the path is a directory: a request for a name in it goes on with the same walk, if it is of the same call
	call    Call
	ticks   int // that it has waited for
}

func newReporter(c *Config, h *host) *reporter {
	r := &reporter{sink: c.Sink, host: h, ignore: c.Ignore, severity: c.Severity}
	if r.ignore == nil {
		r.ignore = func(int) bool { return false }
	}
	if r.severity == nil {
		r.severity = func(string) string { return "" }
	}
	r.later = make(map[uint32]waiting)
	return r
}

// ignored reports whether requests of a thread make no events.
func (r *reporter) ignored(tid uint32) bool { return tid != 0 && r.ignore(int(tid)) }

// verdict reports what a lookup decided.
func (r *reporter) verdict(tid uint32, q Query, v Verdict) {
	r.settle(tid, q.Path, q.Call, false)
	switch v.When {
	case Now:
		r.sink.Emit(r.event(tid, v.Denial))
	case Later:
		r.postpone(tid, waiting{event: r.event(tid, v.Denial), path: q.Path, through: v.Answer == AnswerThrough, call: q.Call})
	}
}

// denied reports a request that made, changed, opened or listed something, in place of the lookup that led to it.
func (r *reporter) denied(tid uint32, d Denial) {
	r.settle(tid, d.Path, Call{}, true)
	if !r.ignored(tid) {
		r.sink.Emit(r.event(tid, d))
	}
}

// settle ends the wait of what a thread's last lookup left: the event is dropped if the request at path is part of
// the same call, and made otherwise. same says that a request for the very path is. The call may be unknown.
func (r *reporter) settle(tid uint32, path string, call Call, same bool) {
	r.mu.Lock()
	w, ok := r.later[tid]
	delete(r.later, tid)
	r.mu.Unlock()
	switch {
	case !ok:
		return
	case w.through && (below(path, w.path) || same && w.path == path):
		if r.goesOn(tid, w, call) {
			return
		}
	case same && w.path == path: // a name that was missing a moment ago: another call would have looked it up first
		return
	}
	r.sink.Emit(w.event)
}

// goesOn tells whether a thread is in the call that looked a directory up. The next call asks for no more than a name in it
// where it begins at that very directory, which the thread has open. A thread's calls have no number of their own: two with
// the same arguments are told apart by where they begin alone, and that is also where one call is reported twice rather
// than two once.
func (r *reporter) goesOn(tid uint32, w waiting, call Call) bool {
	if !call.Known {
		call = r.host.call(tid)
	}
	return call == w.call && !slices.ContainsFunc(call.starts(), func(dirfd int) bool { return r.host.startsAt(tid, dirfd, w.path) })
}

func (r *reporter) postpone(tid uint32, w waiting) {
	r.mu.Lock()
	full := len(r.later) >= maxLater
	if !full {
		if len(r.later) == 0 {
			r.timer = time.AfterFunc(laterTick, r.tick)
		}
		r.later[tid] = w
	}
	r.mu.Unlock()
	if full {
		r.sink.Emit(w.event)
	}
}

// tick makes the events that waited long enough.
func (r *reporter) tick() {
	var due []audit.Event
	r.mu.Lock()
	for tid, w := range r.later {
		if w.ticks++; w.ticks > laterTicks { // the first tick may be a short one
			due = append(due, w.event)
			delete(r.later, tid)
			continue
		}
		r.later[tid] = w
	}
	if len(r.later) > 0 {
		r.timer = time.AfterFunc(laterTick, r.tick)
	}
	r.mu.Unlock()
	for _, e := range due {
		r.sink.Emit(e)
	}
}

// flush makes all events that wait.
func (r *reporter) flush() {
	r.mu.Lock()
	all := r.later
	r.later = make(map[uint32]waiting)
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	for _, w := range all {
		r.sink.Emit(w.event)
	}
}

func (r *reporter) event(tid uint32, d Denial) audit.Event {
	e := audit.Event{
		Time:       time.Now(),
		Class:      classOf(d.Action),
		Action:     string(d.Action),
		Decision:   audit.Deny,
		Target:     d.Path,
		Rule:       d.Rule,
		Reason:     d.Reason,
		Process:    r.host.process(tid),
		Provenance: audit.FromKernel,
	}
	if d.Errno != 0 {
		e.Errno = unix.ErrnoName(d.Errno)
	}
	if e.Severity = r.severity(d.Path); e.Severity == "" && d.Walk {
		e.Severity = audit.SeverityNoise
	}
	return e
}

func classOf(a Action) audit.Class {
	switch a {
	case ActionExec:
		return audit.ClassExec
	case ActionConnect, ActionBind:
		return audit.ClassUnix
	}
	return audit.ClassFile
}

// bug reports that an answer panicked; the request was answered EIO.
func (r *reporter) bug(panicked any) {
	r.sink.Emit(audit.Event{
		Class:    audit.ClassFile,
		Action:   string(ActionOther),
		Decision: audit.Report,
		Reason:   fmt.Sprintf("bug: denyfs: %.200v", panicked),
	})
}
