// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// usher resolves paths as a caller in the run would. A worker's thread has the run's root as its own (chroot(2) on a thread
// that shares its root with no other): absolute symbolic links and ".." end where they end for the caller.
type usher struct {
	root *os.File // of the run
	host *os.File // root of the host
	proc *os.File // the host's /proc; neither can be named from inside
}

func newUsher(pid int) (*usher, error) {
	u := &usher{}
	for path, to := range map[string]**os.File{"/proc/" + strconv.Itoa(pid) + "/root": &u.root, "/": &u.host, "/proc": &u.proc} {
		var err error
		if *to, err = os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			u.close()
			return nil, fmt.Errorf("seccomp: open %s: %w", path, err)
		}
	}
	return u, nil
}

// onHost tells whether the host has something at an absolute path (openat2(2), Linux 5.6).
func (u *usher) onHost(path string) bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range onHostTries {
		fd, err := unix.Openat2(int(u.host.Fd()), path, &how)
		if err == unix.EAGAIN {
			continue // something was renamed during a walk over ".."
		}
		if err == nil {
			unix.Close(fd)
		}
		return err == nil
	}
	return true // as often as that only somebody does it who hides something
}

const onHostTries = 64

// enter moves the calling thread into the run's root. The thread is of no other use afterwards.
func (u *usher) enter() error {
	for _, step := range []struct {
		name string
		call func() error
	}{
		{"unshare(CLONE_FS)", func() error { return unix.Unshare(unix.CLONE_FS) }},
		{"fchdir", func() error { return unix.Fchdir(int(u.root.Fd())) }},
		{"chroot", func() error { return unix.Chroot(".") }},
	} {
		if err := step.call(); err != nil {
			return fmt.Errorf("seccomp: %s: %w", step.name, err)
		}
	}
	return nil
}

// place is where a path starts, and the rest of it: a directory or file of the caller, by its link in /proc, or the root for
// absolute paths. The caller's own entry of /proc has a name that means the reader's (proc(5)): it is named by its number.
func (u *usher) place(tid uint32, dirfd int32, path string) (at int, rest string, err error) {
	link := strconv.Itoa(int(tid))
	switch {
	case path != "" && path[0] == '/':
		if rest, ok := ownEntry(path); ok {
			return int(u.proc.Fd()), link + rest, nil
		}
		return unix.AT_FDCWD, path, nil
	case dirfd == unix.AT_FDCWD:
		link += "/cwd"
	default:
		link += "/fd/" + strconv.Itoa(int(dirfd))
	}
	at, err = unix.Openat(int(u.proc.Fd()), link, unix.O_PATH|unix.O_CLOEXEC, 0)
	return at, path, err
}

// leave closes what place opened.
func (u *usher) leave(at int) {
	if at != unix.AT_FDCWD && at != int(u.proc.Fd()) {
		unix.Close(at)
	}
}

// ownEntries are the names of the caller's own entry of /proc, and of files in it.
var ownEntries = []struct{ name, rest string }{
	{"/proc/self", ""}, {"/proc/thread-self", ""}, {"/dev/fd", "/fd"},
	{"/dev/stdin", "/fd/0"}, {"/dev/stdout", "/fd/1"}, {"/dev/stderr", "/fd/2"},
}

// ownEntry returns what follows the caller's own entry of /proc in an absolute path. There must be no way up in it: the number
// is looked up in the host's /proc.
func ownEntry(path string) (rest string, ok bool) {
	words := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if slices.Contains(words, "..") {
		return "", false
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "." })
	plain := "/" + strings.Join(words, "/")
	for _, e := range ownEntries {
		if rest, ok := strings.CutPrefix(plain, e.name); ok && (rest == "" || rest[0] == '/') {
			return e.rest + rest, true
		}
	}
	return "", false
}

// open resolves a path of the caller, and returns an O_PATH file.
func (u *usher) open(tid uint32, dirfd int32, path string, follow bool) (int, error) {
	at, rest, err := u.place(tid, dirfd, path)
	if err != nil || rest == "" {
		return at, err
	}
	defer u.leave(at)
	return openAt(at, rest, follow)
}

// openAt resolves a path from a place, and returns an O_PATH file. The empty path is the place itself.
func openAt(at int, path string, follow bool) (int, error) {
	if path == "" {
		return unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0)
	}
	flags := unix.O_PATH | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	return unix.Openat(at, path, flags, 0)
}

// statusNumber returns a field of a thread's status (proc_pid_status(5)).
func (u *usher) statusNumber(tid uint32, field string) (int, error) {
	fd, err := unix.Openat(int(u.proc.Fd()), strconv.Itoa(int(tid))+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var buf [2048]byte
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
}
