// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/profiles"
)

// proxyAddr is where a run finds the explicit proxy. It is of the pool, and the pool has too few names to come so far.
var proxyAddr = netip.MustParseAddrPort(profiles.ProxyAddress)

// serveProxy takes one request to the explicit proxy, HTTP or SOCKS5, told apart by the first byte. What was asked for is then judged as
// a connection to the address that a client would have dialed without a proxy: there is no other way to decide on it.
func (l *link) serveProxy() {
	l.in.setTimeout(l.g.wait.first)
	if l.in.fill(maxHead) != nil {
		l.idle("nothing was asked of the proxy")
		return
	}
	l.in.setTimeout(l.g.wait.proof)
	err := l.ask()
	l.conn.SetReadDeadline(time.Time{})
	var bad *headError
	if !errors.As(err, &bad) {
		l.serve()
		return
	}
	action := bad.action
	if l.asked == "" {
		action = actionProxy // nothing of it can be judged
	}
	l.deny(action, "", bad.why)
	l.refuse(bad.status, bad.why)
}

// ask reads the request and finds out where it leads. The error is a *headError.
func (l *link) ask() error {
	first := l.in.data[0]
	switch {
	case first == socksVersion:
		return l.askSOCKS()
	case first == 4:
		return malformed("SOCKS 4 has no names that can be judged: use SOCKS 5 (socks5h://), or HTTP")
	case sniff(l.in.data) == kindTLS:
		return malformed("the proxy is spoken to without TLS: http://%s", profiles.ProxyAddress)
	case !isToken([]byte{first}):
		return malformed("the first bytes are neither HTTP nor SOCKS 5")
	}
	l.kind = kindHTTP
	for headEnd(l.in.data) == 0 {
		switch err := l.in.fill(maxHead); {
		case errors.Is(err, errPeekFull):
			return malformed("the head of the request is longer than %d bytes", maxHead)
		case err != nil:
			return malformed("the head of the request is not complete")
		}
	}
	end := headEnd(l.in.data)
	r, err := parseProxyRequest(l.in.data[:end])
	if err != nil {
		return err
	}
	if l.absolute = !r.connect; r.connect {
		l.in.data = l.in.data[end:]
		l.answer = answerConnect
	}
	return l.lead(r.host, r.port)
}

// A proxyRequest is what an HTTP client asks a proxy for.
type proxyRequest struct {
	connect bool // a tunnel; otherwise the request itself is to be passed on
	host    string
	port    uint16
}

// parseProxyRequest reads the head of a request to a proxy: CONNECT, RFC 9110 section 9.3.6, or one in absolute form, RFC 9112
// section 3.2.2. Whatever else could name a destination must name the same. The host is not judged yet.
func parseProxyRequest(raw []byte) (proxyRequest, error) {
	lines, err := splitHead(raw)
	if err != nil {
		return proxyRequest{}, err
	}
	method, target, _, err := splitRequestLine(lines[0])
	if err != nil {
		return proxyRequest{}, err
	}
	h := head{line: lines[0], fields: lines[1:]}
	values, err := h.values()
	if err != nil {
		return proxyRequest{}, err
	}
	r := proxyRequest{connect: method == "CONNECT"}
	authority, fallback := target, uint16(0)
	if r.connect {
		if length := values["content-length"]; len(values["transfer-encoding"]) > 0 || len(length) > 0 && !slices.Equal(length, []string{"0"}) {
			return proxyRequest{}, malformed("CONNECT has no body")
		}
	} else {
		fallback = 80
		if authority, err = httpAuthority(target); err != nil {
			return proxyRequest{}, err
		}
	}
	if r.host, r.port, err = splitAuthority(authority, fallback); err != nil {
		return proxyRequest{}, malformed("the proxy is asked for a host that is none: %v", err)
	}
	switch hosts := values["host"]; {
	case r.port == 0:
		return proxyRequest{}, malformed("CONNECT to %s names no port", quote(authority))
	case r.connect && len(hosts) > 1:
		return proxyRequest{}, malformed("the request has %d Host fields", len(hosts))
	case r.connect && len(hosts) == 1:
		host, port, err := splitAuthority(hosts[0], r.port)
		if err != nil || port != r.port || !strings.EqualFold(strings.TrimSuffix(host, "."), strings.TrimSuffix(r.host, ".")) {
			return proxyRequest{}, malformed("CONNECT is for %s, but its Host field is for %s", quote(authority), quote(hosts[0]))
		}
	}
	return r, nil
}

// httpAuthority returns the authority of a target in absolute form.
func httpAuthority(target string) (string, error) {
	scheme, rest, ok := strings.Cut(target, "://")
	switch {
	case target[0] == '/' || target == "*":
		return "", malformed("the request is for the proxy itself, which has nothing to offer: give it a whole URL, or CONNECT")
	case ok && strings.EqualFold(scheme, "https"):
		return "", malformed("https goes through a proxy by CONNECT")
	case !ok || !strings.EqualFold(scheme, "http"):
		return "", malformed("the request target is not an http URL")
	case strings.Contains(rest, "#"):
		return "", malformed("the request target has a fragment, which is not for servers")
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return rest, nil
}

// lead sets where the connection leads: to the address that a client without a proxy would have dialed, a name's from the pool. A name
// that gets none there is refused here, too. The error is a *headError.
func (l *link) lead(host string, port uint16) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return malformed("the address %s has a zone, and a run has no interface but its loopback", quote(host))
		}
		l.asked, l.dst = addr.Unmap().String(), netip.AddrPortFrom(addr.Unmap(), port)
		return nil
	}
	name, err := canonicalName(host)
	if err != nil {
		return malformed("%v", err)
	}
	l.asked = name
	v := l.g.judgeQuery(dns.OpcodeQuery, dns.Question{Name: dns.Fqdn(name), Qtype: dns.TypeA, Qclass: dns.ClassINET})
	for _, record := range v.answer {
		if a, ok := record.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			l.dst = netip.AddrPortFrom(addr, port)
			return nil
		}
	}
	l.name, l.dst = name, netip.AddrPortFrom(l.dst.Addr(), port)
	return &headError{actionConnect, 403, v.reason}
}

// begin lets a client of the proxy go on where it waits for that: its next bytes are the proof.
func (l *link) begin() {
	if l.answer != nil {
		l.conn.Write(l.answer(200, "")) // an error shows at the next read
		l.answer = nil
	}
}

// answerConnect answers CONNECT.
func answerConnect(status int, why string) []byte {
	if status == 200 {
		return []byte("HTTP/1.1 200 Connection established\r\n\r\n")
	}
	return httpAnswer(status, why)
}

// serveAbsolute passes on a request in absolute form. It is the only one of its connection: the next one may be for another host, and
// who asks for it makes a new connection, since the server is told to close this one.
func (l *link) serveAbsolute() {
	br := bufio.NewReaderSize(&l.in, maxHead)
	h, req, err := l.nextRequest(br, cmp.Or(l.name, l.asked))
	switch {
	case err != nil:
		l.refuseRequest(err)
		return
	case !l.connectFor(true):
		return
	}
	h.direct(strings.TrimSuffix(net.JoinHostPort(l.asked, strconv.Itoa(int(l.dst.Port()))), ":80"))
	if l.plain {
		if err := h.forProxy(target(l.name, l.dst), l.secret); err != nil {
			l.refuseRequest(err)
			return
		}
	}
	l.answerFrom()
	if err := forward(l.out(), h, req, false); err != nil {
		l.unsent(err)
		return
	}
	l.lastAnswer(br)
}
