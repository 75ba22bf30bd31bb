// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"maps"
	"time"
)

// fail takes note of an error of writing, and keeps the first that is to end the run. log says that it is the log itself that cannot be
// written.
func (r *Recorder) fail(err error, log bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = r.shut || log
	if r.options.Continue && (r.begun || !log) {
		if log && r.gap == nil {
			r.gap = err
			r.troubles = append(r.troubles, Trouble{Error: err.Error()})
		}
		return
	}
	r.dead = r.dead || log
	if r.err == nil {
		r.err = err
		close(r.failed)
	}
}

// check finds out whether the log still has a name: what is written to a file without one is lost.
func (r *Recorder) check() {
	if r.dead || r.gap != nil {
		return
	}
	if err := r.log.check(); err != nil {
		r.fail(err, true)
	}
}

// resume tries to go on with a log that could not be written. Its first line then says what is missing.
func (r *Recorder) resume() {
	if r.gap == nil || r.log.check() != nil || r.header() != nil {
		return
	}
	r.mu.Lock()
	lost := maps.Clone(r.dropped)
	clear(r.dropped)
	r.mu.Unlock()
	e := capped(Event{
		Class: ClassRun, Action: ActionFailed, Decision: Report, Reason: r.gap.Error(), Detail: mustDetail(droppedDetail{lost}),
	})
	r.stamp(&e, time.Now())
	if !r.again(e, lost) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gap, r.shut = nil, false
}

// again writes an event that counts what was lost, or counts it on.
func (r *Recorder) again(e Event, lost map[Class]uint64) bool {
	if r.append(e) == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for class, n := range lost {
		r.dropped[class] += n
	}
	return false
}

// closeOutputs closes all that was written. Its error is what is to end the run, or should have.
func (r *Recorder) closeOutputs() error {
	copies := r.closeCopies()
	if r.options.Continue {
		copies = nil // the summary tells of them
	}
	if err := r.log.close(); err != nil {
		r.fail(err, true)
	}
	if r.first != nil {
		r.first.close() // its lines are with the disk
	}
	return errors.Join(r.Err(), copies)
}
