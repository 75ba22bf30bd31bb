// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"
)

// Bounds of what waits for the writer. Ordinary events leave a quarter free for credentials, limits and the run's own.
const (
	maxQueue      = 8192
	maxQueueBytes = 4 << 20
)

// flushInterval is how often counted events are written.
const flushInterval = time.Second

// headInterval is how often the head of a run that goes on is signed. The first time is at the first flush.
const headInterval = time.Minute

// Options say where a log goes.
type Options struct {
	Path   string // must not exist; its directory must
	Copies []Copy // get the lines as well
	Run    string // id of the run, in every line
	Key    string // file of the key that signs the log, made where there is none; empty: the log is not signed
	Owner  int    // user id that the key's file must have
	// MaxSize is how large a segment may become before another is begun: see segmentPath. A segment has one line at least, and some more
	// where they are written at once.
	MaxSize int64
	// Redact takes secrets out of a command line before it is hashed and written, and tells how many there were. Where it is nil, command
	// lines are written as they are.
	Redact func(args []string) (clean []string, n int)
	// Fix finds the flag that would allow what an event says was denied, where the event does not name one: "" for none. Nil finds none.
	// Emit takes as long as it does.
	Fix func(Event) string
	// Continue: an error of writing does not end the run; that of a copy never, and that of the log itself not after the first Flush.
	// What is missing is on record as soon as there is room for it, and in the summary.
	Continue bool
}

// End is what the caller knows about the end of a run.
type End struct {
	Status int    // exit code
	Reason string // why the run ended, where the command itself was not the reason
}

// Recorder writes the log of one run. Its methods are safe for concurrent use.
type Recorder struct {
	options Options
	opened  time.Time

	startOnce sync.Once
	closeOnce sync.Once
	summary   Summary // of Close
	closeErr  error

	wake    chan struct{} // events wait
	flushes chan chan struct{}
	closing chan End
	done    chan struct{} // the writer has ended
	failed  chan struct{} // closed with the first write error

	mu         sync.Mutex
	queue      []Event
	waiting    int // events in the queue or with the writer
	waitBytes  int
	folder     *folder
	tally      tally
	dropped    map[Class]uint64 // since the last events.dropped
	allDropped uint64
	err        error // first write error
	shut       bool  // what comes is counted as dropped
	begun      bool  // Flush has returned without an error

	// Of the writer, and of Start before there is one.
	log       *output // its last segment
	first     *output // its first one, which is kept open: the lock says that the log is written
	segment   int     // number of the last one
	headerDue bool    // which has no log.segment yet
	copies    []*openedCopy
	chain     *chain
	head      string // hash of the last line that is written
	lines     uint64
	synced    uint64 // lines that the disk was asked to keep
	dead      bool   // the log cannot be written
	gap       error  // why it cannot for now, where the run goes on
	signed    uint64 // lines up to the last log.head
	signAt    time.Time
	// What the copies did, and what of it is to be written yet.
	troubles []Trouble
	notes    []Event
}

// Open makes the log files. Nothing is written before Start.
func Open(o Options) (*Recorder, error) {
	if o.Run == "" || len(o.Run) > maxWord || Printable(o.Run) != o.Run {
		return nil, fmt.Errorf("run id %q cannot be one", o.Run)
	}
	r := &Recorder{
		options: o, opened: time.Now(), folder: newFolder(), chain: newChain(o.Run), head: firstPrev, segment: 1,
		dropped: make(map[Class]uint64),
		wake:    make(chan struct{}, 1), flushes: make(chan chan struct{}), closing: make(chan End),
		done: make(chan struct{}), failed: make(chan struct{}),
	}
	r.chain.redact = o.Redact
	var err error
	if r.log, err = createLog(o.Path); err != nil {
		return nil, err
	}
	if err := r.openCopies(); err != nil {
		r.log.close()
		os.Remove(o.Path) // made here a moment ago, and empty
		return nil, err
	}
	return r, nil
}

// Start writes run.start, and returns when the kernel has it and there is a key to sign with. What Emit got before comes after
// it. It is called once.
func (r *Recorder) Start(detail map[string]any) error {
	err := errors.New("audit: the log has been started")
	r.startOnce.Do(func() { err = r.begin(detail) })
	return err
}

func (r *Recorder) begin(detail map[string]any) error {
	body, missing := startBody(detail)
	e := Event{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: body, Truncated: missing}
	r.stamp(&e, time.Now())
	r.write([]Event{e})
	r.chain.policy = policyDigest(body)
	err := r.Err()
	if r.options.Key != "" && err == nil {
		r.chain.key, err = openKey(r.options.Key, r.options.Owner)
	}
	go r.writer()
	return err
}

