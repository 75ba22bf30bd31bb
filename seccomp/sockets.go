// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockets knows the unix sockets of the run: those that were made in its network namespace. A thread lives there and asks
// the kernel (sock_diag(7)); a socket of the host, which a mount may show, is in another namespace.
type sockets struct {
	ask   chan question
	ended chan struct{}
}

type question struct {
	device, inode uint32
	answer        chan<- bool
}

func newSockets(pid int) (*sockets, error) {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("seccomp: the run's network namespace: %w", err)
	}
	s := &sockets{ask: make(chan question), ended: make(chan struct{})}
	ready := make(chan error)
	go s.live(ns, ready)
	return s, <-ready
}

// live answers questions. The thread is in another namespace for good, and ends with the goroutine.
func (s *sockets) live(ns *os.File, ready chan<- error) {
	runtime.LockOSThread()
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("seccomp: setns: %w", err)
		return
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		ready <- fmt.Errorf("seccomp: NETLINK_SOCK_DIAG: %w", err)
		return
	}
	defer unix.Close(fd)
	ready <- nil
	for {
		select {
		case q := <-s.ask:
			q.answer <- search4(fd, q.device, q.inode)
		case <-s.ended:
			return
		}
	}
}

// bound tells whether a socket of the run is bound to a file. The kernel names the file by the device of its file system and
// the low half of its inode number.
func (s *sockets) bound(dev, ino uint64) bool {
	answer := make(chan bool, 1)
	device := unix.Major(dev)<<20 | unix.Minor(dev)
	select {
	case s.ask <- question{device, uint32(ino), answer}:
		return <-answer
	case <-s.ended:
		return false
	}
}

func (s *sockets) close() { close(s.ended) }

// The layout of struct unix_diag_req and struct unix_diag_msg (linux/unix_diag.h).
const (
	diagRequestSize = 24
	diagMessageSize = 16
	diagShowVFS     = 2 // UDIAG_SHOW_VFS
	diagVFS         = 1 // UNIX_DIAG_VFS
)

// search4 dumps the unix sockets of the namespace until one is bound to the file.
func search4(fd int, device, inode uint32) bool {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[unix.SizeofNlMsghdr:]
	r[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // any state
	binary.NativeEndian.PutUint32(r[12:], diagShowVFS)
	if unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return false
	}
	found := false
	buf := make([]byte, 64<<10)
	for { // to the end of the dump, so that nothing is left for the next one
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return false
		}
		done, hit := scanDump(buf[:n], device, inode)
		found = found || hit
		if done {
			return found
		}
	}
}

// scanDump looks through one part of a dump. It tells whether the dump is over.
func scanDump(b []byte, device, inode uint32) (done, found bool) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		kind := binary.NativeEndian.Uint16(b[4:])
		if size < unix.SizeofNlMsghdr || size > len(b) || kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR {
			return true, found
		}
		if d, i, ok := boundFile(b[unix.SizeofNlMsghdr:size]); ok && d == device && i == inode {
			found = true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false, found
}

// boundFile is the file that a socket of a dump is bound to.
func boundFile(m []byte) (device, inode uint32, ok bool) {
	if len(m) < diagMessageSize {
		return 0, 0, false
	}
	for a := m[diagMessageSize:]; len(a) >= 4; {
		size := int(binary.NativeEndian.Uint16(a))
		if size < 4 || size > len(a) {
			return 0, 0, false
		}
		if binary.NativeEndian.Uint16(a[2:]) == diagVFS && size >= 12 {
			return binary.NativeEndian.Uint32(a[8:]), binary.NativeEndian.Uint32(a[4:]), true
		}
		a = a[min(len(a), (size+3)&^3):]
	}
	return 0, 0, false
}
