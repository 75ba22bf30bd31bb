// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Reader reads a log across its segments, from the one that is opened on: a segment whose last line is log.next is followed by the one that
// the line names, where that lies beside it and is not another run's. It can be read on where it has ended, while the log is written.
type Reader struct {
	file   *os.File
	offset int64 // of what was read of the file
	looked int64 // its size when its last line was looked at
	// The run and the number of the segment, as the one before it says; empty of the one that was opened.
	run    string
	number int
}

// OpenReader opens a log, or a segment of one. A pipe has no more than what comes out of it.
func OpenReader(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.IsDir() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", Printable(path)))
	}
	return &Reader{file: f}, nil
}

// openSegment opens what must be a regular file.
func openSegment(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is %w", Printable(path), ErrNotRegular))
	}
	return f, nil
}

// Name is the path of the segment that is read.
func (r *Reader) Name() string { return r.file.Name() }

// Writing tells whether a Recorder has that segment open.
func (r *Reader) Writing() bool { return Writing(r.file) }

// Close closes it.
func (r *Reader) Close() error { return r.file.Close() }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		n, err := r.file.Read(p)
		r.offset += int64(n)
		if n > 0 {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		next, err := r.next()
		if err != nil {
			return 0, err
		}
		r.file.Close()
		*r = *next
	}
}

// next opens the segment that follows, where all of this one has been read. io.EOF says that there is none.
func (r *Reader) next() (*Reader, error) {
	st, err := r.file.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() != r.offset || r.looked == r.offset {
		return nil, io.EOF // or there is more to read by now
	}
	r.looked = r.offset
	last, err := lastEvent(r.file, r.offset)
	if err != nil {
		return nil, err
	}
	number := NextSegment(last)
	if number == 0 {
		return nil, io.EOF
	}
	next, err := openSegment(followingPath(r.file.Name(), number))
	if err == nil && ofAnotherRun(next, last.Run) {
		next.Close()
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.looked = 0
		return nil, io.EOF
	}
	if err != nil {
		return nil, err
	}
	return &Reader{file: next, run: last.Run, number: number}, nil
}

// ofAnotherRun tells whether a file is what another run has left in the place of a segment. A copy of a log overwrites it, when it gets
// there. Of what is no log, or of this run, Verify says whether it fits.
func ofAnotherRun(f *os.File, run string) bool {
	first, err := firstEvent(f)
	return err == nil && first.Run != "" && first.Run != run
}

// firstEvent is the event of the first line of a file, the zero Event where there is none. It does not move the file's offset.
func firstEvent(f *os.File) (first Event, err error) {
	for e, err := range Scan(io.NewSectionReader(f, 0, MaxLine+1)) {
		return e, err
	}
	return first, nil
}

// Later is the number of the first segment of this log that lies beside the one where the log has ended, and to which nothing leads from
// there: a part between them is missing. 0: there is none. A Recorder ends a segment before it writes to the next.
func (r *Reader) Later() (int, error) {
	if st, err := r.file.Stat(); err != nil || !st.Mode().IsRegular() {
		return 0, err
	}
	run, own := r.run, r.number
	if own == 0 {
		first, err := firstEvent(r.file)
		if err != nil {
			return 0, nil // no log, which is not for this to say
		}
		run, own = first.Run, max(1, segmentNumber(first))
	}
	base := basePath(r.file.Name(), own)
	dir, err := os.ReadDir(filepath.Dir(base))
	if err != nil {
		return 0, err
	}
	later := 0
	for _, entry := range dir {
		path := filepath.Join(filepath.Dir(base), entry.Name())
		n := numberedPath(filepath.Clean(base), path)
		if n > own && (later == 0 || n < later) && isSegment(path, run, n) {
			later = n
		}
	}
	if st, err := r.file.Stat(); err != nil || st.Size() != r.offset {
		return 0, err // it has gone on meanwhile, and may lead there now
	}
	return later, nil
}

// NextSegment is the number of the segment in which a log goes on behind a log.next; 0 behind any other event.
func NextSegment(last Event) int { return numberIn(last, ActionNext) }

// isSegment tells whether a file begins as that segment of a run's log.
func isSegment(path, run string, number int) bool {
	f, err := openSegment(path)
	if err != nil {
		return false
	}
	defer f.Close()
	first, err := firstEvent(f)
	return err == nil && first.Run == run && segmentNumber(first) == number
}

// segmentNumber is the number of the segment that an event begins; 0 where it begins none.
func segmentNumber(first Event) int { return numberIn(first, ActionSegment) }

func numberIn(e Event, action string) int {
	d, err := segmentOf(e)
	if err != nil || e.Class != ClassRun || e.Action != action {
		return 0
	}
	return d.Segment
}

// tailSize is how much of the end of a log is read to find its last line. The lines that end a segment and a log are much shorter.
const tailSize = 64 << 10

// lastEvent is the event of the last whole line of a file of that size, the zero Event where there is none.
func lastEvent(f *os.File, size int64) (last Event, err error) {
	tail := make([]byte, min(size, tailSize))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return last, err
	}
	tail = tail[:bytes.LastIndexByte(tail, '\n')+1]
	if len(tail) > 0 {
		tail = tail[bytes.LastIndexByte(tail[:len(tail)-1], '\n')+1:]
	}
	for e, err := range Scan(bytes.NewReader(tail)) {
		if err == nil {
			last = e
		}
	}
	return last, nil
}

// Ends returns the first event of a log, and the last whole one of its last segment.
func Ends(path string) (first, last Event, err error) {
	f, err := openSegment(path)
	if err != nil {
		return first, last, err
	}
	defer func() { f.Close() }()
	if first, err = firstEvent(f); err != nil {
		return first, last, err
	}
	for {
		st, err := f.Stat()
		if err != nil {
			return first, last, err
		}
		r := Reader{file: f, offset: st.Size()}
		if last, err = lastEvent(f, st.Size()); err != nil {
			return first, last, err
		}
		next, err := r.next()
		if errors.Is(err, io.EOF) {
			return first, last, nil
		}
		if err != nil {
			return first, last, err
		}
		f.Close()
		f = next.file
	}
}
