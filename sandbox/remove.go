// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeTree removes a directory that a command wrote, with all below: directories without permissions, deeper than a path can name, and
// links, of which none is followed. What is at the path may be gone, and what leads to it must be the caller's.
func removeTree(dir string) error {
	parent, err := os.Open(filepath.Dir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return removeAt(parent, filepath.Base(dir))
}

// removeAt removes what a directory has under a name. It holds two directories open at most, however deep the tree is: what is below the
// second level is moved up to the first.
func removeAt(parent *os.File, name string) error {
	err := unlinkAt(parent, name)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EACCES) {
		return err
	}
	top, err := openAt(parent, name)
	if err != nil {
		return err
	}
	defer top.Close()
	number := 0
	err = eachName(top, func(name string) error {
		if err := unlinkAt(top, name); err == nil {
			return nil
		}
		dir, err := openAt(top, name)
		if err != nil {
			return err
		}
		defer dir.Close()
		err = eachName(dir, func(inner string) error {
			if err := unlinkAt(dir, inner); err == nil {
				return nil
			}
			return moveUp(dir, inner, top, &number)
		})
		return errors.Join(err, unlinkAt(top, name))
	})
	return errors.Join(err, unlinkAt(parent, name))
}

// eachName calls f for all names in a directory, which f removes from there, until none is left.
func eachName(dir *os.File, f func(name string) error) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1024)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
	}
}

// unlinkAt removes a file, a link or an empty directory. What is gone is removed.
func unlinkAt(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &os.PathError{Op: "unlinkat", Path: filepath.Join(dir.Name(), name), Err: err}
}

// openAt opens a directory by its name in another, and takes the right to do all in it: by a descriptor, so that nothing else gets the
// mode (a link has none of its own, and chmod(2) follows it).
func openAt(dir *os.File, name string) (*os.File, error) {
	path := filepath.Join(dir.Name(), name)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: path, Err: err}
	}
	defer unix.Close(fd)
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	if err := unix.Chmod(self, 0o700); err != nil {
		return nil, &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	f, err := os.Open(self)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// moveUp moves a directory into one that is higher, under a name that nothing has there.
func moveUp(dir *os.File, name string, top *os.File, number *int) error {
	inner, err := openAt(dir, name) // to be moved, a directory must be writable itself: its ".." changes
	if err != nil {
		return err
	}
	inner.Close()
	for {
		*number++
		err := unix.Renameat2(int(dir.Fd()), name, int(top.Fd()), fmt.Sprintf(".agentjail-%d", *number), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}
