// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/egress/authority"
	"github.com/agentjail/agentjail/profiles"
)

// An inspected network has site.test:443, of whose requests some are granted.
type inspected struct {
	*network
	served *authority.Authority // vouches for servers
	roots  *x509.CertPool       // of clients inside
}

func newInspected(t *testing.T, requests profiles.Requests) inspected {
	t.Helper()
	n := inspected{newNetwork(t, nil), nil, x509.NewCertPool()}
	requests.Inspect = true
	rule := profiles.Rule{Host: "site.test", Ports: []profiles.PortRange{{First: 443, Last: 443}}, Requests: requests}
	n.g.cfg.Rules = []profiles.Rule{rule}
	var err1, err2 error
	n.g.authority, err1 = newAuthority(n.g.cfg.Rules)
	n.served, err2 = authority.New([]string{"site.test", "other.test"})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	n.roots.AppendCertsFromPEM(n.g.Authority())
	n.g.cfg.Roots = x509.NewCertPool()
	n.g.cfg.Roots.AppendCertsFromPEM(n.served.PEM())
	return n
}

// secure serves TLS at 93.184.216.34:443, which site.test resolves to, with the certificate of a name.
func (n inspected) secure(name string, handler http.HandlerFunc, change func(*tls.Config)) {
	n.t.Helper()
	certificate, err := n.served.For(name)
	if err != nil {
		n.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	n.t.Cleanup(s.Close)
	n.host("site.test", "93.184.216.34")
	n.listen("93.184.216.34:443", s.Listener)
}

// client is an HTTP client inside, of one version of HTTP.
func (n inspected) client(h2 bool) *http.Client {
	tr := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return n.dialName("site.test", 443), nil },
		TLSClientConfig:   &tls.Config{RootCAs: n.roots, ServerName: "site.test"},
		ForceAttemptHTTP2: h2,
	}
	n.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// ask sends a request, and returns status and body of the answer.
func ask(t *testing.T, c *http.Client, method, url, host, body string) (int, string, *http.Response) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res.StatusCode, string(b), res
}

// TestInspect: what is in TLS is judged as plain HTTP is, in HTTP/1.1 and HTTP/2.
// Containment check: J05.
func TestInspect(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		n := newInspected(t, reading)
		n.secure("site.test", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprint(w, r.Proto, " ")
			mirror(w, r)
			w.Header().Set("X-Sum", "7")
		}, nil)
		c := n.client(h2)
		status, body, res := ask(t, c, "GET", "https://site.test/a/b?q=1", "", "")
		if status != 200 || body != `HTTP/2.0 GET site.test /a/b?q=1 "" map[]` || res.Trailer.Get("X-Sum") != "7" || res.ProtoMajor == 2 != h2 {
			t.Errorf("HTTP/2 %t: %d %q, %v", h2, status, body, res.Trailer)
		}
		if status, body, _ := ask(t, c, "POST", "https://site.test/up", "", "12345"); status != 200 || !strings.HasSuffix(body, `POST site.test /up "12345" map[]`) {
			t.Errorf("HTTP/2 %t: %d %q", h2, status, body)
		}
		for want, try := range map[string][4]string{
			`method "DELETE" is not granted`:                      {"DELETE", "/a/b", "", ""},
			"the path is not granted":                             {"GET", "/secret", "", ""},
			"longer than 100":                                     {"POST", "/up", "", strings.Repeat("x", 101)},
			`is for "other.test", but the connection was made to`: {"GET", "/a/b", "other.test", ""},
			`made to port 443`:                                    {"GET", "/a/b", "site.test:444", ""},
		} {
			if status, body, _ := ask(t, c, try[0], "https://site.test"+try[1], try[2], try[3]); status != 403 || !strings.Contains(body, want) {
				t.Errorf("HTTP/2 %t: %v: %d %q", h2, try, status, body)
			}
		}
		lines := strings.Join(n.log.lines(), "\n")
		for _, want := range []string{
			"net tcp.connect allow site.test:443", "net http.request allow GET https://site.test/a/b", "net http.request allow POST https://site.test/up",
			"net http.request deny DELETE https://site.test/a/b", "net http.request deny GET https://site.test/secret", "net http.request deny POST https://site.test/up",
			"net http.host_mismatch deny site.test:443",
		} {
			if !strings.Contains(lines, want) {
				t.Errorf("HTTP/2 %t: no %s in\n%s", h2, want, lines)
			}
		}
		if strings.Count(n.dialed(), "93") != 1 {
			t.Errorf("dialed %s", n.dialed())
		}
		c.CloseIdleConnections()
		if e := n.ended(); e.Target != "site.test:443" || e.Traffic.Sent < 500 || e.Traffic.Received < 500 { // two handshakes are longer
			t.Errorf("HTTP/2 %t: %+v with %+v", h2, e, e.Traffic)
		}
	}
}

// TestInspectServers: a server that is not vouched for gets no request, and the client a 502.
// Containment check: J07.
func TestInspectServers(t *testing.T) {
	handler := func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }
	other, err := authority.New([]string{"site.test"})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.For("site.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		want   string
	}{
		{"other.test", nil, "x509: certificate is valid for other.test, not site.test"},
		{"site.test", func(c *tls.Config) { c.Certificates = []tls.Certificate{*foreign} }, "signed by unknown authority"},
		{"site.test", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }, "protocol version"},
		{"site.test", func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }, "remote error: tls"},
	} {
		n := newInspected(t, profiles.Requests{})
		n.secure(tt.name, handler, tt.change)
		if status, body, _ := ask(t, n.client(true), "GET", "https://site.test/x", "", ""); status != 502 || !strings.Contains(body, "could not be reached") {
			t.Errorf("%s: %d %q", tt.want, status, body)
		}
		if e := n.log.last(t); e.Action != actionDialFailed || !strings.Contains(e.Reason, tt.want) {
			t.Errorf("%s: %+v", tt.want, e)
		}
	}
}

