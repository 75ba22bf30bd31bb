// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// newRelayed is a network where site.test:80 grants some requests; the zero one stands for all, which are not relayed one by one.
func newRelayed(t *testing.T, requests ...profiles.Requests) *network {
	n := newNetwork(t, nil)
	n.g.cfg.Rules = grants(requests...)
	return n
}

var reading = profiles.Requests{Methods: []string{"GET", "HEAD", "POST"}, Paths: []string{"/", "/a/**", "/up"}, MaxUpload: 100}

// TestRelay: each request of a connection is judged, answered and on record, and a refused one does not end the connection.
// Containment check: K07.
func TestRelay(t *testing.T) {
	n := newRelayed(t, reading)
	n.web(mirror)
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /a/b?q=%2f HTTP/1.1\r\nHost: site.test\r\n\r\n", 200, `GET site.test /a/b?q=%2f "" map[]`},
		{"DELETE /a/b HTTP/1.1\r\nHost: site.test\r\n\r\n", 403, "agentjail: the method \"DELETE\" is not granted, but GET, HEAD, POST; to allow it: methods, paths or max_upload of the rule for site.test in the policy\n"},
		{"GET /secret?q=1 HTTP/1.1\r\nHost: site.test\r\n\r\n", 403, "agentjail: the path is not granted, but /, /a/**, /up; to allow it: methods, paths or max_upload of the rule for site.test in the policy\n"},
		{"POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\n12345", 200, `POST site.test /up "12345" map[]`},
		{"POST /up HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n5;x=y\r\n12345\r\n0\r\nX-End: z\r\nX-Http-Method-Override: DELETE\r\nContent-Length: 99\r\n\r\n", 200, `POST site.test /up "12345" map[]`},
		{"GET / HTTP/1.1\r\nHost: SITE.test.:80\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\r\n", 200, `GET site.test / "" map[]`},
	} {
		if status, body := exchange(t, c, br, tt.request); status != tt.status || body != tt.body {
			t.Errorf("%q: %d %q", tt.request, status, body)
		}
	}
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request allow GET http://site.test/a/b", "net http.request deny DELETE http://site.test/a/b",
		"net http.request deny GET http://site.test/secret", "net http.request allow POST http://site.test/up",
		"net http.request allow POST http://site.test/up", "net http.request allow GET http://site.test/")
	if e := n.log.last(t); e.Reason != "answered with status 200" || e.PID != 42 || e.Rule != n.g.cfg.Rules[0].String() || e.Provenance != audit.FromResolved {
		t.Errorf("%+v", e)
	}
	if n.dialed() != "93.184.216.34:80" {
		t.Errorf("dialed %s", n.dialed())
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestRelayOddStatus: a status that there is not is no answer.
// Containment check: K07.
func TestRelayOddStatus(t *testing.T) {
	n := newRelayed(t, reading)
	n.web(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(c, "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n")
			c.Close()
		}
	})
	c := n.dialName("site.test", 80)
	if status, body := exchange(t, c, bufio.NewReader(c), "GET /a/b HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != http.StatusBadGateway {
		t.Errorf("%d %q", status, body)
	}
}

// TestRelayRefusesAtOnce: nothing is resolved or dialed for a connection whose first request is not granted, nor for what is no HTTP.
// Containment check: K07.
func TestRelayRefusesAtOnce(t *testing.T) {
	n := newRelayed(t, reading)
	n.web(mirror)
	for _, request := range []string{
		"PUT /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
		"POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101),
		"PUT http://site.test/up HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"GET /a/b HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"GET /a/b HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n",
		"GET /a/b HTTP/1.1\r\nHost: site.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		c := n.dialName("site.test", 80)
		status, body := exchange(t, c, bufio.NewReader(c), request)
		if status != 403 || !strings.HasPrefix(body, "agentjail: ") {
			t.Errorf("%q: %d %q", request, status, body)
		}
	}
	c := n.dialName("site.test", 80)
	send(t, c, "SSH-2.0-x\r\n")
	wantReset(t, c)
	c = n.dialName("site.test", 80)
	send(t, c, string(hello(t, "site.test")))
	wantReset(t, c)
	if n.dialed() != "" || len(n.looked) != 0 {
		t.Errorf("dialed %s, looked up %s", n.dialed(), n.looked)
	}
	n.wantEvents("net http.request deny PUT http://site.test/up", "net http.request deny POST http://site.test/up", "net http.request deny PUT http://site.test/up",
		"net http.host_mismatch deny site.test:80", "net http.host_mismatch deny site.test:80", "net http.request deny GET http://site.test/a/b",
		"net tcp.unproven deny site.test:80", "net tcp.unproven deny site.test:80")
}

