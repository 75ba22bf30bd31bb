// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// secret is the password of every proxy here. It must be in no event and in no answer.
const secret = "CANARY-password"

var wantBasic = "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret))

// corporate is an upstream proxy at 10.9.9.9:3128, the address of proxy.test.
type corporate struct {
	mu   sync.Mutex
	said []string // request lines, "HOST Proxy-Authorization" of each
}

// behind puts the gateway behind a proxy that answers with handle.
func (n *network) behind(environ ...string) {
	n.t.Helper()
	up, err := profiles.FindUpstream("", environ)
	if err != nil {
		n.t.Fatal(err)
	}
	n.g.cfg.Upstream, n.g.proxy = up, newUpstream(up)
	n.host("proxy.test", "10.9.9.9")
	n.t.Cleanup(func() {
		n.log.mu.Lock()
		defer n.log.mu.Unlock()
		for _, e := range n.log.events {
			if text := fmt.Sprintf("%+v", e); strings.Contains(text, "CANARY") || strings.Contains(text, wantBasic[6:]) {
				n.t.Errorf("the log has the proxy's credentials: %s", text)
			}
		}
	})
}

// proxied reads one request as a proxy and notes it.
func (p *corporate) proxied(c net.Conn) *http.Request {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, fmt.Sprintf("%s %s %s %s", req.Method, req.RequestURI, req.Host, req.Header.Get("Proxy-Authorization")))
	return req
}

func (p *corporate) want(t *testing.T, lines ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(p.said, "\n"); got != strings.Join(lines, "\n") {
		t.Errorf("the proxy was asked:\n%s\nwant:\n%s", got, strings.Join(lines, "\n"))
	}
}

// tunnel is a proxy that answers CONNECT and is the server, too. What it says first is in the same packet.
func (p *corporate) tunnel(first string, server func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if p.proxied(c) == nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 Connection established\r\nVia: squid\r\n\r\n"+first)
		server(c)
	}
}

const both = "https_proxy=http://user:" + secret + "@proxy.test:3128"

func TestUpstreamConnect(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test", "git.test:22")
	n.behind(both)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.tunnel("", tlsEcho(t)))
	c := n.dialName("allowed.test", 443)
	secure := tls.Client(c, &tls.Config{ServerName: "allowed.test", InsecureSkipVerify: true})
	send(t, secure, "hello\n")
	wantRead(t, secure, "echo: hello\n")
	p.want(t, "CONNECT allowed.test:443 allowed.test:443 "+wantBasic)
	n.wantEvents("net tcp.connect allow allowed.test:443")
	if e := n.log.last(t); e.Via != "proxy.test:3128" {
		t.Errorf("the event is %+v", e)
	}
	// The name was not looked up: the host often cannot.
	if got := strings.Join(n.looked, " "); got != "proxy.test" {
		t.Errorf("looked up %s", got)
	}
}

// A server that speaks first is heard to the last byte, although its words came with the proxy's.
func TestUpstreamServerSpeaksFirst(t *testing.T) {
	n := newNetwork(t, nil, "git.test:22")
	n.behind(both)
	p := new(corporate)
	n.server("10.9.9.9:3128", p.tunnel("SSH-2.0-server\r\n", echo))
	c := n.dialName("git.test", 22)
	wantRead(t, c, "SSH-2.0-server\r\n")
	send(t, c, "SSH-2.0-client\n")
	wantRead(t, c, "echo: SSH-2.0-client\n")
	p.want(t, "CONNECT git.test:22 git.test:22 "+wantBasic)
	c.Close()
	n.wantEnd("", 15, 16+21) // without what was said to the proxy
}

// The decision and the proof of identity come before the proxy hears of anything.
// Containment checks: I21.
func TestUpstreamDecidesNothing(t *testing.T) {
	n := newNetwork(t, []uint16{8080}, "allowed.test", "allowed.test:80", "0.0.0.0/0:22")
	n.behind(both, "http_proxy=http://proxy.test:3128")
	p := new(corporate)
	n.server("10.9.9.9:3128", p.tunnel("", echo))
	n.server("127.0.0.1:8080", echo)

	c := n.dialName("denied.test", 443)
	send(t, c, string(hello(t, "denied.test")))
	wantRead(t, c, string(accessDenied()))
	c = n.dialName("allowed.test", 443)
	send(t, c, string(hello(t, "denied.test")))
	wantRead(t, c, string(accessDenied()))
	c = n.dialName("allowed.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 403") {
		t.Errorf("got %q", b)
	}
	wantReset(t, n.dial("169.254.169.254:22"))
	n.own = []netip.Addr{netip.MustParseAddr("93.184.216.99")} // this host's own address needs a rule for itself
	wantReset(t, n.dial("93.184.216.99:22"))
	n.wantEvents("net tcp.connect deny denied.test:443", "net tls.sni_mismatch deny allowed.test:443",
		"net http.host_mismatch deny allowed.test:80", "net tcp.connect deny 169.254.169.254:22",
		"net dial.special_address deny 93.184.216.99:22")
	p.want(t)

	// The twins: an address that is granted goes to the proxy, a port of this host's loopback does not.
	c = n.dial("93.184.216.34:22")
	send(t, c, "x\n")
	wantRead(t, c, "echo: x\n")
	p.want(t, "CONNECT 93.184.216.34:22 93.184.216.34:22 "+wantBasic)
	c = n.dial("127.0.0.1:8080")
	send(t, c, "x\n")
	wantRead(t, c, "echo: x\n")
	if e := n.log.last(t); e.Via != "" || e.Target != "127.0.0.1:8080" {
		t.Errorf("loopback went by the proxy: %+v", e)
	}
}

