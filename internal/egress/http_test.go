// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// site has handle serve each connection to site.test:80.
func (n *network) site(handle func(net.Conn)) {
	n.t.Helper()
	n.host("site.test", "93.184.216.34")
	n.server("93.184.216.34:80", handle)
}

// web is a plain HTTP server at 93.184.216.34:80, which site.test resolves to. It answers with what it was asked.
func (n *network) web(handler http.HandlerFunc) *http.Server {
	n.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.host("site.test", "93.184.216.34")
	n.listen("93.184.216.34:80", l)
	s := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	go s.Serve(l)
	n.t.Cleanup(func() { s.Close() })
	return s
}

func mirror(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		b = []byte(err.Error())
	}
	fmt.Fprintf(w, "%s %s %s %q %s", r.Method, r.Host, r.URL, b, r.Trailer)
}

// exchange writes a request and reads its response.
func exchange(t *testing.T, c net.Conn, br *bufio.Reader, request string) (int, string) {
	t.Helper()
	send(t, c, request)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHTTPKeepAlive(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	for _, tt := range []struct{ request, want string }{
		{"GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n", `GET site.test /a "" map[]`},
		{"GET /b HTTP/1.1\r\nhOsT:SITE.test:80 \r\n\r\n", `GET SITE.test:80 /b "" map[]`},
		{"GET http://site.test/c HTTP/1.1\r\nHost: site.test\r\n\r\n", `GET site.test http://site.test/c "" map[]`},
		{"POST /d HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello", `POST site.test /d "hello" map[]`},
		{"PATCH /e HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nhi", `PATCH site.test /e "hi" map[]`},
		{"PUT /f HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
			"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n", `PUT site.test /f "abcde" map[X-Sum:[7]]`},
		{"OPTIONS * HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n", ""},
	} {
		if status, got := exchange(t, c, br, tt.request); status != 200 || got != tt.want {
			t.Errorf("%q: %d %q, want %q", tt.request, status, got, tt.want)
		}
	}
	n.wantEvents("net tcp.connect allow site.test:80")
}

func TestHTTPClient(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return n.dialName("site.test", 80), nil },
	}}
	defer client.CloseIdleConnections()
	body := strings.Repeat("x", 1<<20)
	for range 3 {
		resp, err := client.Post("http://site.test/", "text/plain", struct{ io.Reader }{strings.NewReader(body)}) // chunked
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(b), body) {
			t.Errorf("the server got %d bytes", len(b))
		}
	}
}

func TestHTTPExpectContinue(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	c := n.dialName("site.test", 80)
	send(t, c, "POST / HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	wantRead(t, c, "HTTP/1.1 100 Continue\r\n\r\n")
	if status, got := exchange(t, c, bufio.NewReader(c), "hi"); status != 200 || got != `POST site.test / "hi" map[]` {
		t.Errorf("%d %q", status, got)
	}
}

// A second request for another host never reaches the server, whether it comes later or in the same packet.
// Containment checks: I18.
func TestHTTPEveryRequestIsJudged(t *testing.T) {
	good := "GET /good HTTP/1.1\r\nHost: site.test\r\n\r\n"
	for _, bad := range []string{
		"GET /bad HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"GET http://evil.test/bad HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"GET http://site.test/bad HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"CONNECT evil.test:443 HTTP/1.1\r\nHost: site.test\r\n\r\n",
	} {
		for _, pipelined := range []bool{false, true} {
			n := newNetwork(t, nil, "site.test:80")
			seen := make(chan string, 10)
			server := n.web(func(w http.ResponseWriter, r *http.Request) { seen <- r.URL.Path })
			c := n.dialName("site.test", 80)
			if pipelined {
				send(t, c, good+bad)
			} else {
				exchange(t, c, bufio.NewReader(c), good)
				send(t, c, bad)
			}
			io.ReadAll(c)
			n.wantEvents("net tcp.connect allow site.test:80", "net http.host_mismatch deny site.test:80")
			n.g.Close()
			if err := server.Shutdown(t.Context()); err != nil { // waits for the handlers
				t.Fatal(err)
			}
			for len(seen) > 0 {
				if path := <-seen; path != "/good" {
					t.Errorf("the server saw %s", path)
				}
			}
		}
	}
}

func TestHTTPDeniedName(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	for _, tt := range []struct {
		name string
		port int
	}{{"evil.test", 80}, {"site.test", 8080}} {
		c := n.dialName(tt.name, tt.port)
		where := fmt.Sprintf("%s:%d", tt.name, tt.port)
		status, body := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+where+"\r\n\r\n")
		if status != 403 || !strings.Contains(body, "agentjail") || !strings.Contains(body, "--allow-net "+where) {
			t.Errorf("%d %q", status, body)
		}
		if e := n.log.last(t); e.Decision != audit.Deny || e.Target != where {
			t.Errorf("event %+v", e)
		}
	}
	if n.dialed() != "" || n.looked != nil {
		t.Errorf("dialed %s", n.dialed())
	}
}

