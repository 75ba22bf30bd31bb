// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificate is for allowed.test, for the tests of one process.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"allowed.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// tlsEcho is a TLS server that echoes lines.
func tlsEcho(t *testing.T) func(net.Conn) {
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return func(c net.Conn) {
		echo(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}
}

// hello records the ClientHello of Go's client for a name, or without one for "".
func hello(t testing.TB, name string, more ...func(*tls.Config)) []byte {
	t.Helper()
	client, server := net.Pipe()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	for _, f := range more {
		f(cfg)
	}
	go func() {
		tls.Client(client, cfg).Handshake()
		client.Close()
	}()
	defer server.Close()
	b := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, int(b[3])<<8|int(b[4]))...)
	if _, err := io.ReadFull(server, b[recordHeader:]); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTLS(t *testing.T) {
	for _, port := range []int{443, 8443} {
		for _, sni := range []string{"allowed.test", "ALLOWED.Test"} {
			n := newNetwork(t, nil, "allowed.test:443", "allowed.test:8443")
			n.host("allowed.test", "93.184.216.34")
			n.server("93.184.216.34:443", tlsEcho(t))
			n.server("93.184.216.34:8443", tlsEcho(t))
			c := tls.Client(n.dialName("allowed.test", port), &tls.Config{ServerName: sni, InsecureSkipVerify: true})
			send(t, c, "hello\n")
			wantRead(t, c, "echo: hello\n")
			n.wantEvents("net tcp.connect allow allowed.test:" + map[int]string{443: "443", 8443: "8443"}[port])
		}
	}
}

// Containment checks: J01.
func TestTLSMismatch(t *testing.T) {
	for _, sni := range []string{"evil.test", "sub.allowed.test", "", "93.184.216.34"} {
		for _, port := range []int{443, 8443} {
			n := newNetwork(t, nil, "allowed.test:443", "allowed.test:8443")
			c := tls.Client(n.dialName("allowed.test", port), &tls.Config{ServerName: sni, InsecureSkipVerify: true})
			err := c.Handshake()
			var alert tls.AlertError
			if !errors.As(err, &alert) && !strings.Contains(err.Error(), "access denied") {
				t.Errorf("%q: %v, want an access_denied alert", sni, err)
			}
			n.wantEvents("net tls.sni_mismatch deny allowed.test:" + map[int]string{443: "443", 8443: "8443"}[port])
			if e := n.log.last(t); e.Rule == "" || e.Reason == "" {
				t.Errorf("event %+v", e)
			}
			if n.dialed() != "" || n.looked != nil {
				t.Errorf("dialed %s", n.dialed())
			}
		}
	}
}

func TestTLSDeniedName(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	c := tls.Client(n.dialName("evil.test", 443), &tls.Config{ServerName: "evil.test", InsecureSkipVerify: true})
	if err := c.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("%v, want an access_denied alert", err)
	}
	n.wantEvents("net tcp.connect deny evil.test:443")
}

func TestTLSSpecialAddress(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	n.host("allowed.test", "10.0.0.1")
	c := tls.Client(n.dialName("allowed.test", 443), &tls.Config{ServerName: "allowed.test", InsecureSkipVerify: true})
	if err := c.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("%v, want an access_denied alert", err)
	}
	n.wantEvents("net dial.special_address deny allowed.test:443")
}

// A hello that comes in pieces is the same hello, and arrives as it was sent.
// Containment checks: J02, J07.
func TestTLSHelloInPieces(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	n.host("allowed.test", "93.184.216.34")
	got := make(chan []byte, 1)
	whole := hello(t, "allowed.test")
	n.server("93.184.216.34:443", func(c net.Conn) {
		b := make([]byte, len(whole))
		io.ReadFull(c, b)
		got <- b
	})
	c := n.dialName("allowed.test", 443)
	for i := range whole {
		send(t, c, string(whole[i:i+1]))
	}
	if b := <-got; !bytes.Equal(b, whole) {
		t.Error("the hello was changed")
	}
}

func TestTLSHelloThatEnds(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	c := n.dialName("allowed.test", 443)
	send(t, c, string(hello(t, "allowed.test")[:40]))
	c.CloseWrite()
	wantRead(t, c, string(accessDenied()))
	n.wantEvents("net tls.sni_mismatch deny allowed.test:443")
}

// records parts a handshake message into records of at most size bytes.
func records(msg []byte, size int) []byte {
	var out []byte
	for len(msg) > 0 {
		n := min(size, len(msg))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out, msg = append(out, msg[:n]...), msg[n:]
	}
	return out
}

// handshake builds a ClientHello message with the given extensions.
func handshake(exts ...[]byte) []byte {
	all := bytes.Join(exts, nil)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	body = append(body, byte(len(all)>>8), byte(len(all)))
	body = append(body, all...)
	return append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

func extension(id int, data []byte) []byte {
	return append([]byte{byte(id >> 8), byte(id), byte(len(data) >> 8), byte(len(data))}, data...)
}

// sni is a server_name extension with the given entries.
func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, 0, byte(len(n)>>8), byte(len(n)))
		list = append(list, n...)
	}
	return extension(0, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...))
}