// TestInspectClientAlert: a client that trusts others fails, and says why.
// Containment check: J06.
func TestInspectClientAlert(t *testing.T) {
	n := newInspected(t, profiles.Requests{})
	n.secure("site.test", mirror, nil)
	c := tls.Client(n.dialName("site.test", 443), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "site.test"})
	if err := c.Handshake(); err == nil {
		t.Error("it trusts the authority")
	}
	n.wantEvents("net tls.handshake_failed report site.test:443")
	if e := n.log.last(t); !strings.HasPrefix(e.Reason, "tls alert from the client: ") {
		t.Errorf("%+v", e)
	}
	// As OpenSSL says it, after the server's first words.
	raw := n.dialName("site.test", 443)
	send(t, raw, string(hello(t, "site.test")))
	if _, err := io.ReadFull(raw, make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	send(t, raw, "\x15\x03\x03\x00\x02\x02\x30")
	n.wantEvents("net tls.handshake_failed report site.test:443", "net tls.handshake_failed report site.test:443")
	if e := n.log.last(t); !strings.HasPrefix(e.Reason, "tls alert from the client: tls: unknown certificate authority; ") {
		t.Errorf("%+v", e)
	}
	if n.dialed() != "" {
		t.Errorf("dialed %s", n.dialed())
	}
	// The name is proven before anything is answered.
	c = tls.Client(n.dialName("site.test", 443), &tls.Config{RootCAs: n.roots, ServerName: "other.test"})
	if err := c.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Error(err)
	}
}

// TestInspectTruncation: an answer that breaks off is seen to, in both protocols.
func TestInspectTruncation(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		n := newInspected(t, profiles.Requests{})
		n.secure("site.test", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil)
		res, err := n.client(h2).Get("https://site.test/")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil || string(b) != "half" {
			t.Errorf("HTTP/2 %t: %q, %v", h2, b, err)
		}
	}
}

// TestInspectWebsocket: TLS in which the protocol changes.
func TestInspectWebsocket(t *testing.T) {
	n := newInspected(t, profiles.Requests{})
	n.secure("site.test", func(w http.ResponseWriter, r *http.Request) {
		c, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+websocketAccept+"\r\n")
		line, _ := brw.ReadString('\n')
		fmt.Fprint(c, "echo "+line)
	}, nil)
	c := tls.Client(n.dialName("site.test", 443), &tls.Config{RootCAs: n.roots, ServerName: "site.test"})
	br := bufio.NewReader(c)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+websocketKey+"\r\nhello\n")
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, %v", res, err)
	}
	wantRead(t, br, "echo hello\n")
	send(t, tls.Client(n.dialName("site.test", 443), &tls.Config{RootCAs: n.roots, ServerName: "site.test"}), "SSH-2.0-x\r\n\r\n")
	eventually(t, func() bool {
		return strings.Contains(strings.Join(n.log.lines(), "\n"), "http.malformed deny site.test:443")
	})
}

// TestCheckStream: a request of HTTP/2 is for the host, by every word in it that names one.
// Containment check: J05.
func TestCheckStream(t *testing.T) {
	for _, tt := range []struct {
		method, target, host, field string
		ok                          bool
	}{
		{"GET", "/", "site.test", "", true},
		{"GET", "/x?y", "SITE.test.:443", "", true},
		{"OPTIONS", "*", "site.test", "", true},
		{"GET", "/", "site.test", "site.test", true},
		{"GET", "*", "site.test", "", false},
		{"GET", "http://other.test/", "site.test", "", false},
		{"GET", "", "site.test", "", false},
		{"GET", "/", "other.test", "", false},
		{"GET", "/", "", "", false},
		{"GET", "/", "user@site.test", "", false},
		{"GET", "/", "site.test:80", "", false},
		{"GET", "/", "site.test", "other.test", false},
		{"CONNECT", "site.test:443", "site.test", "", false},
		{"G T", "/", "site.test", "", false},
		{"GET", "/\u00a0", "site.test", "", false},
		{"GET", "/%zz", "site.test", "", false},
	} {
		r := &http.Request{Method: tt.method, RequestURI: tt.target, Host: tt.host, Header: http.Header{}}
		if tt.field != "" {
			r.Header.Set("Host", tt.field)
		}
		if err := checkStream(r, "site.test", 443); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestAuthorityOfRules(t *testing.T) {
	n := newInspected(t, profiles.Requests{})
	n.g.tellAuthority()
	if e := n.log.last(t); e.Action != actionAuthority || !strings.HasPrefix(e.Target, "sha256:") || e.Reason != "TLS is inspected by this certificate, to site.test" {
		t.Errorf("%+v", e)
	}
	if ca, err := newAuthority(rules(t, "site.test")); ca != nil || err != nil {
		t.Errorf("an authority without a rule for it: %v", err)
	}
	if (&Gateway{}).Authority() != nil {
		t.Error("a certificate without an authority")
	}
}
