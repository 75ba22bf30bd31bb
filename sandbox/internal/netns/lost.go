// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// losses counts the packets that the kernel dropped in front of a socket, whose buffer was full.
type losses struct {
	mu   sync.Mutex
	last uint32 // what the kernel had counted; it wraps
	n    uint64 // not yet taken
}

// look asks the kernel. The answer does not depend on a packet that gets through after the loss, as that of SO_RXQ_OVFL does.
func (l *losses) look(conn syscall.RawConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn.Control(func(fd uintptr) {
		if now, ok := drops(fd); ok {
			l.n += uint64(now - l.last)
			l.last = now
		}
	})
}

// add counts packets that were read and thrown away.
func (l *losses) add(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += n
}

func (l *losses) take() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.n
	l.n = 0
	return n
}

// drops is the kernel's count for a socket since it was made (SO_MEMINFO, Linux 4.12; SK_MEMINFO_DROPS of linux/sock_diag.h).
func drops(fd uintptr) (uint32, bool) {
	const at = 8
	var info [at + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[at], errno == 0 && size == uint32(unsafe.Sizeof(info))
}

// Lost counts the packets that were lost since the last call, because they came faster than they were read: nobody was told
// of them. After Close it tells of the last ones.
func (n *Namespace) Lost() uint64 {
	var lost uint64
	for _, u := range n.udp {
		u.look()
		lost += u.losses.take()
	}
	if n.dropped != nil {
		n.dropped.log.look()
		lost += n.dropped.log.losses.take()
	}
	if n.watch != nil {
		n.watch.log.look()
		lost += n.watch.log.losses.take()
	}
	return lost
}
