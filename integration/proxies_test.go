// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The proxies that stand for a company's, on the host's loopback. The password is in no log and nowhere inside.
const (
	proxyPort     = "3128" // wants a password
	tlsProxy      = "3130" // is spoken to by TLS
	closedProxy   = "3129" // refuses whatever it is asked
	proxyPassword = "CANARY-proxy"
)

// behindProxy are names that only the proxies can resolve.
var behindProxy = map[string]string{"behind.test": "5.6.7.8", "inner.behind.test": "10.11.12.13"}

// serveProxy is an HTTP proxy: CONNECT, and requests in absolute form; over TLS where config is not nil.
func (s *servers) serveProxy(addr string, config *tls.Config, open bool) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	_, port, _ := net.SplitHostPort(addr)
	transport := &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return net.Dial("tcp", proxyTarget(addr)) }}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+proxyPassword))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note("proxy " + port + " " + r.Method + " " + r.RequestURI)
		switch {
		case !open:
			http.Error(w, "closed", http.StatusForbidden)
		case r.Header.Get("Proxy-Authorization") != want:
			w.Header().Set("Proxy-Authenticate", "Basic")
			http.Error(w, "who?", http.StatusProxyAuthRequired)
		case r.Method == http.MethodConnect:
			s.tunnel(w, r.RequestURI)
		default:
			relay(w, r, transport)
		}
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go server.Serve(l)
	return nil
}

// proxyTarget is where a proxy dials for HOST:PORT.
func proxyTarget(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	if known, ok := behindProxy[host]; ok {
		return net.JoinHostPort(known, port)
	}
	if known := names[host+"."]; len(known) > 0 {
		return net.JoinHostPort(known[0], port)
	}
	return addr
}

func (s *servers) tunnel(w http.ResponseWriter, target string) {
	up, err := net.Dial("tcp", proxyTarget(target))
	if err != nil {
		http.Error(w, "unreachable", http.StatusBadGateway)
		return
	}
	defer up.Close()
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	ferry(conn, buf.Reader, up)
}

// ferry copies both ways until one side ends.
func ferry(conn net.Conn, from *bufio.Reader, up net.Conn) {
	done := make(chan struct{}, 2)
	go func() { io.Copy(up, from); done <- struct{}{} }()
	go func() { io.Copy(conn, up); done <- struct{}{} }()
	<-done
}

func relay(w http.ResponseWriter, r *http.Request, transport *http.Transport) {
	r.RequestURI = ""
	for name := range r.Header {
		if strings.HasPrefix(name, "Proxy-") {
			r.Header.Del(name)
		}
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		http.Error(w, "unreachable", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// serveSOCKS is a SOCKS5 proxy without a password that takes names only (RFC 1928).
func (s *servers) serveSOCKS(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.socks(conn)
		}
	}()
	return nil
}

func (s *servers) socks(conn net.Conn) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	read := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(br, b)
		return b
	}
	read(int(read(2)[1]))
	io.WriteString(conn, "\x05\x00")
	if head := read(4); head[0] != 5 || head[1] != 1 || head[3] != 3 {
		return
	}
	host := string(read(int(read(1)[0])))
	port := read(2)
	s.note("socks " + host)
	up, err := net.Dial("tcp", proxyTarget(net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))))
	if err != nil {
		io.WriteString(conn, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00")
		return
	}
	defer up.Close()
	io.WriteString(conn, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	ferry(conn, br, up)
}