// Containment checks: I21.
func TestUpstreamNoProxy(t *testing.T) {
	n := newNetwork(t, nil, "in.corp.test:7", "allowed.test:7", "leads.corp.test:7")
	n.behind(both, "NO_PROXY=.corp.test,10.0.0.0/8")
	p := new(corporate)
	n.server("10.9.9.9:3128", p.tunnel("", echo))
	n.host("in.corp.test", "93.184.216.34")
	n.server("93.184.216.34:7", echo)
	n.host("leads.corp.test", "169.254.169.254")
	c := n.dialName("in.corp.test", 7)
	send(t, c, "x\n")
	wantRead(t, c, "echo: x\n")
	p.want(t)
	wantReset(t, n.dialName("leads.corp.test", 7)) // without the proxy, what the name leads to is checked as ever
	n.wantEvents("net tcp.connect allow in.corp.test:7", "net dial.special_address deny leads.corp.test:7")
	c = n.dialName("allowed.test", 7)
	send(t, c, "x\n")
	wantRead(t, c, "echo: x\n")
	p.want(t, "CONNECT allowed.test:7 allowed.test:7 "+wantBasic)
}

// A proxy that refuses, is down or talks nonsense is an event with the reason, and never a reason to dial directly.
func TestUpstreamFails(t *testing.T) {
	for _, test := range []struct{ answer, want string }{
		{"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", `the proxy proxy.test:3128: it answered "407 Proxy Authentication Required": user and password stand`},
		{"HTTP/1.0 403 Forbidden\r\nServer: x\r\n\r\n", `it answered "403 Forbidden"; NO_PROXY lists`},
		{"HTTP/1.1 503 \x1b[2J\r\n\r\n", `it answered "503 \x1b[2J"`},
		{"220 mail.test ESMTP\r\n", `it answered "220 mail.test ESMTP", which is not HTTP`},
		{"HTTP/1.1 2000 OK\r\n\r\n", "which is not HTTP"},
		{"HTTP/1.1 200", "which is not HTTP"},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxProxyHead), "longer than 16384 bytes"},
		{"", "it closed the connection without an answer"},
	} {
		n := newNetwork(t, nil, "allowed.test:7")
		n.behind(both)
		n.host("allowed.test", "93.184.216.34")
		n.server("93.184.216.34:7", echo)
		n.server("10.9.9.9:3128", func(c net.Conn) {
			new(corporate).proxied(c)
			io.WriteString(c, test.answer)
		})
		wantReset(t, n.dialName("allowed.test", 7))
		n.wantEvents("net tcp.connect allow allowed.test:7", "net dial.failed report allowed.test:7")
		if e := n.log.last(t); !strings.Contains(e.Reason, test.want) || e.Via != "proxy.test:3128" {
			t.Errorf("%q: %+v", test.answer, e)
		}
		if got := n.dialed(); got != "10.9.9.9:3128" {
			t.Errorf("%q: dialed %s", test.answer, got)
		}
	}
}

func TestUpstreamDown(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	n.behind(both)
	c := n.dialName("allowed.test", 443)
	send(t, c, string(hello(t, "allowed.test")))
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow allowed.test:443", "net dial.failed report allowed.test:443")
	if e := n.log.last(t); e.Errno != "ECONNREFUSED" || n.dialed() != "10.9.9.9:3128" {
		t.Errorf("%+v, dialed %s", e, n.dialed())
	}
	n.behind("https_proxy=gone.test:3128")
	c = n.dialName("allowed.test", 443)
	send(t, c, string(hello(t, "allowed.test")))
	wantReset(t, c)
	eventually(t, func() bool { return strings.Contains(n.log.last(t).Reason, "the proxy gone.test:3128: lookup") })
}

func TestUpstreamSOCKS(t *testing.T) {
	for _, scheme := range []string{"socks5", "socks5h"} {
		n := newNetwork(t, nil, "allowed.test:7")
		n.behind("ALL_PROXY=" + scheme + "://user:" + secret + "@proxy.test")
		got := make(chan string, 1)
		n.server("10.9.9.9:1080", func(c net.Conn) {
			read := func(size int) string {
				b := make([]byte, size)
				io.ReadFull(c, b)
				return string(b)
			}
			read(4) // version 5, two methods (RFC 1928)
			io.WriteString(c, "\x05\x02")
			login := read(3 + 4 + len(secret)) // RFC 1929
			io.WriteString(c, "\x01\x00")
			got <- login + read(5+len("allowed.test")+2)
			io.WriteString(c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"+"banner\n")
			echo(c)
		})
		c := n.dialName("allowed.test", 7)
		send(t, c, "x\n")
		wantRead(t, c, "banner\necho: x\n")
		if want := "\x01\x04user\x0f" + secret + "\x05\x01\x00\x03\x0callowed.test\x00\x07"; <-got != want {
			t.Errorf("%s: asked for something else than %q", scheme, want)
		}
	}
	n := newNetwork(t, nil, "allowed.test:7")
	n.behind("ALL_PROXY=socks5://proxy.test")
	n.server("10.9.9.9:1080", func(c net.Conn) { io.WriteString(c, "\x05\xff") })
	wantReset(t, n.dialName("allowed.test", 7))
	n.wantEvents("net tcp.connect allow allowed.test:7", "net dial.failed report allowed.test:7")
	if e := n.log.last(t); !strings.Contains(e.Reason, "the proxy proxy.test:1080: ") || n.dialed() != "10.9.9.9:1080" {
		t.Errorf("%+v", e)
	}
}