// Emit records an event. But for Options.Fix it never blocks: the event is queued, or counted, when it returns.
func (r *Recorder) Emit(e Event) {
	e = r.options.withFix(capped(e))
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.stamp(&e, now)
	r.tally.add(e)
	if r.shut {
		r.drop(e.Class, weight(e))
		return
	}
	room := r.room(e)
	switch {
	case foldable(e):
		if !r.folder.admit(e, now, room) {
			return
		}
	case !room:
		r.drop(e.Class, weight(e))
		return
	}
	r.queue = append(r.queue, e)
	r.waiting++
	r.waitBytes += entrySize(e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// room tells whether an event finds a place in the queue.
func (r *Recorder) room(e Event) bool {
	count, bytes := maxQueue, maxQueueBytes
	if foldable(e) && e.Class != ClassLimit && e.Severity != SeverityCredential {
		count, bytes = count*3/4, bytes*3/4
	}
	return r.waiting < count && r.waitBytes+entrySize(e) <= bytes
}

// Dropped counts accesses that there is no event of: lost on the way to Emit, or before anybody saw more than their number.
func (r *Recorder) Dropped(counts map[Class]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for class, n := range counts {
		r.drop(class, n)
	}
}

func (r *Recorder) drop(class Class, n uint64) {
	r.dropped[class] += n
	r.allDropped += n
}

// stamp gives an event its times, in the form in which they are written.
func (r *Recorder) stamp(e *Event, now time.Time) {
	e.Mono = now.Sub(r.opened)
	if !writable(e.Time) {
		e.Time = now
	}
	e.Time = e.Time.UTC()
	for _, t := range []**time.Time{&e.First, &e.Last} {
		if *t == nil {
			continue
		}
		utc := (*t).UTC()
		if *t = &utc; !writable(utc) {
			*t = nil
		}
	}
}

// writable tells whether a time has a text form and is not the zero time.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

// Flush returns when the kernel has every event that Emit queued before, or the error that keeps it from having them. It is
// called between Start and Close, first when the command is about to start: copies in files that hold something are overwritten then.
func (r *Recorder) Flush() error {
	flushed := make(chan struct{})
	r.flushes <- flushed
	<-flushed
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = r.begun || r.err == nil
	return r.err
}

// Failed is closed when the log, or a copy of it, can no longer be written, and that is to end the run. Err then says why.
func (r *Recorder) Failed() <-chan struct{} { return r.failed }

// Err is the first error of writing. Events that come after one are counted as dropped.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close writes all that waits, then run.end, and returns when the kernel has them. Events that come later are lost. The
// error is the first that the log ever had; the summary is good in any case. Another Close returns the same.
func (r *Recorder) Close(end End) (Summary, error) {
	r.startOnce.Do(func() { r.begin(nil) }) // an error of it is kept in r.err
	r.closeOnce.Do(func() {
		r.closing <- end
		<-r.done
	})
	return r.summary, r.closeErr
}

// writer writes what is queued, until Close.
func (r *Recorder) writer() {
	defer close(r.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.wake:
			r.drain(false)
		case flushed := <-r.flushes:
			r.drain(false)
			r.eachCopy(func(c *openedCopy) error { return c.sink.begin() })
			close(flushed)
		case now := <-tick.C:
			r.drain(true)
			r.signHead(now)
			r.sync()
		case end := <-r.closing:
			r.finish(end)
			return
		}
	}
}

// drain writes what is queued, and what is counted if flush says so.
func (r *Recorder) drain(flush bool) {
	if flush {
		r.resume()
		r.pollCopies(false)
		r.lookAtCopies()
	}
	r.mu.Lock()
	batch := r.take()
	if flush {
		batch = append(batch, r.counted(false)...)
	}
	count, bytes := r.waiting, r.waitBytes
	r.mu.Unlock()
	r.write(batch)
	r.mu.Lock()
	r.waiting -= count
	r.waitBytes -= bytes
	r.mu.Unlock()
}

// take empties the queue, and the notes.
func (r *Recorder) take() []Event {
	batch := r.queue
	r.queue = nil
	for _, e := range r.notes {
		r.stamp(&e, time.Now())
		batch = append(batch, e)
	}
	r.notes = nil
	return batch
}

// counted returns the events that stand for others: counted ones, and dropped ones.
func (r *Recorder) counted(all bool) []Event {
	now := time.Now()
	events := r.folder.flush(now, all)
	if len(r.dropped) > 0 && !r.shut {
		events = append(events, Event{
			Class: ClassRun, Action: ActionDropped, Decision: Report, Reason: "these events are not in the log",
			Detail: mustDetail(droppedDetail{maps.Clone(r.dropped)}),
		})
		clear(r.dropped)
	}
	for i := range events {
		r.stamp(&events[i], now)
	}
	return events
}

// signHead writes a log.head, where it is time for one and there is something new to sign.
func (r *Recorder) signHead(now time.Time) {
	if r.chain.key == nil || r.lines == r.signed || now.Before(r.signAt) {
		return
	}
	r.writeOwn(r.own(ActionHead, r.chain.headDetail()))
	r.signed, r.signAt = r.lines, now.Add(headInterval)
}

// finish writes all that is left and run.end.
func (r *Recorder) finish(end End) {
	r.check()
	r.resume()
	r.pollCopies(true)
	r.mu.Lock()
	batch := append(r.take(), r.counted(true)...)
	dropped := r.allDropped
	r.shut = true
	r.mu.Unlock()
	r.write(batch)
	e := r.own(ActionEnd, r.chain.endDetail(end.Status, dropped))
	e.Reason = cut(end.Reason, MaxText)
	r.writeOwn(e)
	if time.Since(r.opened) >= flushInterval {
		r.sync()
	}
	err := r.closeOutputs()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeErr = err
	r.summary = Summary{
		Run: r.options.Run, Status: end.Status, Reason: end.Reason, Lines: r.lines, Counts: r.chain.counts, Denied: r.tally.denied,
		Noise: r.tally.noise, Dropped: r.allDropped, Top: r.tally.top(), More: r.tally.more,
		Unreached: r.tally.failures, Unaccepted: r.tally.unaccepted, Unpublished: r.tally.unpublished, Head: r.head, Troubles: r.troubles,
	}
}
