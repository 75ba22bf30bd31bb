// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"time"
)

// writeSize is about how much is written at once.
const writeSize = 64 << 10

// write appends events to the log and its copies. Those that the log itself does not take are counted as dropped.
func (r *Recorder) write(events []Event) {
	var buf []byte
	for len(events) > 0 && !r.dead && r.gap == nil {
		if r.log.size >= r.maxSize() {
			r.cut()
			continue
		}
		n := 0
		for buf = buf[:0]; n < len(events) && len(buf) < writeSize; n++ {
			buf = r.chain.append(buf, events[n])
		}
		if err := r.log.write(buf); err != nil {
			whole := r.salvage(&buf)
			r.chain.back(r.lines, r.head, events[whole:n])
			n = whole
			r.fail(err, true)
		} else {
			r.head, r.lines = r.chain.prev, r.chain.seq
		}
		r.eachCopy(func(c *openedCopy) error { return c.sink.write(buf) })
		events = events[n:]
	}
	r.lose(events)
}

// salvage writes as many of the lines as fit, after they did not fit together, and leaves those in buf.
func (r *Recorder) salvage(buf *[]byte) (lines int) {
	size := 0
	for line := range bytes.Lines(*buf) {
		if r.log.write(line) != nil {
			break
		}
		r.head = hashLine(line[:len(line)-1])
		r.lines++
		lines++
		size += len(line)
	}
	*buf = (*buf)[:size]
	return lines
}

// sync asks the disk to keep what is written since it was last asked. It costs more than the whole start of a run on many
// disks, so that it is done once a second and at the end of what took longer: against the death of every process of a run the
// kernel keeps what was written, and against a power cut nobody relies on the log of a run that it ended.
func (r *Recorder) sync() {
	r.check()
	if r.dead || r.gap != nil || r.synced == r.lines {
		return
	}
	if r.synced == 0 {
		syncDir(r.log.path)
	}
	r.synced = r.lines
	if err := r.log.sync(); err != nil {
		r.fail(err, true)
	}
	r.eachCopy(func(c *openedCopy) error { return c.sink.sync() })
}

func (r *Recorder) lose(events []Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if e.Action != ActionStart && !signable(e) { // a log without them says so by itself
			r.drop(e.Class, weight(e))
		}
	}
}

// own is an event of the recorder's own.
func (r *Recorder) own(action string, detail any) Event {
	e := Event{Class: ClassRun, Action: action, Decision: Report, Detail: mustDetail(detail)}
	r.stamp(&e, time.Now())
	return e
}

// writeOwn writes an event that tells of the lines before it, where the log can be written.
func (r *Recorder) writeOwn(e Event) {
	if r.dead || r.gap != nil {
		return
	}
	if err := r.append(e); err != nil {
		r.fail(err, true)
	}
}

// append writes one event of the recorder's own to the log and its copies. An error leaves the log as it was.
func (r *Recorder) append(e Event) error {
	line := r.chain.append(nil, e)
	if err := r.log.write(line); err != nil {
		r.chain.back(r.lines, r.head, []Event{e})
		return err
	}
	r.head, r.lines = r.chain.prev, r.chain.seq
	r.eachCopy(func(c *openedCopy) error { return c.sink.write(line) })
	return nil
}
