// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// echo answers each line with "echo: " and the line.
func echo(c net.Conn) {
	for s := bufio.NewScanner(c); s.Scan(); {
		fmt.Fprintf(c, "echo: %s\n", s.Text())
	}
}

func TestOtherProtocolIsPassedOn(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "SSH-2.0-client\r\n")
	wantRead(t, c, "echo: SSH-2.0-client\n")
	n.wantEvents("net tcp.connect allow git.test:2222")
	e := n.log.last(t)
	owner := "tcp " + netip.AddrPortFrom(n.sink("git.test"), 2222).String()
	if e.Rule != "git.test:2222" || e.Provenance != audit.FromResolved || e.PID != 42 || e.Exe != owner {
		t.Errorf("event %+v", e)
	}
}

// Containment check: R07.
func TestServerThatSpeaksFirst(t *testing.T) {
	n := newNetwork(t, nil, "mail.test:25")
	n.host("mail.test", "93.184.216.34")
	n.server("93.184.216.34:25", func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n")
		echo(c)
	})
	c := n.dialName("mail.test", 25)
	wantRead(t, c, "220 ready\r\n")
	send(t, c, "EHLO me\r\n")
	wantRead(t, c, "echo: EHLO me\n")
	n.wantEvents("net tcp.connect allow mail.test:25")
}

