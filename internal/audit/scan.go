// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
)

// LineError says that a line of a log is not one that a recorder wrote.
type LineError struct {
	Line    int // counted from 1
	Problem string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// ErrCutOff is the problem of a last line that does not end: the recorder was killed, or the disk was full.
var ErrCutOff = errors.New("the last line is cut off")

var errTooLong = fmt.Errorf("longer than %d bytes", MaxLine)

// Scan returns the events of a log, or a LineError in the place of a line that is none. It goes on after one; after ErrCutOff
// and after errors of r it does not. It reads no more than it returns, so that r can be a log that is being written.
func Scan(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lines := newLineReader(r)
		for {
			line, err := lines.next()
			var e Event
			switch {
			case errors.Is(err, io.EOF):
				return
			case err == nil:
				e, err = decode(line)
			case !errors.Is(err, errTooLong):
				yield(e, err)
				return
			}
			if err != nil {
				err = &LineError{lines.number, err.Error()}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r      *bufio.Reader
	number int // of the line that next returned
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, MaxLine+1)}
}

// next returns the next line without its newline, valid until the next call. errTooLong is for one line: the one after it
// can be read. A last line without a newline is ErrCutOff; io.EOF comes after whole lines only.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if len(line) > 0 {
		l.number++
	}
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, l.skip()
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, ErrCutOff
	}
	return nil, err
}

// skip reads to the end of a line that is too long.
func (l *lineReader) skip() error {
	for {
		switch _, err := l.r.ReadSlice('\n'); {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			return errTooLong
		default:
			return err
		}
	}
}
