// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"io"

	"golang.org/x/sys/unix"
)

// openAgain opens standard files by their paths, and puts them in the place of those that are there. It must find the same files.
func openAgain(paths [3]string) *Error {
	for fd, path := range paths {
		if path == "" {
			continue
		}
		if err := replace(fd, path); err != nil {
			return &Error{Step: StepFiles, Errno: errnoOf(err), Detail: path}
		}
	}
	return nil
}

func replace(fd int, path string) error {
	again, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(again)
	var was, is unix.Stat_t
	if err := unix.Fstat(fd, &was); err != nil {
		return err
	}
	if err := unix.Fstat(again, &is); err != nil {
		return err
	}
	if was.Dev != is.Dev || was.Ino != is.Ino {
		return unix.ESTALE // another file has its name by now
	}
	offset, err := unix.Seek(fd, 0, io.SeekCurrent)
	if err == nil {
		_, err = unix.Seek(again, offset, io.SeekStart)
	}
	if err != nil {
		return err
	}
	return unix.Dup3(again, fd, 0)
}
