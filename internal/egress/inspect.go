// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/egress/authority"
	"github.com/agentjail/agentjail/profiles"
)

// inspects reports whether the rules of one destination have its TLS inspected.
func inspects(rules []profiles.Rule) bool {
	return slices.ContainsFunc(rules, func(r profiles.Rule) bool { return r.Requests.Inspect })
}

// newAuthority makes the run's authority, nil where nothing is inspected.
func newAuthority(rules []profiles.Rule) (*authority.Authority, error) {
	var names []string
	for _, r := range rules {
		if r.Requests.Inspect {
			names = append(names, r.Host)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	return authority.New(slices.Compact(names))
}

// Authority is the certificate that programs inside must trust, in PEM; nil where nothing is inspected.
func (g *Gateway) Authority() []byte {
	if g.authority == nil {
		return nil
	}
	return g.authority.PEM()
}

// tellAuthority records by which authority the run's TLS is inspected, and for which hosts.
func (g *Gateway) tellAuthority() {
	if g.authority == nil {
		return
	}
	var hosts []string
	for _, r := range g.cfg.Rules {
		if r.Requests.Inspect {
			hosts = append(hosts, r.Target())
		}
	}
	g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: actionAuthority, Decision: audit.Report, Target: "sha256:" + g.authority.Fingerprint(),
		Reason: "TLS is inspected by this certificate, to " + strings.Join(slices.Compact(hosts), ", "), Provenance: audit.FromResolved,
	})
}

// unread is a connection of which some was looked at.
type unread struct {
	net.Conn
	in   *peeker
	last []byte // what came last, as much as an alert
}

func (u *unread) Read(b []byte) (int, error) {
	n, err := u.in.Read(b)
	u.last = append(u.last, b[max(n-alertSize, 0):n]...)
	u.last = u.last[max(len(u.last)-alertSize, 0):]
	return n, err
}

// NetConn is the connection itself.
func (u *unread) NetConn() net.Conn { return u.Conn }

// alertSize is that of an alert that is not encrypted, with its record: RFC 8446 section 6.
const alertSize = recordHeader + 2

// alert is one that came last and was not encrypted. OpenSSL sends it so where it does not accept a certificate in TLS 1.3, and Go, which
// has its keys already, takes it for a bad record.
func (u *unread) alert() (tls.AlertError, bool) {
	if len(u.last) != alertSize || u.last[0] != 21 || u.last[1] != 3 || u.last[3] != 0 || u.last[4] != 2 {
		return 0, false
	}
	return tls.AlertError(u.last[6]), true
}

// serveInspected ends the TLS of a client whose hello has named the host, and judges the requests in it. To the server there is TLS of the
// gateway's own, in which the host's authorities vouch for the name: see newRelay.
func (l *link) serveInspected(rules []profiles.Rule) {
	if !l.proveTLS() {
		return
	}
	certificate, err := l.g.authority.For(l.name)
	if err == nil {
		err = l.route(false)
	}
	if err != nil {
		l.failed(err.Error(), "")
		l.abort()
		return
	}
	client := witnessed{wrapped{l.conn}, &l.traffic}
	raw := &unread{Conn: client, in: &peeker{conn: client, data: l.in.data}}
	conn := tls.Server(raw, &tls.Config{
		Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{protoHTTP2, "http/1.1"},
		SessionTicketsDisabled: true,
	})
	ctx, cancel := context.WithTimeout(l.g.ctx, l.g.wait.proof)
	err = conn.HandshakeContext(ctx)
	cancel()
	if err != nil {
		l.emit(actionHandshake, audit.Report, l.allow.Rule, raw.reason(err), "")
		conn.Close()
		return
	}
	defer conn.Close()
	l.conn, l.in, l.kind = conn, peeker{conn: conn}, kindHTTP
	x := l.newRelay("https", rules)
	defer x.close()
	if conn.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		x.serveStreams(conn)
		return
	}
	x.serve()
}

// reason says why a client did not go on.
func (u *unread) reason(err error) string {
	var remote *net.OpError
	said := errors.As(err, &remote) && remote.Op == "remote error"
	if said {
		err = remote.Err
	} else if alert, ok := u.alert(); ok {
		said, err = true, alert
	}
	if said {
		return fmt.Sprintf("tls alert from the client: %v; a program that trusts certificates of its own alone needs a rule without tls: inspect", err)
	}
	return "the client did not finish the TLS handshake: " + err.Error()
}

// protoHTTP2 is HTTP/2 in TLS (RFC 9113 section 3.2).
const protoHTTP2 = "h2"

// Bounds of an HTTP/2 connection.
const (
	maxStreams       = 100
	maxStreamBuffer  = 256 << 10
	maxConnBuffer    = 1 << 20
	pingAfter        = time.Minute // of silence
	pingAnswer       = 15 * time.Second
	writeStall       = time.Minute // in which nothing that is written is taken
	closeStreamsIdle = 10 * time.Minute
)

// serveStreams answers the requests of an HTTP/2 connection.
func (x *relay) serveStreams(conn net.Conn) {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	one := &oneConn{conn: conn, done: make(chan struct{})}
	server := &http.Server{
		Handler: http.HandlerFunc(x.serveStream), Protocols: &protocols, MaxHeaderBytes: maxHead, ErrorLog: quiet, IdleTimeout: closeStreamsIdle,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: maxStreamBuffer, MaxReceiveBufferPerConnection: maxConnBuffer,
			SendPingTimeout: pingAfter, PingTimeout: pingAnswer, WriteByteTimeout: writeStall,
		},
		BaseContext: func(net.Listener) context.Context { return x.l.g.ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				one.Close()
			}
		},
	}
	server.Serve(one)
}

// oneConn is a listener with one connection, until Close.
type oneConn struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	if c := o.conn; c != nil {
		o.conn = nil
		return c, nil
	}
	<-o.done
	return nil, net.ErrClosed
}

func (o *oneConn) Close() error {
	o.once.Do(func() { close(o.done) })
	return nil
}

func (o *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// serveStream judges the form of a request, as parseHead does for HTTP/1, and what it asks for.
func (x *relay) serveStream(w http.ResponseWriter, r *http.Request) {
	err := checkStream(r, x.l.name, x.l.dst.Port())
	var bad *headError
	if errors.As(err, &bad) {
		x.l.deny(bad.action, x.l.allow.Rule, bad.why)
		x.answer(w, bad.status, bad.why)
		return
	}
	x.ServeHTTP(w, r)
}

// checkStream accepts only requests for the host. The error is a *headError.
func checkStream(r *http.Request, name string, port uint16) error {
	if !isToken([]byte(r.Method)) || r.Method == "" || r.RequestURI == "" {
		return malformed("the request has no method or path that could be judged")
	}
	if r.Method == http.MethodConnect {
		return mismatch("CONNECT asks for a tunnel, which would not be judged")
	}
	if r.RequestURI[0] != '/' && !(r.RequestURI == "*" && r.Method == http.MethodOptions) {
		return malformed("the request target is not a path")
	}
	if err := checkCharacters(r.RequestURI); err != nil {
		return err
	}
	for _, authority := range append(r.Header.Values("Host"), r.Host) {
		if err := checkAuthority(authority, name, port); err != nil {
			return err
		}
	}
	return nil
}