// Containment checks: J02, J03.
func TestHelloName(t *testing.T) {
	good := handshake(sni("allowed.test"))
	ech := func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }
	trailing := append(bytes.Clone(good), 0)
	long := handshake(sni("allowed.test"), extension(21, make([]byte, 60000)))
	tests := []struct {
		what string
		b    []byte
		want string // "" for a refusal, "short" for more bytes wanted
	}{
		{"Go's client", hello(t, "allowed.test"), "allowed.test"},
		{"Go's client, TLS 1.3", hello(t, "allowed.test", ech), "allowed.test"},
		{"Go's client without SNI", hello(t, ""), ""},
		{"minimal", records(good, 1<<14), "allowed.test"},
		{"one byte a record", records(good, 1), "allowed.test"},
		{"long, in records", records(long, 1<<14), "allowed.test"},
		{"early data behind", append(records(good, 1<<14), 23, 3, 3, 0, 1, 0), "allowed.test"},
		{"unknown extensions and GREASE", records(handshake(extension(0x0a0a, nil), sni("allowed.test"), extension(0x1a1a, []byte{0})), 1<<14), "allowed.test"},
		{"an encrypted hello: the outer name counts", records(handshake(extension(0xfe0d, make([]byte, 100)), sni("outer.test")), 1<<14), "outer.test"},
		{"no extensions", records(handshake(), 1<<14), ""},
		{"other extensions only", records(handshake(extension(43, []byte{2, 3, 4})), 1<<14), ""},
		{"two names", records(handshake(sni("allowed.test", "evil.test")), 1<<14), ""},
		{"two extensions", records(handshake(sni("allowed.test"), sni("evil.test")), 1<<14), ""},
		{"another extension twice", records(handshake(sni("allowed.test"), extension(16, nil), extension(16, nil)), 1<<14), ""},
		{"no entry", records(handshake(sni()), 1<<14), ""},
		{"another type of name", records(handshake(extension(0, []byte{0, 4, 1, 0, 1, 'a'})), 1<<14), ""},
		{"list too short", records(handshake(extension(0, []byte{0, 1, 0, 0, 1, 'a'})), 1<<14), ""},
		{"two messages in a record", records(append(bytes.Clone(good), good...), 1<<14), ""},
		{"a byte too many", records(trailing, 1<<14), ""},
		{"body too long", records(append([]byte{1, 0, 0, byte(len(good) - 3)}, append(bytes.Clone(good[4:]), 0)...), 1<<14), ""},
		{"another handshake message", []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, ""},
		{"an empty record", append([]byte{22, 3, 1, 0, 0}, records(good, 1<<14)...), ""},
		{"an alert between", append(append(records(good[:10], 10), 21, 3, 1, 0, 2, 1, 0), records(good[10:], 1<<14)...), ""},
		{"a record too long", append([]byte{22, 3, 1, 0x40, 1}, make([]byte, 0x4001)...), ""},
		{"a message too long", []byte{22, 3, 1, 0, 4, 1, 1, 0, 0}, ""},
		{"too many bytes", make([]byte, maxHello+1), ""},
		{"nothing", nil, "short"},
		{"a header", []byte{22, 3, 1, 0}, "short"},
		{"a part", records(good, 1<<14)[:30], "short"},
	}
	for _, tt := range tests {
		name, err := helloName(tt.b)
		switch {
		case tt.want == "short" && !errors.Is(err, errHelloShort), tt.want != "short" && errors.Is(err, errHelloShort):
			t.Errorf("%s: %q, %v", tt.what, name, err)
		case tt.want != "short" && (name != tt.want || (err == nil) != (tt.want != "")):
			t.Errorf("%s: %q, %v; want %q", tt.what, name, err, tt.want)
		}
	}
}

// goName is the name that Go's server sees in a hello. ok is false if it takes the hello for none.
func goName(b []byte) (name string, ok bool) {
	client, server := net.Pipe()
	go io.Copy(io.Discard, client) // alerts
	go func() {
		client.Write(b)
		client.Close()
	}()
	defer server.Close()
	done := errors.New("done")
	tls.Server(server, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, done
	}}).Handshake()
	return name, ok
}

// FuzzClientHello holds what is read against Go's own server: where both take a hello, they must see the same name.
// Containment checks: I23, J02, P01.
func FuzzClientHello(f *testing.F) {
	f.Add(hello(f, "allowed.test"))
	f.Add(hello(f, ""))
	f.Add(records(handshake(sni("allowed.test")), 7))
	f.Add(records(handshake(sni("a.test", "b.test")), 1<<14))
	f.Add(records(handshake(sni("a.test"), sni("b.test")), 1<<14))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := helloName(b)
		if err != nil {
			if name != "" {
				t.Errorf("name %q with error %v", name, err)
			}
			return
		}
		if theirs, ok := goName(b); ok && strings.TrimSuffix(theirs, ".") != strings.TrimSuffix(name, ".") {
			t.Errorf("%q here, %q for crypto/tls", name, theirs)
		}
	})
}
