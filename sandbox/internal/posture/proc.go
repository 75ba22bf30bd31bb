// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxFile bounds a file. A mountinfo of 3,000 mounts is 0.4 MiB.
const maxFile = 8 << 20

// procDir is the directory of a process or thread in procfs, and the memory that its files are read into. It makes plain
// system calls: package os asks the poller about each file first, and a start waits for the reading of some twenty.
type procDir struct {
	fd  int
	buf []byte
}

func openProc(name string) (*procDir, error) {
	fd, err := retry(func() (int, error) { return unix.Open("/proc/"+name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	return &procDir{fd: fd, buf: make([]byte, 16<<10)}, nil
}

func (d *procDir) close() { unix.Close(d.fd) }

func (d *procDir) open(name string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0) })
}

// text reads a file.
func (d *procDir) text(name string) (string, error) {
	fd, err := d.open(name, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	for n := 0; ; {
		if n == len(d.buf) {
			d.buf = append(d.buf, make([]byte, n)...)
		}
		m, err := retry(func() (int, error) { return unix.Read(fd, d.buf[n:]) })
		if n += max(m, 0); err == nil && n > maxFile {
			err = errors.New("too long")
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if m == 0 {
			return string(d.buf[:n]), nil
		}
	}
}

// link reads a symbolic link.
func (d *procDir) link(name string) (string, error) {
	n, err := retry(func() (int, error) { return unix.Readlinkat(d.fd, name, d.buf) })
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(d.buf[:n]), nil
}

// names lists a directory, in the kernel's order.
func (d *procDir) names(name string) (names []string, err error) {
	fd, err := d.open(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, d.buf) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(d.buf[:n], -1, names)
	}
}

// mountOf gives the ID, as in mountinfo, of the mount that a link of procfs leads into. Nothing else of the file is asked
// for, so that no file system has to answer (statx(2), Linux 5.8).
func (d *procDir) mountOf(name string) (int, error) {
	var st unix.Statx_t
	_, err := retry(func() (int, error) { return 0, unix.Statx(d.fd, name, unix.AT_STATX_DONT_SYNC, 0, &st) })
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = errors.New("this kernel does not tell its mount")
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return int(st.Mnt_id), nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