// TestRelayUploadInChunks: a body whose length is not said ends where it gets too long, and so does its request at the server.
// Containment check: K08.
func TestRelayUploadInChunks(t *testing.T) {
	n := newRelayed(t, reading)
	got := make(chan string, 1)
	n.web(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%d %v", len(b), err != nil)
	})
	c := n.dialName("site.test", 80)
	status, body := exchange(t, c, bufio.NewReader(c), "POST /up HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n"+
		strings.Repeat("a\r\n0123456789\r\n", 10)+"1\r\nx\r\n0\r\n\r\n")
	if status != 403 || !strings.Contains(body, "longer than 100") {
		t.Errorf("%d %q", status, body)
	}
	select {
	case what := <-got:
		if what != "100 true" && what != "0 true" {
			t.Errorf("the server got %s", what)
		}
	case <-time.After(100 * time.Millisecond): // nothing was sent at all
	}
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request deny POST http://site.test/up")
}

// TestRelayAnswers: answers of every framing reach the client whole, or broken where they were broken.
func TestRelayAnswers(t *testing.T) {
	n := newRelayed(t, profiles.Requests{Paths: []string{"/*"}})
	big := strings.Repeat("0123456789", 100_000)
	n.web(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			io.WriteString(w, big)
		case "/hints":
			w.Header().Set("Link", "x")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "late")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.Header().Set("X-Sum", "7")
		case "/stream":
			for i := range 3 {
				fmt.Fprintf(w, "data %d\n", i)
				w.(http.Flusher).Flush()
			}
		case "/broken":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		case "/cut":
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	get := func(method, path string) (*http.Response, string, error) {
		send(t, c, method+" "+path+" HTTP/1.1\r\nHost: site.test\r\n\r\n")
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		return res, string(b), err
	}
	if _, body, err := get("GET", "/big"); body != big || err != nil {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if res, body, err := get("HEAD", "/big"); body != "" || err != nil || res.ContentLength != -1 && res.ContentLength != int64(len(big)) {
		t.Errorf("%v %q, %v", res, body, err)
	}
	send(t, c, "GET /hints HTTP/1.1\r\nHost: site.test\r\n\r\n")
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 103 || res.Header.Get("Link") != "x" {
		t.Errorf("%v, %v", res, err)
	}
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 200 {
		t.Errorf("%v, %v", res, err)
	} else if b, _ := io.ReadAll(res.Body); string(b) != "late" {
		t.Errorf("%q", b)
	}
	if res, body, err := get("GET", "/none"); res.StatusCode != 204 || body != "" || err != nil {
		t.Errorf("%v %q, %v", res, body, err)
	}
	if res, body, err := get("GET", "/trailer"); body != "body" || err != nil || res.Trailer.Get("X-Sum") != "7" {
		t.Errorf("%v %q, %v", res.Trailer, body, err)
	}
	if _, body, err := get("GET", "/stream"); body != "data 0\ndata 1\ndata 2\n" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if _, body, err := get("GET", "/broken"); body != "half" || err == nil {
		t.Errorf("%q, %v", body, err)
	}
	c = n.dialName("site.test", 80)
	br = bufio.NewReader(c)
	if _, body, err := get("GET", "/cut"); body != "half" || err == nil {
		t.Errorf("%q, %v", body, err)
	}
}

// TestRelayFailures: a server that cannot be reached, one at a special address, a quota that is used up.
func TestRelayFailures(t *testing.T) {
	n := newRelayed(t, reading)
	ask := func(n *network, want int, text string) {
		t.Helper()
		c := n.dialName("site.test", 80)
		if status, body := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != want || !strings.Contains(body, text) {
			t.Errorf("%d %q", status, body)
		}
	}
	ask(n, 502, "site.test:80 is allowed, but could not be reached")
	n.host("site.test", "127.0.0.1")
	ask(n, 403, "needs a rule of its own")
	n.wantEvents("net dial.failed report site.test:80", "net dial.special_address deny site.test:80")

	n = newRelayed(t, reading)
	n.keep(profiles.Quota{Upload: 10})
	n.web(mirror)
	ask(n, 403, "may send no more")
	n.wantEvents("net tcp.connect allow site.test:80", "limit limit.upload deny 10", "net tcp.upload deny site.test:80")
}

// TestRelayClientLeaves: a request whose client is gone does not wait for its answer.
func TestRelayClientLeaves(t *testing.T) {
	n := newRelayed(t, reading)
	came, gone := make(chan struct{}), make(chan struct{})
	n.web(func(w http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
		close(gone)
	})
	c := n.dialName("site.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	<-came
	n.nobody.Store(true)
	c.Close()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the server's request goes on")
	}
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request report GET http://site.test/")
}

// TestRelayDialOutlivesClient: a server that is reached when the client is gone is told of by the connection's end.
func TestRelayDialOutlivesClient(t *testing.T) {
	n := newRelayed(t, reading)
	n.web(mirror)
	dialing, goOn := make(chan struct{}), make(chan struct{})
	dial := n.g.cfg.Dial
	n.g.cfg.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		close(dialing)
		<-goOn
		return dial(ctx, addr)
	}
	c := n.dialName("site.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	<-dialing
	n.nobody.Store(true)
	c.Close()
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request report GET http://site.test/")
	time.Sleep(5 * closing) // for what would end before the dial does
	close(goOn)
	if e := n.ended(); !e.Traffic.Address.IsValid() {
		t.Errorf("the end is %+v", e)
	}
}

// TestRelayHalfClose: a client that has only said all that it has to say waits for the answer.
func TestRelayHalfClose(t *testing.T) {
	n := newRelayed(t, reading)
	ended := make(chan struct{})
	n.web(func(w http.ResponseWriter, r *http.Request) {
		<-ended
		select {
		case <-r.Context().Done():
		case <-time.After(5 * closing):
		}
		fmt.Fprint(w, "all of it")
	})
	c := n.dialName("site.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	c.CloseWrite()
	close(ended)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "all of it" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request allow GET http://site.test/")
	if e := n.ended(); e.Reason != "" {
		t.Errorf("the end is %q", e.Reason)
	}
}

// TestRelayWebsocket: an upgrade passes where it is granted, and every other one is left out.
func TestRelayWebsocket(t *testing.T) {
	n := newRelayed(t, profiles.Requests{Methods: []string{"GET"}})
	n.web(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(w, "plain")
			return
		}
		c, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\n")
		line, _ := brw.ReadString('\n')
		fmt.Fprint(c, "echo "+line)
	})
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	if status, body := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"); status != 200 || body != "plain" {
		t.Errorf("%d %q", status, body)
	}
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+websocketKey+"\r\nhello\n")
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%v, %v", res, err)
	}
	wantRead(t, br, "echo hello\n")
	n.wantEvents("net tcp.connect allow site.test:80", "net http.request allow GET http://site.test/", "net http.request allow GET http://site.test/")
	if e := n.log.last(t); e.Reason != "answered with status 101" {
		t.Errorf("%+v", e)
	}
}
