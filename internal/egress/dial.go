// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxAnswers bounds the addresses of a name that are looked at.
const maxAnswers = 16

// errSpecial is a destination that leads to special addresses only.
var errSpecial = errors.New("only special addresses")

// A refusal is an address that is not dialed.
type refusal struct{ reason, fix string }

// screen parts addresses into those that may be dialed and those that may not. Addresses behind a name need no rule of
// their own as long as they are ordinary public ones, and not denied. It is pure.
func screen(a Access, addrs, own []netip.Addr, port uint16, behindName bool) (pass []netip.Addr, refused []refusal) {
	for _, addr := range addrs[:min(len(addrs), maxAnswers)] {
		if addr.Zone() != "" {
			refused = append(refused, refusal{reason: quote(addr.String()) + " has a zone"})
			continue
		}
		addr = addr.Unmap()
		mine := slices.Contains(own, addr)
		_, isSpecial := special(addr)
		_, denied := a.deniedAddr(addr, port)
		if behindName && !isSpecial && !mine && !denied {
			pass = append(pass, addr)
		} else if g := grantFor(a, addr, port, mine); g.ok {
			pass = append(pass, addr)
		} else {
			refused = append(refused, refusal{g.reason, g.fix})
		}
	}
	return pass, refused
}

// lookup resolves an allowed name.
func (g *Gateway) lookup(name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(g.ctx, g.wait.resolve)
	defer cancel()
	return g.cfg.Resolve(ctx, name)
}

// race dials the addresses one after the other without waiting long for any, as RFC 8305 has it, and returns the first
// connection that stands.
func (g *Gateway) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.wait.dial)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	dial := func(addr netip.Addr) {
		conn, err := g.cfg.Dial(ctx, netip.AddrPortFrom(addr, port))
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}
	var first error
	for started, pending := 0, 0; started < len(addrs) || pending > 0; {
		var next <-chan time.Time
		if started < len(addrs) {
			delay := g.wait.stagger
			if pending == 0 {
				delay = 0
			}
			next = time.After(delay)
		}
		select {
		case <-next:
			addr := addrs[started]
			g.work.Go(func() { dial(addr) })
			started, pending = started+1, pending+1
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			pending--
			if first == nil {
				first = r.err
			}
		case <-ctx.Done():
			return nil, errors.Join(first, ctx.Err())
		}
	}
	return nil, first
}

// dialHost connects over the host's network.
func dialHost(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
}

// resolveHost asks the host's resolver. The final dot keeps search domains out: the name that was judged is the name that
// is looked up. A name of one label is meant to be completed, or stands in /etc/hosts.
func resolveHost(ctx context.Context, name string) ([]netip.Addr, error) {
	if strings.Contains(name, ".") {
		name += "."
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// hostAddrs lists the addresses of the host's interfaces.
func hostAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}
