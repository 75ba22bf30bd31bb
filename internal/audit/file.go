// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileError says why a file cannot be, or is no longer, a log.
type FileError struct {
	Path string
	Err  error
	Copy bool // it is not the log itself
}

func (e *FileError) Error() string {
	var pe *os.PathError
	if errors.As(e.Err, &pe) {
		return fmt.Sprintf("%s: %s: %v", pe.Op, Printable(e.Path), pe.Err)
	}
	return Printable(e.Path) + ": " + e.Err.Error()
}

func (e *FileError) Unwrap() error { return e.Err }

// Reasons for which an existing file is refused as a copy of the log; errors.Is finds them in a FileError.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrLinked     = errors.New("the file has another name as well (a hard link)")
	ErrInUse      = errors.New("another run writes its log there")
	ErrNotEmpty   = errors.New("another file is in its place, and not empty")
	// ErrRemoved is for a log that somebody removed while it was written.
	ErrRemoved = errors.New("the file was removed")
)

// file is one log file. It is an interface for the sake of disks that fail.
type file interface {
	io.WriteCloser
	Sync() error
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
}

// output is a log file and how much of it is whole lines.
type output struct {
	path string
	file file
	size int64
	copy bool
	// named: its file system counts names. Some in user space say 0 of every file.
	named bool
}

// write appends whole lines. Where the disk takes only a part, the file keeps none of them.
func (o *output) write(lines []byte) error {
	if _, err := o.file.Write(lines); err != nil {
		o.file.Truncate(o.size) // the error that counts is the first
		return &FileError{o.path, err, o.copy}
	}
	o.size += int64(len(lines))
	return nil
}

func (o *output) sync() error {
	if err := o.file.Sync(); err != nil {
		return &FileError{o.path, err, o.copy}
	}
	return nil
}

// check finds out whether the file still has a name.
func (o *output) check() error {
	names, err := namesOf(o.file)
	switch {
	case err != nil:
		return &FileError{o.path, err, o.copy}
	case names == 0 && o.named:
		return &FileError{o.path, ErrRemoved, o.copy}
	}
	return nil
}

// namesOf is how many names (hard links) a file has.
func namesOf(f file) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	return uint64(st.Nlink), nil
}

// missed: a file takes every line, or fails.
func (o *output) missed(bool) (uint64, error) { return 0, nil }

func (o *output) close() error {
	if err := o.file.Close(); err != nil {
		return &FileError{o.path, err, o.copy}
	}
	return nil
}

// createLog makes a new file. It is locked for as long as it is open: see Writing.
func createLog(path string) (*output, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, &FileError{Path: path, Err: err}
	}
	names, err := namesOf(f)
	if err != nil {
		f.Close()
		return nil, &FileError{Path: path, Err: err}
	}
	return &output{path: path, file: f, named: names > 0}, nil
}

// lock takes a lock that other processes can ask about without taking it: an open file description lock (fcntl(2), since
// Linux 3.15). File systems that have none, such as some network ones, do without.
func lock(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrInUse
	}
	return nil
}

// Writing tells whether a Recorder still has the file open.
func Writing(f *os.File) bool {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk)
	return err == nil && lk.Type != unix.F_UNLCK
}

// syncDir asks the disk to keep a new file's name. File systems that cannot do not matter here: the log is there until the
// machine loses power.
func syncDir(path string) {
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync()
		dir.Close()
	}
}
