// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const plainProxy = "http_proxy=http://user:" + secret + "@proxy.test:3128"

// relay is a proxy that answers requests in absolute form, keeping the connection.
func (p *corporate) relay(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		p.mu.Lock()
		p.said = append(p.said, fmt.Sprintf("%s %s %s %s%s", req.Method, req.RequestURI, req.Host, req.Header.Get("Proxy-Authorization"), body))
		p.mu.Unlock()
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
	}
}

// Plain HTTP reaches the proxy in absolute form, whatever form the agent used, with the caller's credentials and not its own.
// Containment checks: I20.
func TestUpstreamPlainHTTP(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80", "site.test:8080")
	n.behind(plainProxy)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.relay)
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	for _, request := range []string{
		"GET /a?b HTTP/1.1\r\nHost: site.test\r\nProxy-Authorization: Basic b3du\r\nProxy-Connection: keep-alive\r\n\r\n",
		"POST http://site.test/up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\n body",
		"OPTIONS * HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"GET HTTP://SITE.test:80?q=http://x HTTP/1.1\r\nHost: SITE.test:80\r\n\r\n",
	} {
		if status, body := exchange(t, c, br, request); status != 200 || body != "ok\n" {
			t.Errorf("%q: %d %q", request, status, body)
		}
	}
	c = n.dialName("site.test", 8080)
	exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: site.test:8080\r\n\r\n")
	p.want(t, "GET http://site.test/a?b site.test "+wantBasic,
		"POST http://site.test/up site.test "+wantBasic+" body",
		"OPTIONS http://site.test site.test "+wantBasic,
		"GET http://site.test?q=http://x site.test "+wantBasic,
		"GET http://site.test:8080/ site.test:8080 "+wantBasic)
	n.wantEvents("net tcp.connect allow site.test:80", "net tcp.connect allow site.test:8080")
	if n.dialed() != "10.9.9.9:3128 10.9.9.9:3128" {
		t.Errorf("dialed %s", n.dialed())
	}
}

// A later request for another host does not reach the proxy, which would serve it.
func TestUpstreamLaterRequest(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.behind(plainProxy)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.relay)
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	exchange(t, c, br, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	send(t, c, "GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n")
	io.ReadAll(br)
	n.wantEvents("net tcp.connect allow site.test:80", "net http.host_mismatch deny site.test:80")
	p.want(t, "GET http://site.test/ site.test "+wantBasic)
}

// TRACE would have the proxy show what it was sent.
func TestUpstreamTrace(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.behind(plainProxy)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.relay)
	c := n.dialName("site.test", 80)
	if status, _ := exchange(t, c, bufio.NewReader(c), "TRACE / HTTP/1.1\r\nHost: site.test\r\nMax-Forwards: 0\r\n\r\n"); status != 403 {
		t.Errorf("status %d", status)
	}
	n.wantEvents("net tcp.connect allow site.test:80", "net http.malformed deny site.test:80")
	p.want(t)
}

func TestUpstreamWebsocket(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.behind(plainProxy)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.tunnel("", func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, int64(len(upgrade)))))
		if err != nil || req.Header.Get("Proxy-Authorization") != "" || req.RequestURI[0] != '/' {
			t.Errorf("the server got %+v, %v", req, err)
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\n")
		echo(c)
	}))
	c := n.dialName("site.test", 80)
	send(t, c, upgrade+"frame\n")
	wantRead(t, c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\necho: frame\n")
	p.want(t, "CONNECT site.test:80 site.test:80 "+wantBasic)
}

