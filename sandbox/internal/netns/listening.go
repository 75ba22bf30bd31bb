// SPDX-License-Identifier: Apache-2.0

package netns

import "net/netip"

// Listening tells at which ports of a network namespace somebody listens by TCP.
type Listening struct{ diag sockDiag }

// NewListening asks about the network namespace of the calling thread.
func NewListening() (*Listening, error) {
	diag, err := newSockDiag()
	if err != nil {
		return nil, err
	}
	return &Listening{diag}, nil
}

// At tells whether a connection to an address of loopback would find somebody there, or at one of the two that localhost has. What cannot
// be told is taken for somebody. All are asked about in any case: a command that is refused there is not to tell by the time which it was.
func (l *Listening) At(to netip.AddrPort) bool {
	if l == nil {
		return true
	}
	somebody := false
	for _, addr := range []netip.Addr{to.Addr().Unmap(), netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		anybody := netip.IPv6Unspecified()
		if addr.Is4() {
			anybody = netip.IPv4Unspecified()
		}
		s, err := l.diag.socket("tcp", netip.AddrPortFrom(addr, to.Port()), netip.AddrPortFrom(anybody, 0))
		somebody = somebody || err != nil || s.state != 0
	}
	return somebody
}
