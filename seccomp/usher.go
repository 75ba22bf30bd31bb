// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// usher resolves paths as a caller in the run would. A worker's thread has the run's root as its own (chroot(2) on a thread
// that shares its root with no other): absolute symbolic links and ".." end where they end for the caller.
type usher struct {
	root *os.File // of the run
	host *os.File // root of the host
	proc *os.File // the host's /proc; neither can be named from inside
	fds  *os.File // in it, this process's files
	dev  uint64   // of the run's root

	wanting atomic.Uint64 // see noted
}

func newUsher(pid int) (*usher, error) {
	u := &usher{}
	for path, to := range map[string]**os.File{"/proc/" + strconv.Itoa(pid) + "/root": &u.root, "/": &u.host, "/proc": &u.proc, "/proc/self/fd": &u.fds} {
		var err error
		if *to, err = os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			u.close()
			return nil, fmt.Errorf("seccomp: open %s: %w", path, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(u.root.Fd()), &st); err != nil {
		u.close()
		return nil, fmt.Errorf("seccomp: the run's root: %w", err)
	}
	u.dev = st.Dev
	return u, nil
}

// ofRoot tells whether a file is of the file system that is the run's root, by whichever mount.
func (u *usher) ofRoot(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Dev == u.dev
}

// onHost tells whether the host has something at an absolute path (openat2(2), Linux 5.6).
func (u *usher) onHost(path string) bool {
	fd, err := u.openOnHost(path)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil || err == unix.EAGAIN // as often as that only somebody does it who hides something
}

// openOnHost returns an O_PATH file of the host. EAGAIN is that something was renamed during each try, a walk over "..".
func (u *usher) openOnHost(path string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range onHostTries {
		if fd, err = unix.Openat2(int(u.host.Fd()), path, &how); err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

const onHostTries = 64

// enter moves the calling thread into the run's root. The thread is of no other use afterwards.
func (u *usher) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("seccomp: unshare(CLONE_FS): %w", err)
	}
	return changeRoot(int(u.root.Fd()))
}

// changeRoot gives the calling thread another root. It shares its own with no other thread: see enter.
func changeRoot(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("seccomp: fchdir: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("seccomp: chroot: %w", err)
	}
	return nil
}

// place is where a path of the caller leads: the directory that holds its last name, and that name, with the slashes that
// follow it; the file itself for an empty path. Where a name on the way is missing, it is the last directory and what is left.
// With follow the last name is no symbolic link.
func (u *usher) place(tid uint32, dirfd int32, path string, follow bool) (at int, rest string, err error) {
	from, err := u.start(tid, dirfd, path)
	name := strings.TrimRight(path, "/")
	if err != nil || name == "" {
		return from, path, err
	}
	slashes := path[len(name):]
	// The kernel finds most by itself. What it does not find for this thread may be there for the caller.
	dir, name, err := u.openParent(from, path)
	if err == nil && (!follow && slashes == "" || !isLink(dir, name)) {
		if dir != from {
			u.leave(from)
		}
		return dir, name + slashes, nil
	}
	defer u.leave(from)
	switch {
	case err == nil && dir != from:
		unix.Close(dir)
	case err != nil && err != unix.ENOENT:
		return -1, "", err
	}
	return u.walk(tid, from, path, follow)
}

// start is the directory or file of the caller, by its link in /proc, that a path is relative to.
func (u *usher) start(tid uint32, dirfd int32, path string) (int, error) {
	link := strconv.Itoa(int(tid))
	switch {
	case path != "" && path[0] == '/':
		return unix.AT_FDCWD, nil
	case dirfd == unix.AT_FDCWD:
		link += "/cwd"
	default:
		link += "/fd/" + strconv.Itoa(int(dirfd))
	}
	return u.noted(unix.Openat(int(u.proc.Fd()), link, unix.O_PATH|unix.O_CLOEXEC, 0))
}

// leave closes what place opened.
func (u *usher) leave(at int) {
	if at != unix.AT_FDCWD {
		unix.Close(at)
	}
}

// open resolves a path of the caller, and returns an O_PATH file.
func (u *usher) open(tid uint32, dirfd int32, path string, follow bool) (int, error) {
	at, rest, err := u.place(tid, dirfd, path, follow)
	if err != nil || rest == "" {
		return at, err
	}
	defer u.leave(at)
	return u.openAt(at, rest, follow)
}

// openAt resolves a path from a place, and returns an O_PATH file. The empty path is the place itself.
func (u *usher) openAt(at int, path string, follow bool) (int, error) {
	if path == "" {
		return u.noted(unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0))
	}
	flags := unix.O_PATH | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	return u.noted(unix.Openat(at, path, flags, 0))
}

// noted counts what could not be opened for want of files or memory, which says nothing of what the caller finds.
func (u *usher) noted(fd int, err error) (int, error) {
	if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM {
		u.wanting.Add(1)
	}
	return fd, err
}

// statusNumber returns a field of a thread's status (proc_pid_status(5)).
func (u *usher) statusNumber(tid uint32, field string) (int, error) {
	fd, err := unix.Openat(int(u.proc.Fd()), strconv.Itoa(int(tid))+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var buf [8192]byte // the groups of the caller come first, one number each
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, err
	}
	return numberAfter(string(buf[:n]), field)
}

var errNoField = errors.New("seccomp: no such field")

func (u *usher) close() {
	u.root.Close()
	u.host.Close()
	u.proc.Close()
	u.fds.Close()
}
