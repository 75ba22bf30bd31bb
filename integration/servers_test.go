// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/crypto/ssh"
)

// names are what the test's resolver answers. The addresses are on lo of the suite's network namespace (ENTER in lib.sh);
// the public ones are public by their number alone.
var names = map[string][]string{
	"allowed.test.":     {"5.6.7.8", "2a00:5678::8"},
	"six.test.":         {"2a00:5678::8"},
	"denied.test.":      {"5.6.7.9", "2a00:5678::9"},
	"evilallowed.test.": {"5.6.7.9"},
	"a.wild.test.":      {"5.6.7.10"},
	"wild.test.":        {"5.6.7.10"},
	"barred.wild.test.": {"5.6.7.10"},
	"barred.test.":      {"5.6.7.9"},
	"loopback.test.":    {"127.0.0.1"},
	"private.test.":     {"10.11.12.13"},
	"metadata.test.":    {"169.254.169.254"},
	"metadata6.test.":   {"fd00:ec2::254"},
	"nat64.test.":       {"64:ff9b::a9fe:a9fe"},
	"mixed.test.":       {"5.6.7.8", "169.254.169.254"},
}

// publicAddrs are the addresses on which HTTP, HTTPS, ssh and echo servers listen, at the ports of those services.
var publicAddrs = []string{
	"5.6.7.8", "5.6.7.9", "5.6.7.10", "10.11.12.13", "169.254.169.254", "2a00:5678::8", "2a00:5678::9",
}

// Ports of the servers. The loopback ones stand for a developer's own services.
const (
	echoPort     = "7"
	dataPort     = "5432"
	h2Port       = "8443" // HTTP/2, too
	loopbackHTTP = "8099"
	loopbackEcho = "8077"
)

// servers are the other side of every network test: what they heard is what really arrived.
type servers struct {
	caPEM   []byte
	tls     *tls.Config
	hostKey ssh.Signer
	mux     *http.ServeMux

	mu   sync.Mutex
	said []string
}

// note keeps what arrived at a server.
func (s *servers) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, text)
}

// heard tells whether a text arrived anywhere.
func (s *servers) heard(text string) bool { return s.count(text) > 0 }

// count is how often a text arrived.
func (s *servers) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, line := range s.said {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func startServers() (*servers, error) {
	s := &servers{mux: http.NewServeMux()}
	if err := errors.Join(s.makeCertificates(), s.makeHostKey()); err != nil {
		return nil, err
	}
	// A repository as git reads it from any web server (gitprotocol-http(5), dumb).
	s.mux.HandleFunc("/repo.git/info/refs", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%040d\trefs/heads/main\n", 1)
	})
	// "/redirect?STATUS=LOCATION" leads there.
	s.mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		status, location, _ := strings.Cut(r.URL.RawQuery, "=")
		code, _ := strconv.Atoi(status)
		w.Header().Set("Location", location)
		w.WriteHeader(max(code, http.StatusMultipleChoices))
	})
	s.mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		s.note(fmt.Sprintf("upload %s of %d bytes, whole %t", r.UserAgent(), n, err == nil))
		fmt.Fprintf(w, "%s got %d bytes\n", r.Host, n)
	})
	s.mux.HandleFunc("/proto/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.Proto) })
	s.mux.HandleFunc("/socket", s.serveSocket)
	s.mux.HandleFunc("/test.Echo/Stream", s.serveGRPC)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", r.Host)
	})
	for _, addr := range publicAddrs {
		if err := s.listenAt(addr); err != nil {
			return nil, err
		}
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		if err := s.serveHTTP(net.JoinHostPort(addr, loopbackHTTP), nil); err != nil {
			return nil, err
		}
		if err := s.serveEcho(net.JoinHostPort(addr, loopbackEcho)); err != nil {
			return nil, err
		}
	}
	for _, serve := range []func() error{
		func() error { return s.serveProxy("127.0.0.1:"+proxyPort, nil, true) },
		func() error { return s.serveProxy("127.0.0.1:"+closedProxy, nil, false) },
		func() error { return s.serveProxy("5.6.7.8:"+tlsProxy, s.tls, true) },
		func() error { return s.serveSOCKS("127.0.0.1:1080") },
	} {
		if err := serve(); err != nil {
			return nil, err
		}
	}
	// The resolver of the host, and one that an agent may try to ask past it.
	for _, addr := range []string{"127.0.0.1:53", "5.6.7.9:53"} {
		if err := s.serveDNS(addr); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *servers) listenAt(addr string) error {
	if err := s.serveHTTP(net.JoinHostPort(addr, "80"), nil); err != nil {
		return err
	}
	if err := s.serveHTTP(net.JoinHostPort(addr, "443"), s.tls); err != nil {
		return err
	}
	h2 := s.tls.Clone()
	h2.NextProtos = []string{"h2", "http/1.1"}
	if err := s.serveHTTP(net.JoinHostPort(addr, h2Port), h2); err != nil {
		return err
	}
	for _, port := range []string{echoPort, dataPort} {
		if err := s.serveEcho(net.JoinHostPort(addr, port)); err != nil {
			return err
		}
	}
	return s.serveSSH(net.JoinHostPort(addr, sshPort))
}

