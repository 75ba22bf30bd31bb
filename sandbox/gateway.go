// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/netns"
)

// Network is what a gateway is given of a run's network namespace. Nothing else leads out of it.
type Network struct {
	TCP   []net.Listener // an accepted connection's LocalAddr is the address that the command dialed
	UDP   []PacketConn
	Owner func(network string, local, remote netip.AddrPort) audit.Process // who opened a socket; zero if unknown
	// Inside connects to a port of the run's own loopback.
	Inside func(ctx context.Context, port uint16) (net.Conn, error)
}

// PacketConn receives the datagrams that the command sends, to whatever address, and sends answers from that address. What had
// come before Close can be read after it: there is an event of it to write.
type PacketConn interface {
	ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error)
	WriteFromTo(b []byte, src, dst netip.AddrPort) error
	Close() error
}

// Gateway decides on a run's network traffic. Serve starts it and returns; Close ends it.
type Gateway interface {
	Serve(Network) error
	// Authority is the certificate, in PEM, by which it inspects TLS; nil where it does not.
	Authority() []byte
	Coverage() []string // what it cannot see or do
	Close() error
}

// NewGateway makes the gateway of a run from its plan. The sink takes its events.
type NewGateway func(plan Plan, sink audit.Sink) (Gateway, error)

// hostPorts are the ports of the host's loopback that the plan grants, by number or as a rule for the address itself.
func (p Plan) hostPorts() []uint16 {
	ports := slices.Clone(p.Loopback)
	for _, r := range p.Rules {
		if !r.Prefix.IsValid() || !r.Prefix.IsSingleIP() || !r.Prefix.Addr().IsLoopback() {
			continue
		}
		for _, span := range r.Ports {
			for port := int(span.First); port <= int(span.Last); port++ {
				ports = append(ports, uint16(port))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// gatewayPorts are the ports at which the gateway has something to say: those of all grants, of its proxy, and of the web, where it
// tells a client why not.
func (p Plan) gatewayPorts() []uint16 {
	ports := append(p.hostPorts(), 80, 443, netip.MustParseAddrPort(profiles.ProxyAddress).Port())
	for _, r := range p.Rules {
		for _, span := range r.Ports {
			for port := int(span.First); port <= int(span.Last); port++ {
				ports = append(ports, uint16(port))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// refused records what the network namespace refused by itself.
func (s *supervisor) refused(r netns.Refusal) {
	if e, ok := refusalEvent(r, s.around.At); ok {
		s.sink.Emit(e)
	}
}

// maxUnpublished is how many ports of a run are told of as unpublished.
const maxUnpublished = 8

// unpublishedEvents tell of ports at which a run listened, and that nobody connected to: this machine can where they are published.
func (p Plan) unpublishedEvents(ports []uint16) (events []audit.Event) {
	for _, port := range ports {
		if slices.Contains(p.Publish, port) || len(events) == maxUnpublished {
			continue
		}
		number := strconv.Itoa(int(port))
		events = append(events, audit.Event{
			Class: audit.ClassNet, Action: audit.ActionListen, Decision: audit.Report, Target: "127.0.0.1:" + number, Provenance: audit.FromResolved,
			Reason: "only the run itself can connect there; to reach it from this machine: --publish " + number,
		})
	}
	return events
}

// refusalEvent is the event of a refusal; listens tells whether somebody does at a port of this machine's loopback. There is no event for
// packets that are neither TCP nor UDP: the syscall filter refuses the sockets for them, and has recorded that.
func refusalEvent(r netns.Refusal, listens func(netip.AddrPort) bool) (e audit.Event, ok bool) {
	e = audit.Event{
		Class: audit.ClassNet, Action: "tcp.connect", Decision: audit.Deny, Target: r.Remote.String(), Process: r.Process,
		Provenance: audit.FromKernel,
	}
	switch {
	case r.Network == "udp":
		e.Action, e.Reason = "udp.send", "multicast has no listeners outside of the run"
	case r.Network != "tcp":
		return e, false
	case r.Remote.Addr().IsLoopback() && !listens(r.Remote):
		// The same answer as without a run: a program that waits for a server of its own asks very often.
		e.Severity, e.Reason = audit.SeverityNoise, "nobody listens there, neither inside nor on this machine"
	case r.Remote.Addr().IsLoopback():
		to := r.Remote
		if to.Addr() == netip.IPv6Loopback() { // either address is granted by a rule for one of them
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
		}
		e.Reason, e.Fix = "nobody inside listens there, and the host's loopback is not granted", audit.Flag("--allow-net", to.String())
	case r.Local == r.Remote:
		e.Reason = "the socket connects to itself, at an address that is not of loopback"
	default:
		e.Reason = "nothing takes it any more: another socket of the run has this address, or the run is at its end"
	}
	return e, true
}
