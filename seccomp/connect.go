// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// connect carries connect(2) out for a caller: on the caller's own socket (pidfd_getfd(2), Linux 5.6), with an address that
// was copied once, so that what was judged is what is done. Letting the kernel go on would let the caller change the address,
// or put another socket behind the number, in between.
func (w *worker) connect(n *notification) {
	to, err := readAddress(n.PID, n.Args[1], uint32(n.Args[2]))
	if err != nil {
		w.unread(n, err)
		return
	}
	if path, ok := to.path(); ok {
		if reason := w.exceeds([]intent{{action: "connect", path: path}}); reason != "" {
			w.unknown(n, unix.EPERM, reason)
			return
		}
	}
	socket, err := w.fetch(n)
	if err != nil {
		w.answer(n, errnoOf(err))
		return
	}
	file := -1
	if path, ok := to.path(); ok && domain(socket) == unix.AF_UNIX {
		if file, err = w.judge(n, path); err != nil {
			unix.Close(socket)
			w.answer(n, errnoOf(err))
			return
		}
		// The file that was judged, whatever the path names by now.
		to = append(address{unix.AF_UNIX, 0}, "/proc/self/fd/"+strconv.Itoa(file)+"\x00"...)
	}
	if !w.connects.enter(n.ID) {
		unix.Close(socket)
		if file >= 0 {
			unix.Close(file)
		}
		w.emit(n, audit.Event{
			Class: audit.ClassSyscall, Action: "connect", Decision: audit.Deny, Target: "connect", Errno: "EAGAIN",
			Reason: "too many connects of the run are under way", Provenance: audit.FromKernel, Process: w.describeCaller(n.PID),
		})
		w.answer(n, unix.EAGAIN)
		return
	}
	w.ports.connects(to)
	w.tellOfConnect(n, socket, to)
	if file < 0 && !mayWait(socket) {
		w.carryOut(*n, socket, file, to)
		return
	}
	go w.carryOut(*n, socket, file, to)
}

// tellOfConnect says which socket of the network a caller connects.
func (w *worker) tellOfConnect(n *notification, socket int, to address) {
	if family := to.family(); w.config.Connects == nil || family != unix.AF_INET && family != unix.AF_INET6 {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(socket, &st) == nil {
		w.config.Connects(st.Ino, int(n.PID), int(int32(n.Args[0])))
	}
}

// mayWait tells whether a connect waits for the other end (connect(2), O_NONBLOCK). It is then for a thread of its own, which to wake costs
// more than a connect that does not. A run that changes that meanwhile has a worker wait, for which there is another.
func mayWait(socket int) bool {
	flags, err := unix.FcntlInt(uintptr(socket), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK == 0
}

// carryOut runs on a thread with the host's root where there is a file: a path in /proc/self names one of this process's.
func (s *Supervisor) carryOut(n notification, socket, file int, to address) {
	var p unsafe.Pointer
	if len(to) > 0 {
		p = unsafe.Pointer(&to[0])
	}
	errno := s.connects.do(n.ID, func() unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(socket), uintptr(p), uintptr(len(to)))
		return errno
	})
	unix.Close(socket)
	if file >= 0 {
		unix.Close(file)
	}
	s.answer(&n, errno)
}

// fetch duplicates the caller's socket.
func (w *worker) fetch(n *notification) (int, error) {
	const pidfdThread = unix.O_EXCL // PIDFD_THREAD, Linux 6.9
	pidfd, err := unix.PidfdOpen(int(n.PID), pidfdThread)
	if err == unix.EINVAL {
		var process int
		if process, err = w.usher.statusNumber(n.PID, "Tgid"); err == nil {
			pidfd, err = unix.PidfdOpen(process, 0)
		}
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	if !valid(w.fd, n.ID) {
		return -1, unix.ESRCH
	}
	return unix.PidfdGetfd(pidfd, int(int32(n.Args[0])), 0)
}

func domain(socket int) int {
	v, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return -1
	}
	return v
}

// judge opens the socket file that a path names for the caller. One that no socket of the run is bound to is the host's: it
// is refused, although the mount shows it, and recorded.
func (w *worker) judge(n *notification, path string) (int, error) {
	at, rest, err := w.usher.place(n.PID, unix.AT_FDCWD, path, true)
	if err != nil {
		return -1, err
	}
	defer w.usher.leave(at)
	file, err := w.usher.openAt(at, rest, true)
	if err == unix.ENOENT {
		// By the name that it has from the root of the run, however the caller spelled it.
		if named := strings.TrimRight(w.describeFile(at), "/") + "/" + rest; w.usher.onHost(named) {
			w.refuse(n, named, "ENOENT", ofTheHost+toConnect)
		}
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		if w.isStandIn(file) {
			w.refuse(n, w.describeFile(file), "ECONNREFUSED", "hidden by the policy")
		}
		unix.Close(file)
		return -1, unix.ECONNREFUSED // as the kernel says (connect(2))
	}
	if here, err := mountedAt(file); err == nil && slices.Contains(w.granted, here) {
		w.emit(n, audit.Event{
			Class: audit.ClassUnix, Action: "connect", Decision: audit.Allow, Target: w.describeFile(file), Rule: "sockets",
			Reason: "the socket is on the allow-list", Provenance: audit.FromResolved, Process: w.describeCaller(n.PID),
		})
		return file, nil
	}
	switch w.sockets.holder(fileID{st.Dev, st.Ino}) {
	case ofRun:
		return file, nil
	case ofHost:
		reason := ofTheHost
		if w.spaces != nil {
			reason += ", or of a network namespace that the run made"
		}
		w.refuse(n, w.describeFile(file), "ECONNREFUSED", reason+toConnect)
	}
	unix.Close(file)
	return -1, unix.ECONNREFUSED
}

// isStandIn tells whether a file is what the run sees of a hidden one, whatever that is: a mount of the file system of its root.
func (w *worker) isStandIn(file int) bool {
	if w.tree != nil {
		here, err := mountedAt(file)
		return err == nil && w.tree.hides(here)
	}
	_, served := w.lies(file)
	return served && isMountPoint(file, "")
}

// listen learns which file, or port, a socket of the run is bound to, and lets the kernel go on. Whoever puts another socket behind the
// number meanwhile has one that nobody connects to.
func (w *worker) listen(n *notification) {
	if socket, err := w.fetch(n); err == nil {
		w.sockets.learn(socket)
		w.ports.listens(socket)
		unix.Close(socket)
	}
	w.carryOn(n)
}

// Why a socket is refused that may be granted, and what to do about it. No event has the flag with its path, to be typed as it is: who
// serves a socket can be a container engine, the session's bus or tmux, any of which starts programs outside of the run.
const (
	ofTheHost = "a socket of the host"
	toConnect = ": --socket lets it be connected to, and allows all that its server does"
)

func (w *worker) refuse(n *notification, path, errno, reason string) {
	w.emit(n, audit.Event{
		Class: audit.ClassUnix, Action: "connect", Decision: audit.Deny, Target: path, Errno: errno,
		Reason: reason, Provenance: audit.FromClaimed, Process: w.describeCaller(n.PID),
	})
}

func errnoOf(err error) unix.Errno {
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return unix.EACCES
}
