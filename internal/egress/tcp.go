// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

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
	by      *url.URL      // the upstream proxy; nil without one
	via     string        // and its HOST:PORT
	plain   bool          // up is that proxy itself, for requests in absolute form
	secret  string        // the Proxy-Authorization for them
	up      net.Conn      // nil until connected
	release func() bool   // forgets that closing the Gateway closes up
	pumped  chan struct{} // closed when the direction from up to conn is done; nil until that is started
	paused  bool          // that direction was stopped, and can go on; read it once pumped is closed

	// Of a request to the explicit proxy.
	asked    string                              // the host, in canonical form; empty without one
	absolute bool                                // in holds that request, and it is in absolute form
	answer   func(status int, why string) []byte // makes the answer that the client waits for; nil once it has one, or needs none
}

// serveConn judges one connection and carries it to its end.
func (g *Gateway) serveConn(n Net, conn net.Conn) {
	l := &link{g: g, conn: conn, in: peeker{conn: conn}, src: addrPort(conn.RemoteAddr()), dst: addrPort(conn.LocalAddr())}
	if !l.dst.IsValid() {
		reset(conn)
		return
	}
	l.proc = n.Owner("tcp", l.src, l.dst)
	if g.cfg.Proxy && l.dst == proxyAddr {
		l.serveProxy()
	} else {
		l.serve()
	}
	if l.up != nil {
		l.release()
		l.up.Close()
	}
}

// serve judges the connection to dst, however that was asked for.
func (l *link) serve() {
	name, pooled := l.g.sinks.name(l.dst.Addr())
	switch {
	case l.dst.Port() == dnsPort:
		l.begin()
		l.g.serveDNS(l)
	case name != "":
		l.name = name
		l.serveName()
	case pooled:
		reason := "the address is of the gateway's own pool, and no name has it"
		if l.dst == proxyAddr && !l.g.cfg.Proxy {
			reason = "the address is that of the explicit proxy, which the policy does not ask for; to have it: --proxy"
		}
		l.deny(actionConnect, "", reason)
		l.refuse(403, reason)
	default:
		l.serveAddr()
	}
}

// emit writes an event about the connection.
func (l *link) emit(action string, decision audit.Decision, rule, reason, errno string) {
	l.emitFor(target(l.name, l.dst), action, decision, rule, reason, errno)
}

// emitFor writes an event about something that is more than the connection.
func (l *link) emitFor(what, action string, decision audit.Decision, rule, reason, errno string) {
	l.g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: action, Decision: decision, Target: what, Provenance: provenance(cmp.Or(l.name, l.asked)),
		Rule: rule, Reason: reason, Via: l.via, Errno: errno, Process: l.proc,
	})
}

func (l *link) deny(action, rule, reason string) { l.emit(action, audit.Deny, rule, reason, "") }

// serveAddr handles a connection to an address that stands for no name.
func (l *link) serveAddr() {
	port := l.dst.Port()
	d := Decide(l.g.cfg.Access, "", l.dst.Addr(), port)
	if !d.Allow {
		reason := withFix(l.hint(d), d.Fix)
		l.deny(actionConnect, d.Rule, reason)
		l.refuse(403, reason)
		return
	}
	l.allow = d
	if l.absolute {
		l.serveAbsolute()
		return
	}
	l.kind = kindOther
	if l.connect() {
		l.begin()
		l.splice()
	}
}

// hint adds that an address is the one of an allowed name, where that is known. A proxy cannot tell who listens on the run's own loopback.
func (l *link) hint(d Decision) string {
	if l.asked != "" && d.Rule == "" && l.dst.Addr().IsLoopback() {
		return fmt.Sprintf("port %d of the host's loopback is not allowed, and the run's own is not reached by the proxy: leave it to NO_PROXY", l.dst.Port())
	}
	if name := l.g.dialed.name(l.dst.Addr()); name != "" {
		return fmt.Sprintf("%s; it belongs to %s, which is allowed by its name: connect to the name", d.Reason, name)
	}
	return d.Reason
}

