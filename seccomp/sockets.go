// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockets knows the unix sockets of the run: those that were made in its network namespace. A thread lives there and asks
// the kernel (sock_diag(7)); a socket of the host, which a mount may show, is in another namespace.
//
// The kernel tells of each which file it is bound to, but by half of the inode's number and by a device that is not the one of
// stat(2) where a file system has several (the subvolumes of btrfs, the layers of overlayfs), and then two files can have the
// same two numbers. So the file of each socket is looked at when it begins to listen. It is another's when the socket is gone
// alone. Of a socket that does not listen the two numbers are all there is: on such file systems it is taken for the host's.
type sockets struct {
	jobs   chan func(diag int) // run one after the other
	ended  chan struct{}
	listen map[fileID]socketID // what listens, or did; a job's to use
	most   int                 // of them, before those that are gone are forgotten
}

// socketID is a socket: no other one ever gets its cookie.
type socketID struct {
	inode  uint32
	cookie uint64
}

// fileID is a file by its numbers of stat(2).
type fileID struct{ dev, ino uint64 }

// holder says whose a socket file is.
type holder uint8

const (
	ofHost holder = iota // no socket of the run is bound to it
	ofRun
	ofNobody // a socket of the run may be, and does not listen: there is nothing to connect to
)

func newSockets(pid int) (*sockets, error) {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("seccomp: the run's network namespace: %w", err)
	}
	s := &sockets{jobs: make(chan func(int)), ended: make(chan struct{}), listen: map[fileID]socketID{}, most: fewSockets}
	ready := make(chan error)
	go s.live(ns, ready)
	return s, <-ready
}

// live does jobs. The thread is in another namespace for good, and ends with the goroutine.
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
		case job := <-s.jobs:
			job(fd)
		case <-s.ended:
			return
		}
	}
}

// do runs a job to its end, unless the sockets are closed.
func (s *sockets) do(job func(diag int)) {
	done := make(chan struct{})
	select {
	case s.jobs <- func(diag int) { job(diag); close(done) }:
		<-done
	case <-s.ended:
	}
}

// holder tells whose socket a file is of.
func (s *sockets) holder(f fileID) (who holder) {
	s.do(func(diag int) {
		if id, ok := s.listen[f]; ok && isThere(diag, id) {
			who = ofRun
		} else if silent(diag, f) {
			who = ofNobody
		}
	})
	return who
}

// learn looks at the file of a socket that is about to listen: from then on one can connect to it.
func (s *sockets) learn(socket int) {
	var own, of unix.Stat_t
	cookie, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil || domain(socket) != unix.AF_UNIX || unix.Fstat(socket, &own) != nil {
		return
	}
	file, err := unix.IoctlRetInt(socket, siocUnixFile)
	if err != nil {
		return // it has none: its name is abstract
	}
	defer unix.Close(file)
	if unix.Fstat(file, &of) != nil {
		return
	}
	s.do(func(diag int) {
		s.listen[fileID{of.Dev, of.Ino}] = socketID{uint32(own.Ino), cookie}
		if len(s.listen) > s.most {
			maps.DeleteFunc(s.listen, func(_ fileID, id socketID) bool { return !isThere(diag, id) })
			s.most = max(fewSockets, 2*len(s.listen))
		}
	})
}

// fewSockets are remembered without a look at which of them are still there.
const fewSockets = 64

// siocUnixFile opens the file that a socket is bound to, with O_PATH, for whoever has CAP_NET_ADMIN in the socket's network
// namespace (SIOCUNIXFILE, linux/un.h, Linux 4.12).
const siocUnixFile = 0x89e0

func (s *sockets) close() { close(s.ended) }

// The layout of struct unix_diag_req and struct unix_diag_msg (linux/unix_diag.h).
const (
	diagRequestSize = 24
	diagMessageSize = 16
	diagStateAt     = 2
	diagShowVFS     = 2 // UDIAG_SHOW_VFS
	diagVFS         = 1 // UNIX_DIAG_VFS

	stateListen = 10 // TCP_LISTEN, net/tcp_states.h
)

// request asks for one socket, or for all.
func request(id socketID, flags uint16) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	r := b[unix.SizeofNlMsghdr:]
	r[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // any state
	binary.NativeEndian.PutUint32(r[8:], id.inode)
	binary.NativeEndian.PutUint32(r[12:], diagShowVFS)
	binary.NativeEndian.PutUint32(r[16:], uint32(id.cookie))
	binary.NativeEndian.PutUint32(r[20:], uint32(id.cookie>>32))
	return b
}

// isThere asks for a socket of the namespace. The answer is the socket or an error.
func isThere(diag int, id socketID) bool {
	found := false
	_ = ask(diag, request(id, 0), func([]byte) { found = true })
	return found
}

// silent tells whether a socket of the namespace that does not listen is bound to a file. It is certain where all of the file's
// numbers are told: else a command could bind one to a file with half of the number of a host's socket, and nobody would know
// that it tried the host's.
func silent(diag int, f fileID) bool {
	found := false
	err := ask(diag, request(socketID{}, unix.NLM_F_DUMP), func(m []byte) {
		bound, ok := boundFile(m[diagMessageSize:])
		found = found || ok && bound == f && m[diagStateAt] != stateListen
	})
	return err == nil && found
}

// ask sends a request and takes the whole answer, so that nothing is left of it for the next one.
func ask(diag int, request []byte, each func(message []byte)) error {
	if err := unix.Sendto(diag, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(diag, buf, 0)
		if err != nil || scan(buf[:n], each) {
			return err
		}
	}
}

// scan looks through one part of an answer, and tells whether it is the last.
func scan(b []byte, each func(message []byte)) (done bool) {
	done = true
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		if size < unix.SizeofNlMsghdr || size > len(b) || kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR {
			return true
		}
		if m := b[unix.SizeofNlMsghdr:size]; len(m) >= diagMessageSize {
			each(m)
		}
		done = flags&unix.NLM_F_MULTI == 0
		b = b[min(len(b), (size+3)&^3):]
	}
	return done
}

// boundFile finds among the attributes of a socket the numbers of the file that it is bound to: the low half of the inode's,
// and the device of the file system, which the kernel writes in its own form (struct unix_diag_vfs; kdev_t.h).
func boundFile(a []byte) (f fileID, ok bool) {
	const minorBits = 20
	for len(a) >= 4 {
		size := int(binary.NativeEndian.Uint16(a))
		if size < 4 || size > len(a) {
			return f, false
		}
		if binary.NativeEndian.Uint16(a[2:]) == diagVFS && size >= 12 {
			dev := binary.NativeEndian.Uint32(a[8:])
			return fileID{unix.Mkdev(dev>>minorBits, dev&(1<<minorBits-1)), uint64(binary.NativeEndian.Uint32(a[4:]))}, true
		}
		a = a[min(len(a), (size+3)&^3):]
	}
	return f, false
}
