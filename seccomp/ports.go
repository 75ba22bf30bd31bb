// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"sync"

	"golang.org/x/sys/unix"
)

// ports knows at which TCP ports the run listens, and to which it connects. The zero ports know none.
type ports struct {
	mu        sync.Mutex
	listening portSet
	connected portSet
}

// portSet is a set of ports, a bit for each.
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(port uint16)      { s[port/64] |= 1 << (port % 64) }
func (s *portSet) has(port uint16) bool { return s[port/64]>>(port%64)&1 == 1 }

// firstEphemeral is where the ports begin that the kernel chooses (net.ipv4.ip_local_port_range, ip-sysctl.rst): whoever has such a one
// has not told anybody before.
const firstEphemeral = 32768

// listens notes the port of a socket that is about to listen.
func (p *ports) listens(socket int) {
	if kind, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return
	}
	port := 0
	switch at, _ := unix.Getsockname(socket); at := at.(type) {
	case *unix.SockaddrInet4:
		port = at.Port
	case *unix.SockaddrInet6:
		port = at.Port
	}
	if port > 0 && port < firstEphemeral {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.listening.add(uint16(port))
	}
}

// connects notes the port of an address that a program of the run connects to.
func (p *ports) connects(to address) {
	if port := to.port(); port != 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.connected.add(port)
	}
}

// Unvisited are the TCP ports at which something of the run listened, and to which nothing in it connected; not those that the kernel
// chose. It is a hint for people: a run that is at pains to can have it lack a port, or have one too many.
func (s *Supervisor) Unvisited() (list []uint16) {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	for port := range uint16(firstEphemeral) {
		if s.ports.listening.has(port) && !s.ports.connected.has(port) {
			list = append(list, port)
		}
	}
	return list
}
