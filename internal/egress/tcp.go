// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

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
	held    func() bool // tells whether a program still has the other end of conn
	name    string      // behind dst, if it is of the pool
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
	traffic traffic       // of up, or of what a relay has in its place
	sending *delivery     // of what conn says

	// Of a request to the explicit proxy.
	asked    string                              // the host, in canonical form; empty without one
	absolute bool                                // in holds that request, and it is in absolute form
	answer   func(status int, why string) []byte // makes the answer that the client waits for; nil once it has one, or needs none
}

// serveConn judges one connection and carries it to its end.
func (g *Gateway) serveConn(n Net, conn net.Conn, sending *delivery) {
	l := &link{g: g, conn: conn, sending: sending, in: peeker{conn: conn}, src: addrPort(conn.RemoteAddr()), dst: addrPort(conn.LocalAddr())}
	if !l.dst.IsValid() {
		reset(conn)
		return
	}
	dialed := l.dst
	l.held = func() bool { return n.Owner("tcp", l.src, dialed).PID != 0 }
	l.proc = n.Owner("tcp", l.src, dialed)
	if g.cfg.Proxy && l.dst == proxyAddr {
		l.serveProxy()
	} else {
		l.serve()
	}
	if l.up != nil {
		l.release()
		l.up.Close()
	}
	g.tellEnd(&l.traffic, l.event(target(l.name, l.dst), actionConnect, audit.Allow, l.allow.Rule, "", ""))
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
		reason, fix := "the address is of the gateway's own pool, and no name has it", ""
		if l.dst == proxyAddr && !l.g.cfg.Proxy {
			reason, fix = "the address is that of the explicit proxy, which the policy does not ask for", "--proxy"
		}
		l.denyUnless(actionConnect, "", reason, fix)
		l.refuse(403, withFix(reason, fix))
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
	l.g.cfg.Sink.Emit(l.event(what, action, decision, rule, reason, errno))
}

func (l *link) event(what, action string, decision audit.Decision, rule, reason, errno string) audit.Event {
	return audit.Event{
		Class: audit.ClassNet, Action: action, Decision: decision, Target: what, Provenance: provenance(cmp.Or(l.name, l.asked)),
		Rule: rule, Reason: reason, Via: l.via, Errno: errno, Process: l.proc,
	}
}

func (l *link) deny(action, rule, reason string) { l.denyUnless(action, rule, reason, "") }

// denyUnless is deny where a flag would have allowed it.
func (l *link) denyUnless(action, rule, reason, fix string) {
	e := l.event(target(l.name, l.dst), action, audit.Deny, rule, reason, "")
	e.Fix = fix
	l.g.cfg.Sink.Emit(e)
}

// serveAddr handles a connection to an address that stands for no name.
func (l *link) serveAddr() {
	port := l.dst.Port()
	d := Decide(l.g.cfg.Access, "", l.dst.Addr(), port)
	if !d.Allow {
		reason := l.hint(d)
		l.denyUnless(actionConnect, d.Rule, reason, d.Fix)
		l.refuse(403, withFix(reason, d.Fix))
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
		l.denyUnless(actionConnect, d.Rule, d.Reason, d.Fix)
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

// answerFrom starts to copy what the server sends.
func (l *link) answerFrom() {
	l.pumped = make(chan struct{})
	l.g.work.Go(func() {
		defer close(l.pumped)
		if l.plain && !l.firstAnswer() {
			return
		}
		err := pump(l.conn, l.up)
		l.traffic.ended(err)
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
	l.sent()
	<-l.pumped
}

// sent tells the server that the client has said all.
func (l *link) sent() {
	closeWrite(l.up)
	l.sending.over()
}

// broken ends a connection after what the client sends could not be passed on. Where that is because the server is gone,
// which may answer and close without reading to the end, its answer still reaches the client.
func (l *link) broken() {
	l.traffic.cut.Store(true)
	if l.pumped != nil && gone(l.up) && !gone(l.conn) {
		<-l.pumped
		drain(l.conn)
		return
	}
	l.abort()
}

// abort resets both directions.
func (l *link) abort() {
	l.traffic.cut.Store(true)
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
