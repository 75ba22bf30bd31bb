// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// FuzzProxyRequest: what is read of a request is what Go's server reads, and a name that it leads to is canonical.
func FuzzProxyRequest(f *testing.F) {
	f.Add([]byte("CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n"))
	f.Add([]byte("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n"))
	f.Add([]byte("GET http://allowed.test:8080/x?y HTTP/1.1\r\nHost: allowed.test:8080\r\nConnection: a, b\r\n\r\n"))
	f.Add([]byte("OPTIONS http://[::1] HTTP/1.0\r\nHost: [::1]\r\nProxy-Authorization: Basic x\r\n\r\n"))
	f.Add([]byte("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headEnd(b)
		if end == 0 {
			return
		}
		r, err := parseProxyRequest(b[:end])
		if err != nil {
			return
		}
		if r.port == 0 {
			t.Error("a request for port 0")
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return // secondOpinion refuses it too, or the name is none
		}
		if theirs := req.URL.Hostname(); !strings.EqualFold(theirs, r.host) {
			if _, err := canonicalName(r.host); err == nil {
				t.Errorf("host %q here, %q for net/http", r.host, theirs)
			}
		}
		if r.connect {
			return
		}
		h, err := parseHead(b[:end], r.host, r.port)
		if err != nil {
			return
		}
		h.direct("rebuilt.test")
		out, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(h.bytes(false))))
		if err != nil {
			t.Fatalf("%q: %v", h.bytes(false), err)
		}
		if out.Host != "rebuilt.test" || out.URL.Host != "" || !out.Close || out.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%q", h.bytes(false))
		}
	})
}

// FuzzSOCKS: no more is taken than there is, and a short request is never taken for a whole one.
// Containment check: I14.
func FuzzSOCKS(f *testing.F) {
	f.Add([]byte(socksTo("allowed.test", 443)))
	f.Add([]byte(socksToAddr(netip.MustParseAddr("5.6.7.8"), 443)))
	f.Add([]byte(socksToAddr(netip.MustParseAddr("2001:db8::1"), 443)))
	f.Add([]byte("\x05\x02\x00\x02\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := socksGreeting(b)
		if err != nil {
			return
		}
		b = b[n:]
		n, host, port, err := socksRequest(b)
		if err != nil {
			return
		}
		if n > len(b) || len(host) > 255 || port == 0 {
			t.Errorf("%d of %d bytes, host %q, port %d", n, len(b), host, port)
		}
		for i := range n {
			if _, _, _, err := socksRequest(b[:i]); !errors.Is(err, errSOCKSShort) {
				t.Errorf("%q: %v", b[:i], err)
			}
		}
	})
}
