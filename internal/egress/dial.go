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

	"github.com/agentjail/agentjail/profiles"
)

// A closedError is a destination whose addresses are all refused.
type closedError struct{ refused []refusal }

func (e *closedError) Error() string { return "all of its addresses are refused" }

// answer is what the agent is told of the destination. Where the name leads stays in the log: the agent has no use for the host's view
// of DNS.
func (e *closedError) answer(to string) string {
	for _, r := range e.refused {
		if r.denial != nil {
			return denialReason(to+" leads to an address that", *r.denial)
		}
	}
	return to + " leads to an address that needs a rule of its own, such as a private one"
}

// A refusal is an address that is not dialed.
type refusal struct {
	reason, fix string
	denial      *profiles.Denial // nil for a special address that nothing denies
}

// screen parts addresses into those that may be dialed and those that may not. Addresses behind a name need no rule of
// their own as long as they are ordinary public ones, and not denied. It is pure.
func screen(a Access, addrs, own []netip.Addr, port uint16, behindName bool) (pass []netip.Addr, refused []refusal) {
	for _, addr := range addrs[:min(len(addrs), maxAnswers)] {
		if addr.Zone() != "" {
			refused = append(refused, refusal{reason: quote(addr.String()) + " has a zone"})
			continue
		}
		addr = addr.Unmap()
		inner, _ := nat64(addr)
		mine := slices.Contains(own, addr) || slices.Contains(own, inner)
		_, isSpecial := special(addr)
		denial, denied := a.deniedAddr(addr, port)
		if behindName && !isSpecial && !mine && !denied {
			pass = append(pass, addr)
		} else if g := grantFor(a, addr, port, mine); g.ok {
			pass = append(pass, addr)
		} else if denied {
			refused = append(refused, refusal{g.reason, g.fix, &denial})
		} else {
			refused = append(refused, refusal{g.reason, g.fix, nil})
		}
	}
	return pass, refused
}

// lookup resolves an allowed name, or says what it resolved to a moment ago.
func (g *Gateway) lookup(name string) ([]netip.Addr, error) {
	now := time.Now()
	if addrs := g.lookups.of(name, now); addrs != nil {
		return addrs, nil
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.wait.resolve)
	defer cancel()
	addrs, err := g.cfg.Resolve(ctx, name)
	if err == nil {
		g.lookups.add(name, addrs, now)
	}
	return addrs, err
}

// race dials the addresses one after the other without waiting long for any, as RFC 8305 has it, and returns the first
// connection that stands.
func (g *Gateway) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.wait.dial)
	defer cancel()
	if len(addrs) == 1 {
		return g.cfg.Dial(ctx, netip.AddrPortFrom(addrs[0], port))
	}
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