// What the proxy answers for itself is no answer for the agent; what may be the server's is passed on, and on record.
func TestUpstreamPlainHTTPFails(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"
	for _, test := range []struct {
		answer string
		status int
		reason string
	}{
		{"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", 502, `the proxy proxy.test:3128: it answered "407 No": user and password`},
		{"rubbish\r\n\r\n", 502, `it answered "rubbish", which is not HTTP`},
		{"", 502, "it closed the connection without an answer"},
		{"HTTP/1.1 403 Denied by ACL\r\nContent-Length: 0\r\n\r\n", 403, `the proxy proxy.test:3128 answered "403 Denied by ACL", or the server`},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n", 503, `answered "503 Full"`},
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, ""},
		{"HTTP/1.0 200 OK\r\n\r\nto the end", 200, ""},
	} {
		n := newNetwork(t, nil, "site.test:80")
		n.behind(plainProxy)
		n.server("10.9.9.9:3128", func(c net.Conn) {
			new(corporate).proxied(c)
			io.WriteString(c, test.answer)
		})
		c := n.dialName("site.test", 80)
		send(t, c, request)
		raw, _ := io.ReadAll(c)
		_, last, found := strings.Cut(string(raw), "100 Continue\r\n\r\n")
		if !found {
			last = string(raw)
		}
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(last)), nil)
		if err != nil || resp.StatusCode != test.status {
			t.Errorf("%q: the agent got %q", test.answer, raw)
		}
		events := []string{"net tcp.connect allow site.test:80"}
		if test.reason != "" {
			events = append(events, "net dial.failed report site.test:80")
		}
		n.wantEvents(events...)
		if e := n.log.last(t); test.reason != "" && !strings.Contains(e.Reason, test.reason) || e.Via != "proxy.test:3128" {
			t.Errorf("%q: %+v", test.answer, e)
		}
		if n.dialed() != "10.9.9.9:3128" {
			t.Errorf("dialed %s", n.dialed())
		}
	}
}

// Without http_proxy plain HTTP is dialed directly, as programs outside do.
func TestUpstreamForTLSOnly(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.behind(both)
	n.web(mirror)
	c := n.dialName("site.test", 80)
	if status, _ := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != 200 {
		t.Errorf("status %d", status)
	}
	if e := n.log.last(t); e.Via != "" {
		t.Errorf("%+v", e)
	}
}

// FuzzProxyAnswer: whatever a proxy answers is a status of three digits, or none, and what is quoted of it is short ASCII.
// Containment checks: I23.
func FuzzProxyAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 407 x\r\n", "HTTP/1.1 20", "HTTP/1.1 +20 x\n", "\n", "", "HTTP/1.1 200\x00\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		status, text := proxyStatus(head)
		if status != 0 && (status < 100 || status > 999) || len(text) > 4*maxQuoted*3 {
			t.Errorf("%d %s", status, text)
		}
		for _, c := range []byte(text) {
			if c < ' ' || c > '~' {
				t.Errorf("quoted as %q", text)
			}
		}
	})
}

// TestUpstreamOfTheExplicitProxy: a request in absolute form goes to the upstream proxy in that form, without what was for the inner one.
func TestUpstreamOfTheExplicitProxy(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.behind(plainProxy)
	p := new(corporate)
	n.server("10.9.9.9:3128", func(c net.Conn) {
		if req := p.proxied(c); req != nil && req.Close {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n")
		}
	})
	for _, request := range []string{
		"GET http://site.test/a?b HTTP/1.1\r\nHost: site.test\r\nProxy-Authorization: Basic b3du\r\n\r\n",
		"OPTIONS http://site.test HTTP/1.1\r\nHost: site.test\r\n\r\n",
	} {
		c := n.explicit()
		if status, body := exchange(t, c, bufio.NewReader(c), request); status != 200 || body != "ok\n" {
			t.Errorf("%q: %d %q", request, status, body)
		}
	}
	p.want(t, "GET http://site.test/a?b site.test "+wantBasic, "OPTIONS http://site.test site.test "+wantBasic)
	c := n.explicit()
	if status, body := exchange(t, c, bufio.NewReader(c), "TRACE http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != 403 || !strings.Contains(body, "TRACE") {
		t.Errorf("%d %q", status, body)
	}
}
