// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// A link is one connection of the run and, once it is allowed, the connection that continues it.
type link struct {
	g       *Gateway
	conn    net.Conn
	in      peeker // reads from conn
	src     netip.AddrPort
	dst     netip.AddrPort
	proc    audit.Process
	name    string // behind dst, if it is of the pool
	allow   Decision
	kind    kind
	up      net.Conn      // nil until connected
	release func() bool   // forgets that closing the Gateway closes up
	pumped  chan struct{} // closed when the direction from up to conn is done; nil until that is started
}

// serveConn judges one connection and carries it to its end.
func (g *Gateway) serveConn(n Net, conn net.Conn) {
	l := &link{g: g, conn: conn, in: peeker{conn: conn}, src: addrPort(conn.RemoteAddr()), dst: addrPort(conn.LocalAddr())}
	if !l.dst.IsValid() {
		reset(conn)
		return
	}
	l.proc = n.Owner("tcp", l.src, l.dst)
	if l.dst.Port() == dnsPort {
		g.serveDNS(l)
		return
	}
	name, pooled := g.sinks.name(l.dst.Addr())
	switch {
	case name != "":
		l.name = name
		l.serveName()
	case pooled:
		l.deny(actionConnect, "", "the address is of the gateway's own pool, and no name has it")
		reset(conn)
	default:
		l.serveAddr()
	}
	if l.up != nil {
		l.release()
		l.up.Close()
	}
}

// emit writes an event about the connection.
func (l *link) emit(action string, decision audit.Decision, rule, reason, errno string) {
	l.g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: action, Decision: decision,
		Target: target(l.name, l.dst), Provenance: provenance(l.name),
		Rule: rule, Reason: reason, Errno: errno, Process: l.proc,
	})
}

func (l *link) deny(action, rule, reason string) { l.emit(action, audit.Deny, rule, reason, "") }

// serveAddr handles a connection to an address that stands for no name.
func (l *link) serveAddr() {
	port := l.dst.Port()
	d := Decide(l.g.cfg.Rules, l.g.cfg.Loopback, "", l.dst.Addr(), port)
	if !d.Allow {
		l.deny(actionConnect, d.Rule, withFix(l.hint(d.Reason), d.Fix))
		reset(l.conn)
		return
	}
	l.allow, l.kind = d, kindOther
	if l.connect() {
		l.splice()
	}
}

// hint adds that an address is the one of an allowed name, where that is known.
func (l *link) hint(reason string) string {
	if name := l.g.dialed.name(l.dst.Addr()); name != "" {
		return fmt.Sprintf("%s; it belongs to %s, which is allowed by its name: connect to the name", reason, name)
	}
	return reason
}

// serveName handles a connection to a name.
func (l *link) serveName() {
	port := l.dst.Port()
	strict := port == 80 || port == 443
	d := Decide(l.g.cfg.Rules, l.g.cfg.Loopback, l.name, netip.Addr{}, port)
	if !d.Allow {
		l.deny(actionConnect, d.Rule, withFix(d.Reason, d.Fix))
		wait := l.g.wait.silence
		if strict {
			wait = l.g.wait.refuse
		}
		l.kind = l.in.classify(wait, l.g.wait.refuse)
		l.refuse(403, withFix(d.Reason, d.Fix))
		return
	}
	l.allow = d
	first := l.g.wait.silence
	if strict {
		first = l.g.wait.first
	}
	l.kind = l.in.classify(first, l.g.wait.proof)
	if l.kind == kindSilent && !strict {
		if !l.connect() {
			return
		}
		l.answerFrom()
		l.kind = l.in.classify(0, l.g.wait.proof)
	}
	switch l.kind {
	case kindTLS:
		l.serveTLS()
	case kindHTTP:
		l.serveHTTP()
	case kindClosed:
		l.serveClosed()
	case kindOther:
		if !strict && (l.up != nil || l.connect()) {
			l.splice()
		} else if strict {
			l.unproven(fmt.Sprintf("port %d takes TLS and HTTP only, and the first bytes are neither", port))
		}
	case kindProxied:
		l.unproven("a PROXY protocol header hides who asks for what")
	case kindSilent:
		l.unproven(fmt.Sprintf("nothing was sent for %v, and port %d is connected only when the name is proven", first, port))
	default:
		l.unproven("the first bytes did not become TLS or HTTP in time")
	}
}

// unproven denies a connection whose first bytes are no proof.
func (l *link) unproven(reason string) {
	l.deny(actionUnproven, l.allow.Rule, reason)
	l.abort()
}

// serveClosed handles a client that ended its direction before it sent anything.
func (l *link) serveClosed() {
	if l.up != nil {
		l.splice()
		return
	}
	l.emit(actionConnect, audit.Report, l.allow.Rule, "closed before anything was sent: nothing was dialed", "")
}

// serveTLS passes a TLS connection on if its hello carries the name.
func (l *link) serveTLS() {
	sni, err := l.in.hello(l.g.wait.proof)
	reason := ""
	if err != nil {
		reason = err.Error()
	} else if got, err := canonicalName(sni); err != nil || got != l.name {
		reason = fmt.Sprintf("the TLS hello asks for %s, but the connection was made to %s", quote(sni), l.name)
	}
	if reason != "" {
		l.deny(actionSNIMismatch, l.allow.Rule, reason)
		l.refuse(403, reason)
		return
	}
	if l.up != nil || l.connect() {
		l.splice()
	}
}