// serveName handles a connection to a name.
func (l *link) serveName() {
	port := l.dst.Port()
	strict := port == 80 || port == 443
	d := Decide(l.g.cfg.Access, l.name, netip.Addr{}, port)
	if !d.Allow {
		l.deny(actionConnect, d.Rule, withFix(d.Reason, d.Fix))
		wait := l.g.wait.silence
		if strict {
			wait = l.g.wait.refuse
		}
		if l.answer == nil {
			l.kind = l.in.classify(wait, l.g.wait.refuse)
		}
		l.refuse(403, withFix(d.Reason, d.Fix))
		return
	}
	l.allow = d
	l.begin()
	rules := l.g.cfg.rulesFor(l.name, port)
	requests, inspected := narrow(rules) || inspects(rules), inspects(rules)
	strict = strict || requests
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
	switch {
	case requests && l.kind == kindHTTP:
		l.serveRelay(rules)
		return
	case inspected && l.kind == kindTLS:
		l.serveInspected(rules)
		return
	case requests && l.kind == kindTLS:
		l.unproven("the rule grants some HTTP requests alone, and TLS hides which")
		return
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
			l.unproven(notWeb(port, requests))
		}
	case kindProxied:
		l.unproven("a PROXY protocol header hides who asks for what")
	case kindSilent:
		l.idle(fmt.Sprintf("nothing was sent for %v: nothing was dialed, for port %d is only when the first bytes prove the name", first, port))
		reset(l.conn)
	default:
		l.unproven("the first bytes did not become TLS or HTTP in time")
	}
}

// notWeb says why what is neither TLS nor HTTP is refused.
func notWeb(port uint16, requests bool) string {
	if requests {
		return "the rule grants HTTP requests alone, and the first bytes are of none"
	}
	return fmt.Sprintf("port %d takes TLS and HTTP only, and the first bytes are neither", port)
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
	l.idle("closed before anything was sent: nothing was dialed")
}

// idle writes the event of a connection that nothing was sent on, and that nothing was dialed for. It is no denial: browsers and
// other HTTP clients open connections in advance.
func (l *link) idle(reason string) {
	l.emit(actionConnect, audit.Report, l.allow.Rule, reason, "")
}

// serveTLS passes a TLS connection on if its hello carries the name.
func (l *link) serveTLS() {
	if l.proveTLS() && (l.up != nil || l.connect()) {
		l.splice()
	}
}

// proveTLS refuses a hello that does not carry the name.
func (l *link) proveTLS() bool {
	sni, err := l.in.hello(l.g.wait.proof)
	reason := ""
	if err != nil {
		reason = err.Error()
	} else if !means(sni, l.name) {
		reason = fmt.Sprintf("the TLS hello asks for %s, but the connection was made to %s", quote(sni), l.name)
	}
	if reason != "" {
		l.deny(actionSNIMismatch, l.allow.Rule, reason)
		l.refuse(403, reason)
	}
	return reason == ""
}

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
	err := l.route(absolute)
	var dial func() (net.Conn, error)
	if err == nil {
		dial, err = l.way()
	}
	if err == nil {
		l.emit(actionConnect, audit.Allow, l.allow.Rule, l.allow.Reason, "")
		l.up, err = dial()
	}
	if err == nil {
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
		l.deny(actionSpecial, l.allow.Rule, withFix(leads+r.reason, r.fix))
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

// answerFrom starts to copy what the server sends.
func (l *link) answerFrom() {
	l.pumped = make(chan struct{})
	l.g.work.Go(func() {
		defer close(l.pumped)
		if l.plain && !l.firstAnswer() {
			return
		}
		err := pump(l.conn, l.up)
		l.paused = errors.Is(err, os.ErrDeadlineExceeded)
	})
}

// takeBack stops what answerFrom has started, so that what the server says next can be looked at; if it says anything more.
func (l *link) takeBack() {
	l.up.SetReadDeadline(time.Unix(1, 0))
	<-l.pumped
	l.up.SetReadDeadline(time.Time{})
	if l.paused {
		l.pumped = nil
	}
}

// splice carries both directions to their end, beginning with the bytes that were looked at.
func (l *link) splice() {
	if l.pumped == nil {
		l.answerFrom()
	}
	out := l.out()
	_, err := out.Write(l.in.data)
	if err == nil {
		l.in.data = nil
		_, err = io.Copy(out, l.conn)
	}
	if err != nil {
		l.broken()
		return
	}
	closeWrite(l.up)
	<-l.pumped
}

// broken ends a connection after what the client sends could not be passed on. Where that is because the server is gone,
// which may answer and close without reading to the end, its answer still reaches the client.
func (l *link) broken() {
	if l.pumped != nil && gone(l.up) && !gone(l.conn) {
		<-l.pumped
		drain(l.conn)
		return
	}
	l.abort()
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
	if l.answer != nil {
		farewell(l.conn, l.answer(status, why))
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
