// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPorts(t *testing.T) {
	var s Supervisor
	bound := func(kind int, at unix.Sockaddr) int {
		family := unix.AF_INET
		if _, six := at.(*unix.SockaddrInet6); six {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err == nil && at != nil {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			err = unix.Bind(fd, at)
		}
		if err != nil {
			t.Skip(err) // another program has the port
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	loopback := [4]byte{127, 0, 0, 1}
	for _, socket := range []int{
		bound(unix.SOCK_STREAM, &unix.SockaddrInet4{Port: 23517, Addr: loopback}),
		bound(unix.SOCK_STREAM, &unix.SockaddrInet6{Port: 23518}),
		bound(unix.SOCK_STREAM, &unix.SockaddrInet4{Port: 23519, Addr: loopback}),
		bound(unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: loopback}), // the kernel's choice
		bound(unix.SOCK_STREAM, nil),
		bound(unix.SOCK_DGRAM, &unix.SockaddrInet4{Port: 23520, Addr: loopback}),
		-1,
	} {
		s.ports.listens(socket)
	}
	s.ports.connects(address{unix.AF_INET, 0, 23519 >> 8, 23519 & 0xff, 127, 0, 0, 1})
	s.ports.connects(address{unix.AF_UNIX, 0, 23518 >> 8, 23518 & 0xff})
	s.ports.connects(address{unix.AF_INET, 0, 1})
	if got := s.Unvisited(); !slices.Equal(got, []uint16{23517, 23518}) {
		t.Errorf("unvisited: %v", got)
	}
}
