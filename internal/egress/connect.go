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

// connect finds out how to reach the destination, writes the allow event, and dials. When it fails the agent is told, and the
// connection is over.
func (l *link) connect() bool { return l.connectFor(false) }

// connectFor is connect where absolute says that the connection is for HTTP requests alone: such go to a proxy as they are,
// since proxies seldom allow a tunnel to port 80.
func (l *link) connectFor(absolute bool) bool {
	if l.g.uploads.counts() {
		if s := l.count(0); s.rule != "" {
			l.refuse(403, target(l.name, l.dst)+" is allowed, but "+s.reason())
			return false
		}
	}
	if l.kind != kindOther && l.kind != kindHTTP {
		l.sending.over() // nothing that is of use without an answer was sent: the end of the run need not wait for a dial
	}
	err := l.route(absolute)
	var (
		dial func() (net.Conn, error)
		up   net.Conn
	)
	if err == nil {
		dial, err = l.way()
	}
	if err == nil {
		l.emit(actionConnect, audit.Allow, l.allow.Rule, l.allow.Reason, "")
		up, err = dial()
	}
	if err == nil {
		l.up = spliced{l.traffic.meter(up)}
		l.sending.toward(up)
		l.release = context.AfterFunc(l.g.ctx, func() { l.up.Close() })
		return true
	}
	if closed := (*closedError)(nil); errors.As(err, &closed) {
		l.refuse(403, closed.answer(target(l.name, l.dst)))
		return false
	}
	l.g.lookups.forget(l.name) // the host may have moved
	l.failed(err.Error(), errnoName(err))
	l.refuse(502, l.unreached())
	return false
}

// errnoName is the name of the errno in an error, "" without one.
func errnoName(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}

// failed records that an allowed destination could not be reached.
func (l *link) failed(reason, errno string) {
	l.emit(actionDialFailed, audit.Report, l.allow.Rule, reason, errno)
}

// unreached is what the agent is told of that.
func (l *link) unreached() string {
	return target(l.name, l.dst) + " is allowed, but could not be reached"
}

// route finds out by which proxy the destination is reached, if by any.
func (l *link) route(absolute bool) (err error) {
	if l.allow.Loopback {
		return nil
	}
	l.by, err = l.g.proxy.proxyFor(target(l.name, l.dst), l.kind == kindHTTP)
	if err != nil || l.by == nil {
		return err
	}
	l.via, l.plain = l.by.Host, absolute && speaksHTTP(l.by)
	if l.plain {
		l.secret = basic(l.by)
	}
	return nil
}

// way returns how to dial what was allowed, by that route. A name that goes by a proxy is not resolved here: where there is a proxy, the
// host often cannot. An address is compared with the special ones in any case.
func (l *link) way() (dial func() (net.Conn, error), err error) {
	var addrs []netip.Addr
	if l.by == nil || l.name == "" {
		if addrs, err = l.addresses(); err != nil {
			return nil, err
		}
	}
	if l.by == nil {
		return func() (net.Conn, error) { return l.g.race(l.g.ctx, addrs, l.dst.Port()) }, nil
	}
	return func() (net.Conn, error) { return l.g.throughProxy(l.by, target(l.name, l.dst), l.plain) }, nil
}

// addresses returns what to dial. Each special address that is left out is a denial; if no other is left the error is
// a *closedError.
func (l *link) addresses() ([]netip.Addr, error) {
	if l.allow.Loopback {
		return loopbackAddrs(l.allow.Addr), nil
	}
	answers, err := []netip.Addr{l.allow.Addr}, error(nil)
	leads := ""
	if l.name != "" {
		answers, err = l.g.lookup(l.name)
		leads = l.name + " resolves to a special address: "
	}
	if err != nil {
		return nil, err
	}
	own, err := l.g.cfg.HostAddrs()
	if err != nil {
		return nil, fmt.Errorf("cannot list this host's addresses: %w", err)
	}
	pass, refused := screen(l.g.cfg.Access, answers, own, l.dst.Port(), l.name != "")
	for _, r := range refused {
		l.denyUnless(actionSpecial, l.allow.Rule, leads+r.reason, r.fix)
	}
	if l.name != "" {
		l.g.dialed.add(pass, l.name)
	}
	switch {
	case len(pass) > 0:
		return pass, nil
	case len(refused) > 0:
		return nil, &closedError{refused}
	}
	return nil, errors.New("the name has no address")
}

// loopbackAddrs are the host's loopback addresses, the one that was asked for first. The other is tried as well: a server
// that listens on 127.0.0.1 only must be found by a client that was told ::1 by the name localhost.
func loopbackAddrs(asked netip.Addr) []netip.Addr {
	if asked == netip.IPv6Loopback() {
		return []netip.Addr{asked, loopback4}
	}
	return []netip.Addr{loopback4, netip.IPv6Loopback()}
}
