// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Copy is a place beside the log that gets its lines. One field is set.
type Copy struct {
	File   string   // a regular file, made or overwritten
	Stream *os.File // open for writing; the Recorder closes it
	Shared *os.File // open for writing, for others, too; it stays open
	Syslog string   // the socket of a syslog daemon, such as /dev/log
	OTLP   *Collector
}

// String names the copy, as errors and events do.
func (c Copy) String() string {
	switch {
	case c.Stream != nil:
		return c.Stream.Name()
	case c.Shared != nil:
		return c.Shared.Name()
	case c.Syslog != "":
		return "syslog " + c.Syslog
	case c.OTLP != nil:
		return c.OTLP.String()
	}
	return c.File
}

// open makes the copy ready to take lines.
func (c Copy) open() (sink, error) {
	switch {
	case c.Stream != nil:
		return newQueue(c.Stream.Name(), stream{file: c.Stream}), nil
	case c.Shared != nil:
		return openShared(c.Shared)
	case c.Syslog != "":
		return openSyslog(c.Syslog)
	case c.OTLP != nil:
		return openCollector(*c.OTLP)
	}
	return openCopy(c.File)
}

// sink is a copy that is open. The recorder's writer alone calls it.
type sink interface {
	// write takes whole lines, and waits for no reader. After an error the sink takes none any more.
	write(lines []byte) error
	// begin is called when the command is about to start.
	begin() error
	// cut is called where a segment of the log ends and another begins, of that number. Streams go on as they are.
	cut(number int) error
	// look finds out what others did to the copy. What is to be on record about it has an action; moved asks for a cut.
	look() (action string, moved bool)
	// missed returns how many lines the sink did not take since it last said so, and why it takes none any more. Unless all is
	// asked for it says nothing while it is full: what tells of the loss would be lost as well.
	missed(all bool) (lines uint64, err error)
	sync() error
	close() error
}

// SinkError says why a copy of the log that is not a file cannot be, or is no longer, written.
type SinkError struct {
	Sink string
	Err  error
}

func (e *SinkError) Error() string { return Printable(e.Sink) + ": " + e.Err.Error() }
func (e *SinkError) Unwrap() error { return e.Err }

// Bounds of a queue: how many bytes of lines wait for the reader, and how long the end of a run does.
const (
	maxPending = 4 << 20
	closeWait  = 5 * time.Second
)

// carrier brings lines to a reader that may be slow, or stand still.
type carrier interface {
	// send returns when the reader has the lines, or ctx has ended. It tells how many the reader does not have; after an error the
	// reader gets no more.
	send(ctx context.Context, lines []byte) (lost uint64, err error)
	close() error
}

// queue is a sink of a carrier: it keeps the carrier's reader from holding up the log, and counts what it has no room for.
type queue struct {
	name    string
	carrier carrier
	stop    context.CancelFunc
	done    chan struct{} // the carrier is closed

	mu      sync.Mutex
	changed sync.Cond // of mu: lines came, or the end
	pending []byte    // lines that wait
	sending uint64    // lines that the carrier has
	lost    uint64    // lines since missed last told
	err     error
	closed  bool
}

func newQueue(name string, c carrier) *queue {
	ctx, stop := context.WithCancel(context.Background())
	q := &queue{name: name, carrier: c, stop: stop, done: make(chan struct{})}
	q.changed.L = &q.mu
	go q.deliver(ctx)
	return q
}

func (q *queue) write(lines []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	for line := range bytes.Lines(lines) {
		if len(q.pending)+len(line) > maxPending {
			q.lost++
			continue
		}
		q.pending = append(q.pending, line...)
	}
	q.changed.Signal()
	return nil
}

func (q *queue) missed(all bool) (uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !all && len(q.pending) > maxPending/2 {
		return 0, q.err
	}
	n := q.lost
	q.lost = 0
	return n, q.err
}

func (q *queue) begin() error         { return nil }
func (q *queue) cut(int) error        { return nil }
func (q *queue) look() (string, bool) { return "", false }
func (q *queue) sync() error          { return nil }

// close waits for the reader to take what waits, for closeWait at most.
func (q *queue) close() error {
	q.mu.Lock()
	q.closed = true
	q.changed.Signal()
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-time.After(closeWait):
		q.stop() // where it waits in a system call it stays there: a write to a pipe that is full
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += q.sending + countLines(q.pending)
	q.pending, q.sending = nil, 0
	return q.err
}

// deliver hands lines to the carrier, up to the end.
func (q *queue) deliver(ctx context.Context) {
	defer close(q.done)
	for {
		lines := q.next()
		if lines == nil {
			break
		}
		lost, err := q.carrier.send(ctx, lines)
		if !q.sent(lost, err) {
			break
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.carrier.close(); err != nil && q.err == nil {
		q.err = &SinkError{q.name, err}
	}
}

// next waits for lines. It returns nil when there will be none.
func (q *queue) next() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.pending) == 0 && !q.closed {
		q.changed.Wait()
	}
	lines := q.pending
	q.pending, q.sending = nil, countLines(lines)
	return lines
}

// sent takes note of what became of the lines, and tells whether there may be more.
func (q *queue) sent(lost uint64, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sending == 0 {
		return false // close did not wait any longer, and has counted them
	}
	q.sending = 0
	q.lost += lost
	if err != nil {
		q.err = &SinkError{q.name, err}
		q.lost += countLines(q.pending)
		q.pending = nil
	}
	return err == nil
}

func countLines(lines []byte) uint64 { return uint64(bytes.Count(lines, []byte("\n"))) }

// stream writes lines to an open file.
type stream struct {
	file   *os.File
	shared bool // others write there, too
}

// openShared makes a sink of a file that others write to. It has a descriptor of its own: the Go runtime ends a program that writes to a
// pipe without a reader by number 1 or 2.
func openShared(f *os.File) (sink, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return nil, &SinkError{f.Name(), err}
	}
	return newQueue(f.Name(), stream{os.NewFile(uintptr(fd), f.Name()), true}), nil
}

func (s stream) send(ctx context.Context, lines []byte) (uint64, error) {
	if s.shared {
		// Somebody may have written a part of a line, to which the first of these would be an end that nobody takes for one.
		lines = append([]byte("\n"), lines...)
	}
	// Where it is possible, which it is not for a file that the caller has opened to block.
	defer context.AfterFunc(ctx, func() { s.file.SetWriteDeadline(time.Now()) })()
	n, err := s.file.Write(lines)
	if ctx.Err() != nil {
		err = nil // the reader is slow, and has not failed
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the name is the sink's
	}
	lost := countLines(lines[n:])
	if s.shared && n == 0 {
		lost-- // the one that was put before them
	}
	return lost, err
}

func (s stream) close() error {
	if err := s.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
