// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// patience bounds waits for things that must happen. No test depends on how long they take.
const patience = 20 * time.Second

// rules parses rules as --allow-net does.
func rules(t testing.TB, texts ...string) []profiles.Rule {
	t.Helper()
	var out []profiles.Rule
	for _, text := range texts {
		r, err := profiles.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// denials are of what rules, parsed as --allow-net does, are about; without a port, of all ports.
func denials(t testing.TB, texts ...string) []profiles.Denial {
	t.Helper()
	var out []profiles.Denial
	for i, r := range rules(t, texts...) {
		if !strings.Contains(texts[i], ":") {
			r.Ports = []profiles.PortRange{{First: 1, Last: 65535}}
		}
		out = append(out, profiles.Denial{Rule: r, Reason: "because of " + texts[i]})
	}
	return out
}

// log is a Sink that keeps events. Those about the end of a connection are apart: nothing that a client sees comes after them.
type log struct {
	mu     sync.Mutex
	events []audit.Event
	ends   []audit.Event
}

func (l *log) Emit(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Action == actionClose {
		l.ends = append(l.ends, e)
		return
	}
	l.events = append(l.events, e)
}

// lines returns the events in short form: "class action decision target".
func (l *log) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.events {
		out = append(out, fmt.Sprintf("%s %s %s %s", e.Class, e.Action, e.Decision, e.Target))
	}
	return out
}

// last returns the newest event.
func (l *log) last(t testing.TB) audit.Event {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 {
		t.Fatal("no event")
	}
	return l.events[len(l.events)-1]
}

// dialedConn is a connection whose local address is the one that the agent dialed, as TPROXY makes it.
type dialedConn struct {
	*net.TCPConn
	dst *net.TCPAddr
}

func (c dialedConn) LocalAddr() net.Addr { return c.dst }

// network stands for the run's network and the world behind the gateway.
type network struct {
	t       *testing.T
	log     *log
	g       *Gateway
	backing *net.TCPListener
	dialMu  sync.Mutex
	arrived chan net.Conn
	closed  chan struct{}
	once    sync.Once
	nobody  atomic.Bool // no process has the clients' ends

	mu     sync.Mutex
	hosts  map[string][]netip.Addr           // what the host's resolver says
	world  map[netip.AddrPort]netip.AddrPort // where servers are in truth
	own    []netip.Addr
	dials  []netip.AddrPort
	looked []string
}

func newNetwork(t *testing.T, loopback []uint16, allow ...string) *network {
	t.Helper()
	backing, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &network{
		t: t, log: new(log), backing: backing, arrived: make(chan net.Conn), closed: make(chan struct{}),
		hosts: make(map[string][]netip.Addr), world: make(map[netip.AddrPort]netip.AddrPort),
	}
	n.g, err = New(Config{
		Access: Access{Rules: rules(t, allow...), Loopback: loopback, Proxy: true}, Sink: n.log,
		Dial: n.dialWorld, Resolve: n.resolve,
		HostAddrs: func() ([]netip.Addr, error) { return n.own, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.g.wait.silence = 30 * time.Millisecond
	n.g.wait.settle = 0 // clients are still there when a test ends
	err = n.g.Serve(Net{TCP: []net.Listener{n}, Owner: func(network string, local, remote netip.AddrPort) audit.Process {
		if n.nobody.Load() {
			return audit.Process{}
		}
		return audit.Process{PID: 42, Exe: network + " " + remote.String()}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.g.Close()
		backing.Close()
	})
	return n
}

// Accept, Close and Addr make network the gateway's listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.arrived:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return n.backing.Addr() }

// dial connects as the agent does, to an address such as "1.2.3.4:443".
func (n *network) dial(dst string) *net.TCPConn {
	n.t.Helper()
	n.dialMu.Lock()
	defer n.dialMu.Unlock()
	client, err := net.DialTCP("tcp4", nil, n.backing.Addr().(*net.TCPAddr))
	if err != nil {
		n.t.Fatal(err)
	}
	server, err := n.backing.AcceptTCP()
	if err != nil {
		n.t.Fatal(err)
	}
	n.arrived <- dialedConn{server, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst))}
	client.SetDeadline(time.Now().Add(patience))
	n.t.Cleanup(func() { client.Close() })
	return client
}

// dialName asks for the name's address and connects to it.
func (n *network) dialName(name string, port int) *net.TCPConn {
	n.t.Helper()
	return n.dial(netip.AddrPortFrom(n.sink(name), uint16(port)).String())
}

// sink returns the address that the agent is given for a name.
func (n *network) sink(name string) netip.Addr {
	_, ok := ruleForName(n.g.cfg.Rules, name)
	a4, _, _, _ := n.g.sinks.of(name, ok, "")
	return a4
}

// host lets name resolve to addr on the host.
func (n *network) host(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.hosts[name] = append(n.hosts[name], netip.MustParseAddr(a))
	}
}

// server runs handle for each connection that the gateway makes to addr.
func (n *network) server(addr string, handle func(net.Conn)) {
	n.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.listen(addr, l)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			}()
		}
	}()
}

// listen puts an existing listener at addr.
func (n *network) listen(addr string, l net.Listener) {
	n.t.Cleanup(func() { l.Close() })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.world[netip.MustParseAddrPort(addr)] = l.Addr().(*net.TCPAddr).AddrPort()
}

func (n *network) resolve(_ context.Context, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looked = append(n.looked, name)
	if addrs, ok := n.hosts[name]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *network) dialWorld(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, addr)
	real, ok := n.world[addr]
	n.mu.Unlock()
	allowed := false
	for _, line := range n.log.lines() {
		allowed = allowed || strings.Contains(line, "tcp.connect allow")
	}
	if !allowed {
		n.t.Errorf("%s was dialed before an allow event", addr)
	}
	if !ok {
		return nil, syscall.ECONNREFUSED
	}
	return dialHost(ctx, real)
}

// dialed returns what the gateway dialed, in the order of its doing so.
func (n *network) dialed() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, d := range n.dials {
		out = append(out, d.String())
	}
	return strings.Join(out, " ")
}

// wantEvents waits until the log has as many events as lines and compares them.
func (n *network) wantEvents(lines ...string) {
	n.t.Helper()
	eventually(n.t, func() bool { return len(n.log.lines()) >= len(lines) })
	if got := n.log.lines(); strings.Join(got, "\n") != strings.Join(lines, "\n") {
		n.t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func eventually(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen")
		}
	}
}

// wantReset reads until the end and wants that to be a reset.
func wantReset(t testing.TB, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	if err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read %q, %v; want a reset", b, err)
	}
}

// wantRead reads exactly want.
func wantRead(t testing.TB, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b[:n], err, want)
	}
}

func send(t testing.TB, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}
