// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"sync"
)

// openedCopy is a copy that takes lines.
type openedCopy struct {
	name string
	sink sink
	lost uint64 // lines that it does not have
}

// openCopies opens the copies of the log, or none.
func (r *Recorder) openCopies() error {
	for _, c := range r.options.Copies {
		s, err := c.open()
		switch {
		case err == nil:
		case !r.options.Continue:
			r.closeCopies()
			return err
		default:
			r.troubles = append(r.troubles, Trouble{Copy: c.String(), Error: err.Error()})
			r.note(ActionSinkFailed, c.String(), err.Error(), mustDetail(sinkDetail{}))
			continue
		}
		r.copies = append(r.copies, &openedCopy{name: c.String(), sink: s})
	}
	return nil
}

// eachCopy calls f for every copy that still works, and gives up those that fail.
func (r *Recorder) eachCopy(f func(*openedCopy) error) {
	good := r.copies[:0]
	for _, c := range r.copies {
		if err := f(c); err != nil {
			r.giveUp(c, err)
			continue
		}
		good = append(good, c)
	}
	r.copies = good
}

// giveUp takes a copy that failed for lost, and puts that on record.
func (r *Recorder) giveUp(c *openedCopy, err error) {
	n, _ := c.sink.missed(true)
	c.lost += n
	c.sink.close()
	r.troubles = append(r.troubles, Trouble{Copy: c.name, Error: err.Error(), Lines: c.lost})
	r.note(ActionSinkFailed, c.name, err.Error(), mustDetail(sinkDetail{n, c.lost}))
	r.fail(err, false)
}

// pollCopies puts on record what the copies did not take. The line that says so goes to them, too.
func (r *Recorder) pollCopies(all bool) {
	r.eachCopy(func(c *openedCopy) error {
		n, err := c.sink.missed(all)
		c.lost += n
		if n > 0 {
			r.note(ActionSinkDropped, c.name, "it takes lines more slowly than they come", mustDetail(sinkDetail{n, c.lost}))
		}
		return err
	})
}

// lookAtCopies puts on record what others did to the copies. A file that is not where it was gets a successor, and so the log another
// segment: then each of them begins with a line that tells what was before.
func (r *Recorder) lookAtCopies() {
	cut := false
	for _, c := range r.copies {
		action, moved := c.sink.look()
		if action != "" {
			r.note(action, c.name, lookReasons[action], nil)
		}
		cut = cut || moved
	}
	if cut && !r.dead && r.gap == nil {
		r.cut()
	}
}

var lookReasons = map[string]string{
	ActionSinkReopened:  "the file was moved or removed: another one was made in its place",
	ActionSinkTruncated: "somebody has shortened the file: lines of it may be missing",
}

// note keeps an event of the writer's own until it writes the next lines.
func (r *Recorder) note(action, target, reason string, detail []byte) {
	r.notes = append(r.notes, capped(Event{
		Class: ClassRun, Action: action, Decision: Report, Target: target, Reason: reason, Detail: detail,
	}))
}

// closeCopies closes the copies, all at once: some wait for their readers. What they miss then is in the summary alone.
func (r *Recorder) closeCopies() error {
	errs := make([]error, len(r.copies))
	var all sync.WaitGroup
	for i, c := range r.copies {
		all.Go(func() { errs[i] = c.sink.close() })
	}
	all.Wait()
	for i, c := range r.copies {
		n, _ := c.sink.missed(true)
		if c.lost += n; c.lost == 0 && errs[i] == nil {
			continue
		}
		trouble := Trouble{Copy: c.name, Lines: c.lost}
		if errs[i] != nil {
			trouble.Error = errs[i].Error()
		}
		r.troubles = append(r.troubles, trouble)
	}
	r.copies = nil
	return errors.Join(errs...)
}
