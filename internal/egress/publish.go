// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// A PublishError is a port of the host's loopback that cannot be had.
type PublishError struct {
	Port uint16
	Err  error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("published port %d of this machine's loopback: %v", e.Port, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }

// Fix says what to do about it.
func (e *PublishError) Fix() string {
	if errors.Is(e.Err, unix.EACCES) {
		return "publish a port above 1023, which any user may have"
	}
	return "stop what listens there, or publish another port"
}

// publish listens at the ports of the host's own loopback that lead into the run, for IPv4 and, where the host has it, IPv6.
func (g *Gateway) publish(n Net) error {
	if n.Inside == nil {
		return nil
	}
	for _, port := range g.cfg.Publish {
		for _, addr := range []netip.Addr{loopback4, netip.IPv6Loopback()} {
			l, err := g.listen(netip.AddrPortFrom(addr, port))
			if addr.Is6() && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
				continue
			}
			if err != nil {
				return &PublishError{port, err}
			}
			lead := func(c net.Conn, d *delivery) { g.lead(n, c, port, d) }
			overload := func(net.Conn) {
				g.published(actionPublish, port, audit.Report, "too many connections are open", "")
			}
			if !g.accept(l, lead, overload) {
				return ErrClosed
			}
		}
	}
	return nil
}

func (g *Gateway) listen(addr netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(g.ctx, "tcp", addr.String())
}

// lead carries a connection of the host to a port of the run's own loopback, and to its end.
func (g *Gateway) lead(n Net, conn net.Conn, port uint16, sending *delivery) {
	g.published(actionPublish, port, audit.Allow, "the port is published", "")
	ctx, cancel := context.WithTimeout(g.ctx, g.wait.dial)
	defer cancel()
	inside, err := n.Inside(ctx, port)
	if err != nil {
		code := ""
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			code = unix.ErrnoName(errno)
		}
		g.published(actionPublish, port, audit.Report, "nobody inside could be reached at the published port", code)
		reset(conn)
		return
	}
	defer inside.Close()
	defer context.AfterFunc(g.ctx, func() { inside.Close() })()
	var t traffic
	outside := spliced{t.meter(conn)}
	answered := make(chan struct{})
	sending.toward(conn)
	g.work.Go(func() {
		defer close(answered)
		defer sending.over()
		t.ended(pump(outside, inside))
	})
	t.ended(pump(inside, outside))
	<-answered
	g.tellEnd(&t, publishEvent(actionPublish, port, audit.Allow, "", ""))
}

// published writes an event about a connection of the host to the run.
func (g *Gateway) published(action string, port uint16, decision audit.Decision, reason, errno string) {
	g.cfg.Sink.Emit(publishEvent(action, port, decision, reason, errno))
}

func publishEvent(action string, port uint16, decision audit.Decision, reason, errno string) audit.Event {
	return audit.Event{
		Class: audit.ClassNet, Action: action, Decision: decision, Target: netip.AddrPortFrom(loopback4, port).String(),
		Provenance: audit.FromResolved, Rule: "publish", Reason: reason, Errno: errno,
	}
}
