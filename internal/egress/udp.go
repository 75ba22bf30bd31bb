// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

const (
	maxPacket = 64 << 10
	// maxFlows and flowAge bound how often the owner of packets is looked up: finding it costs a walk over /proc.
	// A port is not given to another process within that time in practice, and no decision depends on it.
	maxFlows = 512
	flowAge  = time.Second
)

// flows remembers whose packets came lately. It is used by one goroutine.
type flows struct {
	owner func(network string, local, remote netip.AddrPort) audit.Process
	seen  map[[2]netip.AddrPort]flow
}

type flow struct {
	proc audit.Process
	at   time.Time
}

func (f *flows) of(src, dst netip.AddrPort) audit.Process {
	key, now := [2]netip.AddrPort{src, dst}, time.Now()
	if known, ok := f.seen[key]; ok && now.Sub(known.at) < flowAge {
		return known.proc
	}
	if f.seen == nil || len(f.seen) >= maxFlows {
		f.seen = make(map[[2]netip.AddrPort]flow)
	}
	proc := f.owner("udp", src, dst)
	f.seen[key] = flow{proc, now}
	return proc
}

// receive answers packets until c is closed. One packet is dealt with at a time: none waits for the network.
func (g *Gateway) receive(n Net, c PacketConn) {
	b := make([]byte, maxPacket)
	known := flows{owner: n.Owner}
	for {
		size, src, dst, err := c.ReadFromTo(b)
		if err != nil {
			if !g.pause("udp", err) {
				return
			}
			continue
		}
		proc := known.of(src, dst)
		if dst.Port() != dnsPort {
			g.denyPacket(dst, proc)
			continue
		}
		if reply := g.answerDNS(b[:size], dnsAsker{dst, proc}); reply != nil {
			// An error is of this one packet: the asker is gone, or its buffer is full. It asks again.
			_ = c.WriteFromTo(reply, dst, src)
		}
	}
}

// denyPacket writes the event of a packet that goes nowhere.
func (g *Gateway) denyPacket(dst netip.AddrPort, proc audit.Process) {
	name, _ := g.sinks.name(dst.Addr())
	d := Decide(g.cfg.Access, name, dst.Addr(), dst.Port())
	reason := d.Reason + ", and UDP is not passed on"
	switch {
	case d.Allow && dst.Port() == 443:
		reason = "UDP (QUIC, HTTP/3) is not passed on, even to an allowed host: use TCP"
	case d.Allow:
		reason = "UDP is not passed on, even to an allowed host: use TCP"
	}
	g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: actionUDP, Decision: audit.Deny, Target: target(name, dst),
		Provenance: provenance(name), Rule: d.Rule, Reason: reason, Process: proc,
	})
}

// serveDNS answers a TCP connection to port 53: messages with two bytes of length before each, RFC 1035 section 4.2.2.
// Anything else ends it with an event and a reset.
func (g *Gateway) serveDNS(l *link) {
	for messages := 0; ; messages++ {
		l.conn.SetDeadline(time.Now().Add(g.wait.dns))
		b, begun, err := readMessage(&l.in)
		if err != nil && !begun && messages > 0 {
			return
		}
		if err != nil {
			g.cfg.Sink.Emit(audit.Event{
				Class: audit.ClassDNS, Action: actionMalformedDNS, Decision: audit.Deny, Target: target("", l.dst),
				Provenance: audit.FromKernel, Process: l.proc,
				Reason: fmt.Sprintf("a TCP connection to port 53 that is not DNS, or ended early, after %d queries", messages),
			})
			reset(l.conn)
			return
		}
		reply := g.answerDNS(b, dnsAsker{l.dst, l.proc})
		if reply == nil {
			reset(l.conn)
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		if _, err := l.conn.Write(append(out, reply...)); err != nil {
			return
		}
	}
}

// readMessage reads one DNS message. begun says that at least a byte of it came.
func readMessage(r io.Reader) (b []byte, begun bool, err error) {
	var size [2]byte
	if n, err := io.ReadFull(r, size[:]); err != nil {
		return nil, n > 0, err
	}
	b = make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(r, b)
	return b, true, err
}