func (s *servers) serveHTTP(addr string, config *tls.Config) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(fmt.Sprintf("http %s %s %s%s %s", addr, r.Method, r.Host, r.URL, r.UserAgent()))
		s.mux.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: handler, ErrorLog: nil, ReadHeaderTimeout: time.Minute}
	go server.Serve(l)
	return nil
}

// serveSocket is a websocket (RFC 6455 section 4.2.2) that echoes what is sent to it, frames and all.
func (s *servers) serveSocket(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	frame := make([]byte, 4096)
	for {
		n, err := buffered.Read(frame)
		if err != nil {
			return
		}
		conn.Write(unmasked(frame[:n]))
		const opcodeClose = 8
		if frame[0]&0xf == opcodeClose {
			return
		}
	}
}

// unmasked turns a short frame of a client into one of a server, RFC 6455 section 5.2.
func unmasked(frame []byte) []byte {
	const head, mask = 2, 4
	if len(frame) < head+mask || frame[1]&0x80 == 0 {
		return frame
	}
	out := []byte{frame[0], frame[1] &^ 0x80}
	for i, b := range frame[head+mask:] {
		out = append(out, b^frame[head+i%mask])
	}
	return out
}

// serveGRPC answers each message of a call at once, with "echo " before it, and ends with a status (grpc.io, PROTOCOL-HTTP2).
func (s *servers) serveGRPC(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	flusher := http.NewResponseController(w)
	flusher.Flush()
	count, prefix := 0, make([]byte, 5)
	for ; ; count++ {
		if _, err := io.ReadFull(r.Body, prefix); err != nil {
			break
		}
		message := make([]byte, min(binary.BigEndian.Uint32(prefix[1:]), 1<<20))
		if _, err := io.ReadFull(r.Body, message); err != nil {
			break
		}
		s.note("grpc " + string(message))
		message = append([]byte("echo "), message...)
		w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
		flusher.Flush()
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set("Grpc-Message", fmt.Sprintf("%d messages", count))
}

// serveEcho answers lines over TCP, and datagrams over UDP.
func (s *servers) serveEcho(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go echoLines(l, func(line string) { s.note("tcp " + addr + " " + line) })
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			s.note("udp " + addr + " " + string(buf[:n]))
			packets.WriteTo(append([]byte("echo "), buf[:n]...), from)
		}
	}()
	return nil
}

// echoLines answers one line for each connection, "echo" and what came.
func echoLines(l net.Listener, note func(string)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			line, err := bufio.NewReader(io.LimitReader(c, 4096)).ReadString('\n')
			if line != "" {
				note(line)
			}
			if err == nil {
				fmt.Fprint(c, "echo ", line)
			}
		}()
	}
}

func (s *servers) serveDNS(addr string) error {
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			s.note("dns " + strings.ToLower(strings.TrimSuffix(question.Name, ".")))
			answer.Answer = append(answer.Answer, records(question)...)
			if _, known := names[strings.ToLower(question.Name)]; !known {
				answer.Rcode = dns.RcodeNameError
			}
		}
		w.WriteMsg(answer)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: l, Handler: handler}} {
		go server.ActivateAndServe()
	}
	return nil
}

func records(q dns.Question) []dns.RR {
	var out []dns.RR
	for _, text := range names[strings.ToLower(q.Name)] {
		ip := net.ParseIP(text)
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 1}
		switch {
		case q.Qtype == dns.TypeA && ip.To4() != nil:
			out = append(out, &dns.A{Hdr: header, A: ip})
		case q.Qtype == dns.TypeAAAA && ip.To4() == nil:
			out = append(out, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	return out
}

// makeCertificates makes an authority that lives as long as the suite, and one certificate for all names.
func (s *servers) makeCertificates() error {
	now := time.Now()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agentjail test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "agentjail test"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for name := range names {
		leaf.DNSNames = append(leaf.DNSNames, strings.TrimSuffix(name, "."))
	}
	for name := range behindProxy {
		leaf.DNSNames = append(leaf.DNSNames, name)
	}
	for _, addr := range publicAddrs {
		leaf.IPAddresses = append(leaf.IPAddresses, net.ParseIP(addr))
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: caDER}); err != nil {
		return err
	}
	s.caPEM = buf.Bytes()
	s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return nil
}
