// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// explicit connects to the proxy.
func (n *network) explicit() *net.TCPConn {
	n.t.Helper()
	return n.dial(profiles.ProxyAddress)
}

// socksTo is what a SOCKS client sends for a name, all at once.
func socksTo(host string, port int) string {
	return "\x05\x01\x00\x05\x01\x00\x03" + string([]byte{byte(len(host))}) + host + string([]byte{byte(port >> 8), byte(port)})
}

func socksToAddr(addr netip.Addr, port int) string {
	kind := map[bool]string{true: "\x01", false: "\x04"}[addr.Is4()]
	return "\x05\x01\x00\x05\x01\x00" + kind + string(addr.AsSlice()) + string([]byte{byte(port >> 8), byte(port)})
}

const (
	connected = "HTTP/1.1 200 Connection established\r\n\r\n"
	socksOK   = "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

// TestProxyTunnels: whichever way a tunnel is asked for, the TLS hello in it is the proof.
func TestProxyTunnels(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	pool := n.sink("allowed.test")
	for _, tt := range []struct{ request, answer string }{
		{"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\nProxy-Connection: keep-alive\r\n\r\n", connected},
		{"CONNECT ALLOWED.test.:443 HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 0\r\n\r\n", connected},
		{"CONNECT allowed.test:443 HTTP/1.0\r\n\r\n", connected},
		{"CONNECT " + pool.String() + ":443 HTTP/1.1\r\n\r\n", connected},
		{socksTo("allowed.test", 443), socksOK},
		{socksTo("Allowed.Test.", 443), socksOK},
		{socksToAddr(pool, 443), socksOK},
	} {
		t.Run(fmt.Sprintf("%.12q", tt.request), func(t *testing.T) {
			n := newNetwork(t, nil, "allowed.test")
			n.sink("allowed.test")
			n.host("allowed.test", "93.184.216.34")
			n.server("93.184.216.34:443", tlsEcho(t))
			c := n.explicit()
			send(t, c, tt.request)
			wantRead(t, c, tt.answer)
			secure := tls.Client(c, &tls.Config{ServerName: "allowed.test", InsecureSkipVerify: true})
			send(t, secure, "hello\n")
			wantRead(t, secure, "echo: hello\n")
			n.wantEvents("net tcp.connect allow allowed.test:443")
			if e := n.log.last(t); e.Provenance != audit.FromResolved || e.PID != 42 {
				t.Errorf("%+v", e)
			}

			// Another name in the proof is refused as on a connection of its own, also where it comes with the request.
			for _, early := range []bool{false, true} {
				c = n.explicit()
				if early {
					send(t, c, tt.request+string(hello(t, "evil.test")))
					wantRead(t, c, tt.answer)
				} else {
					send(t, c, tt.request)
					wantRead(t, c, tt.answer)
					send(t, c, string(hello(t, "evil.test")))
				}
				wantRead(t, c, string(accessDenied()))
				if e := n.log.last(t); e.Action != actionSNIMismatch || e.Target != "allowed.test:443" {
					t.Errorf("%+v", e)
				}
			}
			if n.dialed() != "93.184.216.34:443" {
				t.Errorf("dialed %s", n.dialed())
			}
		})
	}
}

// TestProxyDenies: the client is told in the words of the protocol by which it asked, and nothing is looked up.
func TestProxyDenies(t *testing.T) {
	const help = "agentjail: denied.test is not on the allow-list of this run; to allow it: --allow-net denied.test:"
	for _, tt := range []struct{ request, answer, event string }{
		{"CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n", help + "443\n", "net tcp.connect deny denied.test:443"},
		{"GET http://denied.test/x HTTP/1.1\r\nHost: denied.test\r\n\r\n", help + "80\n", "net tcp.connect deny denied.test:80"},
		{socksTo("denied.test", 22), "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "net tcp.connect deny denied.test:22"},
		{"CONNECT allowed.test:22 HTTP/1.1\r\n\r\n", "allowed.test is on the allow-list, but not with port 22", "net tcp.connect deny allowed.test:22"},
		{"CONNECT 5.6.7.8:443 HTTP/1.1\r\n\r\n", "5.6.7.8 is not on the allow-list", "net tcp.connect deny 5.6.7.8:443"},
		{"GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "cloud metadata", "net tcp.connect deny 169.254.169.254:80"},
		{socksToAddr(netip.MustParseAddr("fd00:ec2::254"), 80), "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "net tcp.connect deny [fd00:ec2::254]:80"},
		{"CONNECT [::ffff:10.0.0.1]:443 HTTP/1.1\r\n\r\n", "10.0.0.1 is a special address", "net tcp.connect deny 10.0.0.1:443"},
		{"CONNECT localhost:3000 HTTP/1.1\r\n\r\n", "leave it to NO_PROXY", "net tcp.connect deny 127.0.0.1:3000"},
		// The proxy is no way to itself, nor to what else there could be at its address.
		{"CONNECT 198.19.255.254:3128 HTTP/1.1\r\n\r\n", "no name has it", "net tcp.connect deny 198.19.255.254:3128"},
		{"GET http://198.19.255.254:8080/ HTTP/1.1\r\nHost: 198.19.255.254:8080\r\n\r\n", "no name has it", "net tcp.connect deny 198.19.255.254:8080"},
		// A name that no query would be answered for.
		{"CONNECT " + strings.Repeat("0123456789abcdef.", 9) + "denied.test:443 HTTP/1.1\r\n\r\n", "encoded data", ""},
		{"CONNECT " + strings.Repeat("0123456789abcdef.", 9) + "wild.test:443 HTTP/1.1\r\n\r\n", "look like data", ""},
	} {
		n := newNetwork(t, nil, "allowed.test", "*.wild.test", "0.0.0.0/0:80")
		c := n.explicit()
		send(t, c, tt.request)
		b, _ := io.ReadAll(c)
		if !strings.Contains(string(b), tt.answer) || strings.Contains(string(b), " 200 ") {
			t.Errorf("%q: %q, want %q", tt.request, b, tt.answer)
		}
		if tt.event != "" {
			n.wantEvents(tt.event)
		} else if e := n.log.last(t); e.Action != actionConnect || e.Decision != audit.Deny {
			t.Errorf("%q: %+v", tt.request, e)
		}
		if n.dialed() != "" || len(n.looked) > 0 {
			t.Errorf("%q: dialed %q, looked up %q", tt.request, n.dialed(), n.looked)
		}
	}
}

// TestProxyMalformed: what is no request that can be judged is one event, and reaches neither the resolver nor the rules.
func TestProxyMalformed(t *testing.T) {
	for _, request := range []string{
		"CONNECT /path HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n", "CONNECT allowed.test HTTP/1.1\r\n\r\n",
		"CONNECT allowed.test: HTTP/1.1\r\n\r\n", "CONNECT allowed.test:0443 HTTP/1.1\r\n\r\n", "CONNECT allowed.test:65536 HTTP/1.1\r\n\r\n",
		"CONNECT allowed.test:0 HTTP/1.1\r\n\r\n", "CONNECT allowed.test:443/x HTTP/1.1\r\n\r\n", "CONNECT allowed.test:https HTTP/1.1\r\n\r\n",
		"CONNECT user@allowed.test:443 HTTP/1.1\r\n\r\n", "CONNECT evil.test:443@allowed.test:443 HTTP/1.1\r\n\r\n",
		"CONNECT allowed.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", "CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:80\r\n\r\n",
		"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test\r\nHost: allowed.test\r\n\r\n",
		"CONNECT allowed.test:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "CONNECT allowed.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"CONNECT allowed.test:443 HTTP/2.0\r\n\r\n", "CONNECT allowed.test:443 HTTP/1.1\n\n", "CONNECT\tallowed.test:443 HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "GET /debug/pprof HTTP/1.1\r\nHost: 198.19.255.254:3128\r\n\r\n",
		"GET //allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "GET http:allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
		"GET ftp://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "GET https://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
		"GET http://u:p@allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "GET http://allowed.test/#x HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: allowed.test\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GE\x01T http://allowed.test/ HTTP/1.1\r\n\r\n",
		"GET http://" + strings.Repeat("a", maxHead) + "/ HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET / HTTP/1.1\r\n\r\n",
		"\x04\x01\x01\xbb\x05\x06\x07\x08\x00", "\x04\x01\x01\xbb\x00\x00\x00\x01\x00allowed.test\x00", "SSH-2.0-x\r\n\r\n", "\x00\x00", string(hello(t, "allowed.test")),
		"\x05\x00", "\x05\x01\x02", "\x05\x01\x00\x05\x02\x00\x01\x05\x06\x07\x08\x01\xbb", "\x05\x01\x00\x05\x03\x00\x01\x05\x06\x07\x08\x01\xbb",
		"\x05\x01\x00\x05\x01\x01\x01\x05\x06\x07\x08\x01\xbb", "\x05\x01\x00\x04\x01\x00\x01\x05\x06\x07\x08\x01\xbb", "\x05\x01\x00\x05\x01\x00\x02\x05\x06\x07\x08\x01\xbb",
		socksTo("", 443), socksTo("allowed.test", 0), socksTo("allowed.test\x00", 443), socksTo("evil.test\x00.wild.test", 443), socksTo(strings.Repeat("a", 255), 443),
		"CONNECT allowed.test:443 HTTP/1.1\r\nHost", "\x05\x01\x00\x05\x01\x00\x03\x0callowed",
	} {
		n := newNetwork(t, nil, "allowed.test", "allowed.test:80")
		c := n.explicit()
		send(t, c, request)
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		if strings.Contains(string(b), " 200 ") || strings.Contains(string(b), socksOK) {
			t.Errorf("%.80q: %q", request, b)
		}
		if lines := n.log.lines(); len(lines) != 1 || lines[0] != "net proxy.malformed deny 198.19.255.254:3128" {
			t.Errorf("%.80q: events %q", request, lines)
		}
		if n.dialed() != "" || len(n.looked) > 0 {
			t.Errorf("%.80q: dialed %q, looked up %q", request, n.dialed(), n.looked)
		}
	}
}

// TestProxyAbsolute: a request in absolute form reaches the server as its client would have sent it without a proxy, alone on its
// connection.
func TestProxyAbsolute(t *testing.T) {
	n := newNetwork(t, []uint16{8080}, "site.test:80", "93.184.216.34:80")
	n.web(func(w http.ResponseWriter, r *http.Request) {
		mirror(w, r)
		fmt.Fprintf(w, " %d %s%s", len(r.Header), r.Header.Get("X-Kept"), r.Header.Get("X-Hop"))
	})
	n.listen("127.0.0.1:8080", n.echoWeb())
	for _, tt := range []struct{ request, want string }{
		{"GET http://site.test/a?b HTTP/1.1\r\nHost: site.test\r\nX-Kept: k\r\nX-Hop: h\r\nConnection: X-Hop, keep-alive\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\n\r\n",
			`GET site.test /a?b "" map[] 2 k`},
		{"GET HTTP://Site.Test.:80 HTTP/1.1\r\nHost: SITE.test\r\n\r\n", `GET site.test / "" map[] 1 `},
		{"GET http://site.test?q HTTP/1.1\r\nHost: site.test\r\n\r\n", `GET site.test /?q "" map[] 1 `},
		{"POST http://site.test/p HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello", `POST site.test /p "hello" map[] 2 `},
		{"PUT http://site.test/p HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", `PUT site.test /p "ab" map[] 1 `},
		{"GET http://93.184.216.34/n HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n", `GET 93.184.216.34 /n "" map[] 1 `},
		{"GET http://localhost:8080/l HTTP/1.1\r\nHost: localhost:8080\r\n\r\n", `GET localhost:8080 /l "" map[]`},
		{"GET http://site.test/u HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", `GET site.test /u "" map[] 1 `},
	} {
		c := n.explicit()
		// A second request is not passed on, for whichever host it is.
		send(t, c, tt.request+"GET http://site.test/second HTTP/1.1\r\nHost: site.test\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", tt.request, err)
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != tt.want || !resp.Close {
			t.Errorf("%q: %q (close %t), want %q", tt.request, b, resp.Close, tt.want)
		}
	}
	for _, line := range n.log.lines() {
		if !strings.HasPrefix(line, "net tcp.connect allow ") {
			t.Error(line)
		}
	}
	for _, bad := range []string{
		"GET http://site.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", "GET http://site.test/ HTTP/1.1\r\nHost: site.test:81\r\n\r\n",
		"GET http://site.test/ HTTP/1.1\r\n\r\n", "GET http://93.184.216.34/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"GET http://" + n.sink("site.test").String() + "/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n",
	} {
		before := n.dialed()
		c := n.explicit()
		if status, text := exchange(t, c, bufio.NewReader(c), bad); status != 403 || !strings.HasPrefix(text, "agentjail: ") {
			t.Errorf("%q: %d %q", bad, status, text)
		}
		if e := n.log.last(t); e.Action != actionHostMismatch || n.dialed() != before {
			t.Errorf("%q: %+v", bad, e)
		}
	}
}

// echoWeb is a web server that mirrors.
func (n *network) echoWeb() net.Listener {
	n.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(mirror), ReadHeaderTimeout: patience}
	go s.Serve(l)
	n.t.Cleanup(func() { s.Close() })
	return l
}

// TestProxyOtherProtocols: in a tunnel to another port what is neither TLS nor HTTP passes, also where the server speaks first; plain
// HTTP in a tunnel is judged.
func TestProxyOtherProtocols(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:22", "93.184.216.34:7", "site.test:80")
	n.host("allowed.test", "93.184.216.34")
	n.server("93.184.216.34:22", func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-server\r\n")
		echo(c)
	})
	n.server("93.184.216.34:7", echo)
	n.web(mirror)
	c := n.explicit()
	send(t, c, "CONNECT allowed.test:22 HTTP/1.1\r\n\r\n")
	wantRead(t, c, connected+"SSH-2.0-server\r\n")
	send(t, c, "SSH-2.0-client\n")
	wantRead(t, c, "echo: SSH-2.0-client\n")
	for _, request := range []string{"CONNECT 93.184.216.34:7 HTTP/1.1\r\n\r\n", socksToAddr(netip.MustParseAddr("93.184.216.34"), 7)} {
		c = n.explicit()
		send(t, c, request+"early\n")
		wantRead(t, c, map[bool]string{true: connected, false: socksOK}[request[0] == 'C']+"echo: early\n")
	}
	// Port 53 is the gateway's own, as ever.
	c = n.explicit()
	query, err := query("other.test.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "CONNECT 9.9.9.9:53 HTTP/1.1\r\n\r\n\x00"+string([]byte{byte(len(query))})+string(query))
	wantRead(t, c, connected+"\x00") // and of the answer the length, which is written after the event
	if e := n.log.last(t); e.Action != actionQuery || e.Decision != audit.Deny || e.Target != "other.test" {
		t.Errorf("%+v", e)
	}
	c = n.explicit()
	send(t, c, "CONNECT site.test:80 HTTP/1.1\r\n\r\n")
	wantRead(t, c, connected)
	br := bufio.NewReader(c)
	for range 2 {
		if status, text := exchange(t, c, br, "GET /in HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != 200 || text != `GET site.test /in "" map[]` {
			t.Errorf("%d %q", status, text)
		}
	}
	send(t, c, "GET /in HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	eventually(t, func() bool { return n.log.last(t).Action == actionHostMismatch })
}

// TestProxyClientThatLeaves: a client that is gone before its answer does not keep the server's connection.
func TestProxyClientThatLeaves(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	asked, left := make(chan struct{}), make(chan struct{})
	n.web(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(left)
	})
	c := n.explicit()
	send(t, c, "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
	<-asked
	reset(c)
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the server still waits")
	}
}

// TestProxyUnreached: an allowed address that cannot be reached is told before the tunnel stands, a name after its proof.
func TestProxyUnreached(t *testing.T) {
	n := newNetwork(t, nil, "93.184.216.34:7", "allowed.test", "private.test:80")
	n.host("private.test", "10.0.0.1")
	for request, want := range map[string]string{
		"CONNECT 93.184.216.34:7 HTTP/1.1\r\n\r\n":                                             "HTTP/1.1 502 Bad Gateway",
		socksToAddr(netip.MustParseAddr("93.184.216.34"), 7):                                   "\x05\x04",
		"GET http://private.test/ HTTP/1.1\r\nHost: private.test\r\n\r\n":                      "leads to an address that needs a rule",
		"CONNECT private.test:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: private.test\r\n\r\n": connected + "HTTP/1.1 403 Forbidden",
	} {
		c := n.explicit()
		send(t, c, request)
		if b, _ := io.ReadAll(c); !strings.Contains(string(b), want) {
			t.Errorf("%q: %q, want %q", request, b, want)
		}
	}
}

// TestProxyOff: without a policy that asks for it the address is refused like any other, and so is all else about it.
func TestProxyOff(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test", "198.18.0.0/15:3128")
	n.g.cfg.Proxy = false // read once a connection has arrived
	wantReset(t, n.explicit())
	n.wantEvents("net tcp.connect deny " + profiles.ProxyAddress)
	if e := n.log.last(t); e.Fix != "--proxy" {
		t.Errorf("%+v", e)
	}
	// With it, nothing else is at the address.
	n = newNetwork(t, nil, "198.18.0.0/15:80")
	wantReset(t, n.dial(proxyAddr.Addr().String()+":80"))
}

// TestProxyIsOfThePool: no name has its address, nor can one get it.
func TestProxyIsOfThePool(t *testing.T) {
	number, pooled := sinkNumber(proxyAddr.Addr())
	if !pooled || number <= maxAllowedSinks+maxDeniedSinks {
		t.Errorf("%s has number %d in the pool", proxyAddr, number)
	}
}

// TestProxySlowLoris: a client that sends its request a byte at a time has no more time than one that stalls.
func TestProxySlowLoris(t *testing.T) {
	for _, request := range []string{"CONNECT allowed.test:443 HTTP/1.1\r\nX: ", "\x05\xff" + strings.Repeat("\x00", 200)} {
		n := newNetwork(t, nil, "allowed.test")
		n.g.wait.proof = 100 * time.Millisecond
		c := n.explicit()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				if _, err := io.WriteString(c, string(request[min(i, len(request)-1)])); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		eventually(t, func() bool { return len(n.log.lines()) == 1 })
		n.wantEvents("net proxy.malformed deny 198.19.255.254:3128")
		io.ReadAll(c)
		c.Close()
		<-done
	}
	n := newNetwork(t, nil)
	n.g.wait.first = 10 * time.Millisecond
	n.explicit()
	n.wantEvents("net tcp.connect report 198.19.255.254:3128")
}

// deaf is a connection that takes all and gives nothing.
type deaf struct{ net.Conn }

func (deaf) Read([]byte) (int, error)    { return 0, io.EOF }
func (deaf) Write(b []byte) (int, error) { return len(b), nil }

// asked is what the proxy makes of a request: the host that was asked for, and the decision on it.
func (n *network) asked(request string) (string, Decision) {
	l := &link{g: n.g, conn: deaf{}, in: peeker{conn: deaf{}, data: []byte(request)}, dst: proxyAddr}
	if l.ask() != nil {
		return "", Decision{}
	}
	name, pooled := n.g.sinks.name(l.dst.Addr())
	if pooled && name == "" {
		return "", Decision{}
	}
	return l.asked, Decide(n.g.cfg.Access, name, l.dst.Addr(), l.dst.Port())
}