// Containment checks: I06, I22.
func TestHTTPFirstRequestRefused(t *testing.T) {
	for _, tt := range []struct {
		request string
		status  int
		action  string
	}{
		{"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, "http.host_mismatch"},
		{"CONNECT evil.test:443 HTTP/1.1\r\nHost: site.test\r\n\r\n", 403, "http.host_mismatch"},
		{"GET / HTTP/1.1\nHost: site.test\n\n", 400, "http.malformed"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "http.malformed"},
		{"GET /\xfc HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		{"GET /\u00a0x HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		{"GET /\u0085x HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		{"GET http://site.t\u00e9st/ HTTP/1.1\r\nHost: site.test\r\n\r\n", 403, "http.host_mismatch"},
		{"GET / HTTP/1.1\r\nHost: site.test\r\nX: " + strings.Repeat("a", maxHead), 400, "http.malformed"},
		{"\r\nGET / HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		{"GET /%zz HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		{"GET /50% HTTP/1.1\r\nHost: site.test\r\n\r\n", 400, "http.malformed"},
		// What only Go's reader refuses.
		{"PUT / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n", 400, "http.malformed"},
	} {
		n := newNetwork(t, nil, "site.test:80")
		c := n.dialName("site.test", 80)
		status, body := exchange(t, c, bufio.NewReader(c), tt.request)
		if status != tt.status || !strings.HasPrefix(body, "agentjail: ") {
			t.Errorf("%.60q: %d %q", tt.request, status, body)
		}
		n.wantEvents("net " + tt.action + " deny site.test:80")
		if n.dialed() != "" {
			t.Errorf("%.60q: dialed %s", tt.request, n.dialed())
		}
	}
}

// Containment checks: I22.
func TestHTTPHeadThatStalls(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.g.wait.proof = 20 * time.Millisecond
	c := n.dialName("site.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\n")
	b, _ := io.ReadAll(c)
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 400 ")) {
		t.Errorf("%q", b)
	}
	n.wantEvents("net http.malformed deny site.test:80")
}

func TestHTTPUnreachable(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80", "inside.test:80")
	n.host("inside.test", "10.0.0.1")
	for name, want := range map[string]int{"site.test": 502, "inside.test": 403} {
		c := n.dialName(name, 80)
		status, body := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		if status != want || !strings.Contains(body, name) || strings.Contains(body, "10.0.0.1") {
			t.Errorf("%s: %d %q", name, status, body)
		}
	}
}

const upgrade = "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" + websocketKey + "\r\n"

// Containment checks: I17.
func TestWebsocket(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.site(func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, int64(len(upgrade)))))
		if err != nil || req.Header.Get("Upgrade") != "WebSocket" {
			return
		}
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\nfirst frame\n")
		echo(c)
	})
	c := n.dialName("site.test", 80)
	send(t, c, upgrade+"frame 1\n")
	wantRead(t, c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\nfirst frame\necho: frame 1\n")
	send(t, c, "GET / HTTP/1.1\n") // is a frame like any other
	wantRead(t, c, "echo: GET / HTTP/1.1\n")
	n.wantEvents("net tcp.connect allow site.test:80")
}

