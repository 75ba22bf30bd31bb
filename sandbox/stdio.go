// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// checkStdio refuses standard files that are a way out. The command inherits them as they are, from the host's namespaces:
// below a directory it could open everything, and a socket of the host's network could be connected anew, or send to anybody,
// where no gateway sees it. Connected unix streams, which programs make where a pipe would do, reach their other end alone.
func checkStdio(o Options) error {
	for i, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		if f == nil {
			continue
		}
		name := []string{"standard input", "standard output", "standard error"}[i]
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return requestErrorf("%s: %v", name, err)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK:
		case unix.S_IFDIR:
			return requestErrorf("%s is a directory, through which the command could open all that the host has; use a file or a pipe", name)
		case unix.S_IFSOCK:
			if !isPipeLike(int(f.Fd())) {
				return requestErrorf("%s is a socket of the host, with which the command could pass the network's rules by; put a pipe between, such as cat", name)
			}
		default:
			return requestErrorf("%s is neither a file nor a pipe nor a terminal", name)
		}
	}
	return nil
}

// readsOnly tells whether a file is a regular one that is open for reading alone, and where it lies.
func readsOnly(f *os.File) (path string, ok bool) {
	fd := int(f.Fd())
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", false
	}
	path, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return path, err == nil
}

// protected are the paths of standard files that are protected in a place which the command may write. The stage opens them anew:
// as the caller gave them they have the caller's mount and could be written by /proc/self/fd, since Landlock knows the place alone.
func (s *supervisor) protected() (paths [3]string, err error) {
	for i, f := range s.stdio {
		path, ok := readsOnly(f)
		if !ok || !s.order.Plan.protects(path) {
			continue
		}
		if s.order.Plan.innermost(path).Kind == Hidden {
			return paths, &SetupError{
				Layer: "standard files", Err: fmt.Errorf("%q is hidden in this run", path), Fix: "give it through a pipe: cat FILE | agentjail run ...",
			}
		}
		paths[i] = path
	}
	return paths, nil
}

// readOnly are the standard files that Landlock keeps the command from writing when it opens them anew by /proc/self/fd: those that
// are open for reading alone, and lie in no place that it may write.
func (s *supervisor) readOnly() []*os.File {
	var files []*os.File
	for _, f := range s.stdio {
		if path, ok := readsOnly(f); ok && !s.order.Plan.writes(path) && !s.writable(f) {
			files = append(files, f)
		}
	}
	return files
}

// writable tells whether a standard file is also there to be written.
func (s *supervisor) writable(given *os.File) bool {
	var file unix.Stat_t
	return unix.Fstat(int(given.Fd()), &file) == nil && slices.ContainsFunc(s.stdio[:], func(f *os.File) bool {
		var st unix.Stat_t
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && unix.Fstat(int(f.Fd()), &st) == nil &&
			st.Dev == file.Dev && st.Ino == file.Ino
	})
}

// isPipeLike tells whether a socket is a connected unix stream: neither connect(2) nor an address of sendto(2) moves it
// elsewhere (unix(7)).
func isPipeLike(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	_, err3 := unix.Getpeername(fd)
	return err == nil && err2 == nil && err3 == nil && domain == unix.AF_UNIX && (kind == unix.SOCK_STREAM || kind == unix.SOCK_SEQPACKET)
}