// Containment checks: I17.
func TestSilenceDoesNotAvoidProof(t *testing.T) {
	for _, tt := range []struct{ first, event string }{
		{"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "net http.host_mismatch deny mail.test:25"},
		{"\r\n\r\nGET / HTTP/1.1\r\nHost: mail.test:25\r\n\r\n", "net http.malformed deny mail.test:25"},
		{string(hello(t, "evil.test")), "net tls.sni_mismatch deny mail.test:25"},
		{"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\n", "net tcp.unproven deny mail.test:25"},
		{"\r\n\r\n\x00\r\nQUIT\n", "net tcp.unproven deny mail.test:25"},
	} {
		n := newNetwork(t, nil, "mail.test:25")
		n.host("mail.test", "93.184.216.34")
		got := make(chan string, 1)
		n.server("93.184.216.34:25", func(c net.Conn) {
			io.WriteString(c, "220 ready\r\n")
			b, _ := io.ReadAll(c)
			got <- string(b)
		})
		c := n.dialName("mail.test", 25)
		wantRead(t, c, "220 ready\r\n")
		send(t, c, tt.first)
		wantReset(t, c)
		n.wantEvents("net tcp.connect allow mail.test:25", tt.event)
		if b := <-got; b != "" {
			t.Errorf("the server was sent %q", b)
		}
	}
}

// Containment checks: J04.
func TestUnprovenOnWebPorts(t *testing.T) {
	for _, port := range []int{80, 443} {
		n := newNetwork(t, nil, "site.test:80", "site.test:443")
		c := n.dialName("site.test", port)
		send(t, c, "SSH-2.0-client\r\n")
		wantReset(t, c)
		n.wantEvents(fmt.Sprintf("net tcp.unproven deny site.test:%d", port))
		if n.dialed() != "" {
			t.Errorf("dialed %s", n.dialed())
		}
	}
}

func TestSilentAndClosedOnWebPorts(t *testing.T) {
	n := newNetwork(t, nil, "site.test")
	n.dialName("site.test", 443).Close()
	n.wantEvents("net tcp.connect report site.test:443")
	n.g.wait.first = 20 * time.Millisecond
	wantReset(t, n.dialName("site.test", 443))
	n.wantEvents("net tcp.connect report site.test:443", "net tcp.connect report site.test:443")
	if n.dialed() != "" {
		t.Errorf("dialed %s", n.dialed())
	}
	// One byte is an attempt.
	n.g.wait.first, n.g.wait.proof = patience, 20*time.Millisecond
	c := n.dialName("site.test", 443)
	send(t, c, "\x16")
	wantReset(t, c)
	if e := n.log.last(t); e.Action != actionUnproven || e.Decision != audit.Deny {
		t.Errorf("event %+v", e)
	}
}

func TestUndecidedFirstLineIsDenied(t *testing.T) {
	n := newNetwork(t, nil, "site.test:9999")
	n.g.wait.proof = 20 * time.Millisecond
	c := n.dialName("site.test", 9999)
	send(t, c, "GET /ends-here")
	wantReset(t, c)
	n.wantEvents("net tcp.unproven deny site.test:9999")
	c = n.dialName("site.test", 9999)
	send(t, c, "GET /"+strings.Repeat("a", maxLine))
	wantReset(t, c)
}

func TestDeniedName(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:443")
	for _, name := range []string{"evil.test", "allowed.test.evil.test", "evilallowed.test"} {
		c := n.dialName(name, 2222)
		send(t, c, "SSH-2.0-client\r\n")
		wantReset(t, c)
		if e := n.log.last(t); e.Decision != audit.Deny || e.Target != name+":2222" ||
			e.Fix != "--allow-net "+name+":2222" || e.PID != 42 {
			t.Errorf("event %+v", e)
		}
	}
	if n.dialed() != "" || n.looked != nil {
		t.Errorf("dialed %s, resolved %s", n.dialed(), n.looked)
	}
}

// Containment checks: H02.
func TestDirectAddress(t *testing.T) {
	n := newNetwork(t, nil, "10.20.0.0/16:5432", "db.test:5432")
	n.server("10.20.1.2:5432", echo)
	c := n.dial("10.20.1.2:5432")
	send(t, c, "select\n")
	wantRead(t, c, "echo: select\n")
	c.Close()
	n.wantEvents("net tcp.connect allow 10.20.1.2:5432")
	if e := n.log.last(t); e.Rule != "10.20.0.0/16:5432" || e.Provenance != audit.FromKernel {
		t.Errorf("event %+v", e)
	}

	// A port that is not granted, a public address, metadata, and an address of the pool that no name has.
	want := []string{"net tcp.connect allow 10.20.1.2:5432"}
	for _, dst := range []string{"10.20.1.2:22", "1.1.1.1:443", "[2606:4700::1]:443", "169.254.169.254:80",
		"198.18.200.1:443", "198.19.255.255:443", "[fd6a:6169:6c00::99]:443", "[fd6a:6169:6c00:1::1]:443", "127.0.0.1:22"} {
		wantReset(t, n.dial(dst))
		want = append(want, "net tcp.connect deny "+dst)
	}
	n.wantEvents(want...)
	if got := n.dialed(); got != "10.20.1.2:5432" {
		t.Errorf("dialed %s", got)
	}
}

// Containment checks: I15.
func TestAddressOfAnAllowedNameIsExplained(t *testing.T) {
	n := newNetwork(t, nil, "git.test:22")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:22", echo)
	c := n.dialName("git.test", 22)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	wantReset(t, n.dial("93.184.216.34:22"))
	if e := n.log.last(t); e.Decision != audit.Deny || !strings.Contains(e.Reason, "it belongs to git.test") {
		t.Errorf("event %+v", e)
	}
}

// Containment checks: H07.
func TestLoopback(t *testing.T) {
	for _, dst := range []string{"127.0.0.1:5432", "[::1]:5432"} {
		n := newNetwork(t, []uint16{5432})
		n.server("127.0.0.1:5432", echo) // and nothing on ::1
		c := n.dial(dst)
		send(t, c, "select\n")
		wantRead(t, c, "echo: select\n")
		n.wantEvents("net tcp.connect allow " + dst)
		if e := n.log.last(t); e.Rule != "loopback:5432" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestHalfClose(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", func(c net.Conn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %d bytes", len(b))
	})
	c := n.dialName("git.test", 2222)
	big := strings.Repeat("0123456789abcde\n", 1<<16)
	send(t, c, big)
	c.CloseWrite()
	b, err := io.ReadAll(c)
	if want := fmt.Sprintf("got %d bytes", len(big)); err != nil || string(b) != want {
		t.Errorf("read %q, %v; want %q", b, err, want)
	}
}