// Where the server does not change the protocol, what follows is still judged.
// Containment checks: I17.
func TestUpgradeThatIsNotTaken(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	if status, body := exchange(t, c, br, upgrade); status != 200 {
		t.Errorf("%d %q", status, body)
	}
	if status, body := exchange(t, c, br, "GET /next HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != 200 {
		t.Errorf("%d %q", status, body)
	}
	send(t, c, "GET /bad HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow site.test:80", "net http.host_mismatch deny site.test:80")
}

// Containment checks: I17.
func TestLateUpgradeIsRefused(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	c := n.dialName("site.test", 80)
	exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	send(t, c, upgrade)
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow site.test:80", "net http.malformed deny site.test:80")
}

// A client that offers HTTP/2 goes on with HTTP/1.1: the server never hears of the offer.
// Containment checks: I17.
func TestH2CIsNotOffered(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%v %v %v %s", r.Header["Upgrade"], r.Header["Http2-Settings"], r.Header["Connection"], r.Header.Get("X-Kept"))
	})
	c := n.dialName("site.test", 80)
	_, got := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade, HTTP2-Settings, keep-alive\r\n"+
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nX-Kept: yes\r\n\r\n")
	if got != "[] [] [keep-alive] yes" {
		t.Errorf("the server saw %s", got)
	}
}

func TestClientThatLeavesWithinABody(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	got := make(chan string, 2)
	n.web(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%q %t", b, err != nil)
	})
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 10\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		c := n.dialName("site.test", 80)
		send(t, c, request)
		c.CloseWrite()
		if g := <-got; g != `"abc" true` {
			t.Errorf("the server got %s", g)
		}
		c.Close()
	}
	n.g.Close()
	n.wantEvents("net tcp.connect allow site.test:80", "net tcp.connect allow site.test:80")
}

// Containment checks: I19.
func TestBadChunks(t *testing.T) {
	for _, chunks := range []string{"3\nabc\n0\n\n", "0x3\r\nabc\r\n0\r\n\r\n", "-1\r\n", "fffffffffffffffff\r\n", "3\r\nabcd\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\nno field\r\n\r\n"} {
		n := newNetwork(t, nil, "site.test:80")
		seen := make(chan error, 1)
		n.web(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			seen <- err
		})
		c := n.dialName("site.test", 80)
		send(t, c, "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks)
		if err := <-seen; err == nil {
			t.Errorf("%q arrived as a whole body", chunks)
		}
		wantReset(t, c)
		n.wantEvents("net tcp.connect allow site.test:80", "net http.malformed deny site.test:80")
	}
}

