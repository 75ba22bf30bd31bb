// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listening tells at which ports of a network namespace somebody listens by TCP.
type Listening struct{ diag *asker }

// NewListening asks about the network namespace of the calling thread.
func NewListening() (*Listening, error) {
	diag, err := newAsker(unix.NETLINK_SOCK_DIAG, "sock_diag")
	if err != nil {
		return nil, err
	}
	return &Listening{diag}, nil
}

// At tells whether a connection to an address of loopback would find somebody there, or at one of the two that localhost has. What cannot
// be told is taken for somebody.
func (l *Listening) At(to netip.AddrPort) bool {
	if l == nil {
		return true
	}
	for _, addr := range []netip.Addr{to.Addr().Unmap(), netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		anybody := netip.IPv6Unspecified()
		if addr.Is4() {
			anybody = netip.IPv4Unspecified()
		}
		request, err := diagRequest("tcp", netip.AddrPortFrom(addr, to.Port()), netip.AddrPortFrom(anybody, 0))
		if err != nil {
			return true
		}
		answer, err := l.diag.ask(request)
		if err != nil || !absent(answer) {
			return true
		}
	}
	return false
}

// absent tells whether an answer of sock_diag(7) says that there is no such socket.
func absent(b []byte) bool {
	if len(b) < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return false
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]))) == unix.ENOENT
}
