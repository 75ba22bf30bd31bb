// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net"
	"net/netip"

	"github.com/agentjail/agentjail/internal/audit"
)

// Network is what a gateway is given of a run's network namespace. Nothing else leads out of it.
type Network struct {
	TCP   []net.Listener // an accepted connection's LocalAddr is the address that the command dialed
	UDP   []PacketConn
	Owner func(network string, local, remote netip.AddrPort) audit.Process // who opened a socket; zero if unknown
}

// PacketConn receives the datagrams that the command sends, to whatever address, and sends answers from that address.
type PacketConn interface {
	ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error)
	WriteFromTo(b []byte, src, dst netip.AddrPort) error
	Close() error
}

// Gateway decides on a run's network traffic. Serve starts it and returns; Close ends it.
type Gateway interface {
	Serve(Network) error
	Coverage() []string // what it cannot see or do
	Close() error
}

// NewGateway makes the gateway of a run from its plan. The sink takes its events.
type NewGateway func(plan Plan, sink audit.Sink) (Gateway, error)