// Containment checks: I04, I05, I06, I10, I19.
func TestParseHead(t *testing.T) {
	const host = "Host: site.test\r\n"
	tests := []struct {
		head   string
		action string // "" for an accepted one
	}{
		{"GET / HTTP/1.1\r\n" + host, ""},
		{"GET / HTTP/1.0\r\n" + host, ""},
		{"GET //evil.test/ HTTP/1.1\r\n" + host, ""}, // a path like any other
		{"GET /?u=http://evil.test HTTP/1.1\r\n" + host, ""},
		{"GET http://site.test:80/ HTTP/1.1\r\n" + host, ""},
		{"GET HTTP://Site.Test. HTTP/1.1\r\nHost: site.test.:80\r\n", ""},
		{"M-SEARCH / HTTP/1.1\r\n" + host, ""},
		{"GET / HTTP/1.1\r\n" + host + "X: \xc3\xa9\r\n", ""},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n", ""},
		// Another host, or none.
		{"GET / HTTP/1.1\r\n", actionHostMismatch},
		{"GET / HTTP/1.0\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost:\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: evil.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\n" + host + "Host: evil.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\n" + host + host, actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test, evil.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test evil.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test@evil.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: user@site.test\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test:8080\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test:080\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test:\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: site.test:80:80\r\n", actionHostMismatch},
		{"GET / HTTP/1.1\r\nHost: 93.184.216.34\r\n", actionHostMismatch},
		{"GET http://evil.test/ HTTP/1.1\r\n" + host, actionHostMismatch},
		{"GET http://site.test@evil.test/ HTTP/1.1\r\n" + host, actionHostMismatch},
		{"GET http://evil.test\\@site.test/ HTTP/1.1\r\n" + host, actionHostMismatch},
		{"GET http://evil.test?site.test HTTP/1.1\r\n" + host, actionHostMismatch},
		{"GET http://[::1]/ HTTP/1.1\r\n" + host, actionHostMismatch},
		{"GET http:///x HTTP/1.1\r\n" + host, actionHostMismatch},
		{"CONNECT site.test:80 HTTP/1.1\r\n" + host, actionHostMismatch},
		{"CONNECT /path HTTP/1.1\r\n" + host, actionHostMismatch},
		// Two readings.
		{"GET http:evil.test/ HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET https://site.test/ HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET ftp://site.test/ HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET site.test:80 HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET * HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET /a b HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET\t/ HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET  / HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET /\xff HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GE\rT / HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET / HTTP/1.1 \r\n" + host, actionMalformedHTTP},
		{"GET / HTTP/1.2\r\n" + host, actionMalformedHTTP},
		{"GET / HTTP/2.0\r\n" + host, actionMalformedHTTP},
		{"GET / http/1.1\r\n" + host, actionMalformedHTTP},
		{" / HTTP/1.1\r\n" + host, actionMalformedHTTP},
		{"GET / HTTP/1.1\r\nHost : site.test\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n Host: site.test\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n" + host + "X: a\x00\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n" + host + "X: a\nHost: evil.test\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n" + host + "no colon\r\n", actionMalformedHTTP},
		{"GET / HTTP/1.1\r\n" + host + ": empty\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1 1\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 0x1\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 9999999999999999999\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n", actionMalformedHTTP},
		{"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nConnection: close, Content-Length\r\n", actionMalformedHTTP},
	}
	for _, tt := range tests {
		_, err := parseHead([]byte(tt.head+"\r\n"), "site.test", 80)
		got := ""
		if err != nil {
			got = err.(*headError).action
		}
		if got != tt.action {
			t.Errorf("%q: %q (%v), want %q", tt.head, got, err, tt.action)
		}
	}
}

// FuzzHTTPHead holds what is accepted against Go's own server: it must see the same request, for the same host.
// Containment checks: I19, I23, P01.
func FuzzHTTPHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"))
	f.Add([]byte("POST http://site.test/x HTTP/1.1\r\nHost: SITE.test:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nrest"))
	f.Add([]byte("GET / HTTP/1.0\nHost: site.test\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sniff(b)
		end := headEnd(b)
		if end == 0 {
			return
		}
		h, err := parseHead(b[:end], "site.test", 80)
		if err != nil {
			return
		}
		if k := sniff(b); k != kindHTTP {
			t.Errorf("a request is taken for %d", k)
		}
		for _, raw := range [][]byte{h.bytes(true), h.bytes(false)} {
			req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
			if err != nil {
				continue // secondOpinion refuses it too
			}
			host, _, _ := strings.Cut(req.Host, ":")
			if name, err := canonicalName(host); err != nil || name != "site.test" {
				t.Errorf("Go's server sees host %q", req.Host)
			}
			if (req.ContentLength < 0) != h.chunked {
				t.Errorf("chunked %t, and Go's server sees length %d", h.chunked, req.ContentLength)
			}
			if req.Header.Get("Upgrade") != "" && h.upgrade == "" {
				t.Error("an Upgrade field was missed")
			}
		}
	})
}