// connect writes the allow event and then dials. When it fails the agent is told, and the connection is over.
func (l *link) connect() bool {
	l.emit(actionConnect, audit.Allow, l.allow.Rule, l.allow.Reason, "")
	ctx, port := l.g.ctx, l.dst.Port()
	var err error
	switch {
	case l.allow.Loopback:
		l.up, err = l.g.race(ctx, loopbackAddrs(l.allow.Addr), port)
	case l.name != "":
		l.up, err = l.dialName(ctx)
	default:
		l.up, err = l.dialAddr(ctx)
	}
	if err == nil {
		l.release = context.AfterFunc(ctx, func() { l.up.Close() })
		return true
	}
	var bad *specialError
	if errors.As(err, &bad) {
		// Where the name leads stays in the log: the agent has no use for the host's view of DNS.
		l.refuse(403, l.target()+" resolves to an address that is not for everyone, such as a private one")
		return false
	}
	var errno syscall.Errno
	code := ""
	if errors.As(err, &errno) {
		code = unix.ErrnoName(errno)
	}
	l.emit(actionDialFailed, audit.Report, l.allow.Rule, err.Error(), code)
	l.refuse(502, l.target()+" is allowed, but could not be reached")
	return false
}

// dialName resolves the name and dials an address of it.
func (l *link) dialName(ctx context.Context) (net.Conn, error) {
	pass, refused, err := l.g.lookup(ctx, l.name, l.dst.Port())
	for _, r := range refused {
		l.deny(actionSpecial, l.allow.Rule, l.name+" resolves to a special address: "+r.reason)
	}
	if err != nil {
		return nil, err
	}
	l.g.dialed.add(pass, l.name)
	return l.g.race(ctx, pass, l.dst.Port())
}

// dialAddr dials an address that a rule allows, unless it is one of this host's own and the rule is for a network.
func (l *link) dialAddr(ctx context.Context) (net.Conn, error) {
	own, err := l.g.ownAddrs()
	if err != nil {
		return nil, err
	}
	for _, addr := range own {
		if addr != l.allow.Addr {
			continue
		}
		if r := grantFor(l.g.cfg.Rules, addr, l.dst.Port(), true); !r.ok {
			l.deny(actionSpecial, r.rule, r.reason)
			return nil, &specialError{[]grant{r}}
		}
	}
	return l.g.race(ctx, []netip.Addr{l.allow.Addr}, l.dst.Port())
}

func (l *link) target() string { return target(l.name, l.dst) }

// answerFrom starts to copy what the server sends.
func (l *link) answerFrom() {
	l.pumped = make(chan struct{})
	l.g.work.Go(func() {
		defer close(l.pumped)
		pump(l.conn, l.up)
	})
}

// splice carries both directions to their end, beginning with the bytes that were looked at.
func (l *link) splice() {
	if l.pumped == nil {
		l.answerFrom()
	}
	if _, err := l.up.Write(l.in.data); err != nil {
		l.abort()
	} else {
		l.in.data = nil
		pump(l.up, l.conn)
	}
	<-l.pumped
}

// abort resets both directions.
func (l *link) abort() {
	reset(l.conn)
	if l.up != nil {
		reset(l.up)
	}
	if l.pumped != nil {
		<-l.pumped
	}
}

// refuse ends a connection and tells the agent why, in the words of the protocol that it speaks.
func (l *link) refuse(status int, why string) {
	if l.pumped != nil {
		l.abort() // the server has spoken already: nothing can be put between
		return
	}
	switch l.kind {
	case kindHTTP:
		farewell(l.conn, httpAnswer(status, why))
	case kindTLS:
		if status == 403 {
			farewell(l.conn, accessDenied())
			return
		}
		reset(l.conn)
	default:
		reset(l.conn)
	}
	if l.up != nil {
		reset(l.up)
	}
}

// accessDenied is the TLS alert of that name: RFC 8446 section 6, alert 49, in a record of its own.
func accessDenied() []byte { return []byte{21, 3, 3, 0, 2, 2, 49} }

// httpAnswer is a whole HTTP response that says why a request was not passed on.
func httpAnswer(status int, why string) []byte {
	text := map[int]string{400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway"}[status]
	body := "agentjail: " + why + "\n"
	return []byte("HTTP/1.1 " + strconv.Itoa(status) + " " + text + "\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" +
		"X-Agentjail: refused\r\nConnection: close\r\n\r\n" + body)
}

// loopbackAddrs are the host's loopback addresses, the one that was asked for first. The other is tried as well: a server
// that listens on 127.0.0.1 only must be found by a client that was told ::1 by the name localhost.
func loopbackAddrs(asked netip.Addr) []netip.Addr {
	if asked == netip.IPv6Loopback() {
		return []netip.Addr{asked, loopback4}
	}
	return []netip.Addr{loopback4, netip.IPv6Loopback()}
}