func TestResetTravels(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", func(c net.Conn) {
		io.ReadFull(c, make([]byte, 6))
		c.(*net.TCPConn).SetLinger(0)
	})
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantReset(t, c)
}

// Containment checks: I22.
func TestOverload(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	for range cap(n.g.slots) {
		n.g.slots <- struct{}{}
	}
	wantReset(t, n.dialName("git.test", 2222))
	wantReset(t, n.dial("93.184.216.34:2222"))
	n.wantEvents("net tcp.connect deny git.test:2222", "net tcp.connect deny 93.184.216.34:2222")
	<-n.g.slots
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
}

// The bound leaves files for everything else.
// Containment checks: I22.
func TestConnsFor(t *testing.T) {
	for files, want := range map[uint64]int{0: 1, 64: 4, 1024: 64, 4096: 256, 16384: maxConns, 1 << 20: maxConns} {
		if got := connsFor(files); got != want {
			t.Errorf("%d files: %d connections, want %d", files, got, want)
		}
	}
}

func TestClose(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222", "site.test:80")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	waiting := n.dialName("site.test", 80)
	if err := n.g.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, waiting} {
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("read %q, %v after Close", b, err)
		}
	}
	if err := n.g.Serve(Net{TCP: []net.Listener{n}}); err != ErrClosed {
		t.Errorf("Serve after Close: %v", err)
	}
	if err := n.g.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// flaky fails once, as accept(2) does for a connection that is gone.
type flaky struct {
	net.Listener
	failed bool
}

func (f *flaky) Accept() (net.Conn, error) {
	if !f.failed {
		f.failed = true
		return nil, fmt.Errorf("accept: %w", io.ErrUnexpectedEOF)
	}
	return f.Listener.Accept()
}

func TestListenerErrorsPass(t *testing.T) {
	n := newNetwork(t, nil)
	other := &network{t: t, log: n.log, backing: n.backing, arrived: make(chan net.Conn), closed: make(chan struct{})}
	if err := n.g.Serve(Net{TCP: []net.Listener{&flaky{Listener: other}}}); err != nil {
		t.Fatal(err)
	}
	wantReset(t, other.dial("1.1.1.1:1"))
	n.wantEvents("net gateway.error report tcp", "net tcp.connect deny 1.1.1.1:1")
}

func TestNewRefuses(t *testing.T) {
	var bad *RuleError
	if _, err := New(Config{}); err == nil {
		t.Error("a gateway without a log was made")
	}
	good := rules(t, "allowed.test")[0]
	upper, both, none, ports := good, good, good, good
	upper.Host = "Allowed.test"
	both.Prefix = netip.MustParsePrefix("10.0.0.0/8")
	none.Host = ""
	ports.Ports = nil
	zero := rules(t, "allowed.test")[0]
	zero.Ports[0].First = 0
	for i, r := range append(rules(t), upper, both, none, ports, zero) {
		if _, err := New(Config{Sink: new(log), Access: Access{Rules: append(rules(t), r)}}); err == nil {
			t.Errorf("rule %d %+v was accepted", i, r)
		} else if !errors.As(err, &bad) || bad.Error() == "" {
			t.Errorf("rule %d: %T", i, err)
		}
	}
	if len(new(Gateway).Coverage()) == 0 {
		t.Error("no coverage")
	}
}

func TestUnknownAddressIsReset(t *testing.T) {
	n := newNetwork(t, nil)
	a, b := net.Pipe()
	go n.g.serveConn(Net{}, b, n.g.deliver()) // a pipe has no address
	if got, err := io.ReadAll(a); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestServerUnprovenLate(t *testing.T) {
	n := newNetwork(t, nil, "mail.test:25")
	n.host("mail.test", "93.184.216.34")
	n.server("93.184.216.34:25", func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n")
		io.Copy(io.Discard, c)
		io.WriteString(c, "221 bye\r\n")
	})
	c := n.dialName("mail.test", 25)
	wantRead(t, c, "220 ready\r\n")
	c.CloseWrite() // without a byte
	wantRead(t, c, "221 bye\r\n")
}
