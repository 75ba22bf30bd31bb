// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// fileCopy is a copy of the log in a file that somebody named. What the file holds of an earlier run stays there until the command of
// this one is about to start: a start that fails takes nothing away.
type fileCopy struct {
	*output
	base  string // what was named: the path of the first segment
	moved bool   // the segment that is written has another name now, or none
	kept  bool   // the file still holds what an earlier run wrote
	held  []byte // lines that wait meanwhile
}

// openCopy makes a file that somebody named, or takes it. It waits for nothing (a pipe nobody reads), and takes only what can be a log: a
// regular file with one name, that no other run writes.
func openCopy(path string) (*fileCopy, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR): // open(2)
		return nil, &FileError{path, ErrNotRegular, true}
	case err != nil:
		return nil, &FileError{path, err, true}
	}
	size, err := takeCopy(f)
	if err != nil {
		f.Close()
		return nil, &FileError{path, err, true}
	}
	return &fileCopy{output: &output{path: path, file: f, copy: true}, base: path, kept: size > 0}, nil
}

// takeCopy locks a file, and tells how much it holds.
func takeCopy(f *os.File) (size int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, ErrNotRegular
	}
	if st.Nlink != 1 {
		return 0, ErrLinked
	}
	return st.Size, lock(f)
}

func (c *fileCopy) write(lines []byte) error {
	if c.kept {
		c.held = append(c.held, lines...)
		return nil
	}
	return c.output.write(lines)
}

func (c *fileCopy) begin() error {
	if !c.kept {
		return nil
	}
	if err := c.file.Truncate(0); err != nil {
		return &FileError{c.path, err, true}
	}
	lines := c.held
	c.kept, c.held = false, nil
	return c.output.write(lines)
}

// cut goes on in the file of another segment, or where the one that was written has been moved away, in its place.
func (c *fileCopy) cut(number int) error {
	if c.kept {
		return nil // what is held is one segment's
	}
	path := segmentPath(c.base, number)
	if c.moved {
		path = c.path
	}
	next, err := openCopy(path)
	switch {
	case err != nil:
		return err
	case next.kept && c.moved: // who moves a file away may have put another one there
		next.close()
		return &FileError{path, ErrNotEmpty, true}
	}
	if err := next.begin(); err != nil {
		next.close()
		return err
	}
	old := c.output
	c.output, c.moved = next.output, false
	return errors.Join(old.sync(), old.close())
}

// look compares the file with what its name leads to, as whoever rotates logs moves them away or empties them.
func (c *fileCopy) look() (action string, moved bool) {
	own, err := c.file.Stat()
	if c.kept || err != nil {
		return "", false
	}
	named, err := os.Lstat(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(named, own) {
		c.moved = true
		return ActionSinkReopened, true
	}
	if own.Size() < c.size {
		c.size = own.Size()
		return ActionSinkTruncated, false
	}
	return "", false
}
