// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/egress/authority"
	"github.com/agentjail/agentjail/profiles"
)

// Config is what a Gateway is made of. Without rules and loopback ports it refuses everything.
type Config struct {
	Access
	Publish []uint16   // ports of the run's own loopback that the host reaches at its own
	Sink    audit.Sink // required
	// Quota bounds what is done with what Access allows.
	Quota profiles.Quota
	// Upstream says by which proxy what is allowed is reached. It takes no part in the decision.
	Upstream profiles.Upstream

	// Dial connects to an address that was judged. Nil means the host's network.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Resolve looks a name up. Nil means the host's resolver.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Roots are the authorities that vouch for servers whose TLS is inspected, and for proxies. Nil means the host's.
	Roots *x509.CertPool
	// HostAddrs lists the addresses of the host's interfaces. Nil means the kernel's list.
	HostAddrs func() ([]netip.Addr, error)
}

// Net is what a Gateway serves. The Gateway closes the listeners when it is closed.
type Net struct {
	// TCP listeners accept every connection of the run. The local address of a connection is the address that was dialed.
	TCP []net.Listener
	UDP []PacketConn
	// Owner finds the process behind a connection or packet: network is "tcp" or "udp", local the agent's end of it and
	// remote the address that the agent asked for. It is called before the agent is answered, from several goroutines.
	// Nil leaves the process out of the events.
	Owner func(network string, local, remote netip.AddrPort) audit.Process
	// Inside connects to a port of the run's own loopback. It is needed where something is published.
	Inside func(ctx context.Context, port uint16) (net.Conn, error)
}

// PacketConn receives packets of the run, whatever their destination.
type PacketConn interface {
	// ReadFromTo waits for a packet from src to dst. A packet longer than b is cut.
	ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error)
	// WriteFromTo sends a packet to dst that comes from src.
	WriteFromTo(b []byte, src, dst netip.AddrPort) error
	// Close has ReadFromTo return what had come before, and then net.ErrClosed.
	Close() error
}

// A RuleError is a rule that New does not accept.
type RuleError struct {
	Rule profiles.Rule
	Why  string
}

func (e *RuleError) Error() string { return fmt.Sprintf("network rule %s: %s", e.Rule, e.Why) }

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("egress: gateway is closed")

// maxConns bounds the connections that are open at once, where there are files for them. A connection above is reset.
const maxConns = 1024

// connsFor is how many connections fit into what this process may have open. Half of it is left for whatever else it does: a
// command that opens as many as it gets must not keep others from being judged, and recorded.
func connsFor(files uint64) int {
	const perConn, share = 8, 2 // two ends and the pipes of splice(2), or the sockets of the resolver and of dials; of a half
	return int(min(max(files/share/perConn, 1), maxConns))
}

// slotsFor is how many connections may be open: as many as the quota allows, and as there are files for.
func slotsFor(files uint64, q profiles.Quota) int {
	if most := connsFor(files); q.Connections == 0 || q.Connections > most {
		return most
	}
	return q.Connections
}

// timeouts of a Gateway. Tests shorten them.
type timeouts struct {
	silence time.Duration // until a client is taken to wait for the server's first word
	first   time.Duration // until the first byte where that is not done
	proof   time.Duration // from the first byte to a whole TLS hello, request line or head
	refuse  time.Duration // until the first byte of a connection that will be refused
	dns     time.Duration // between the messages of a DNS connection
	resolve time.Duration
	dial    time.Duration
	stagger time.Duration // between dials to several addresses of one name
	settle  time.Duration // at the end of the run, until what it has sent is with the servers
}

func defaultTimeouts() timeouts {
	return timeouts{
		silence: 200 * time.Millisecond,
		first:   30 * time.Second,
		proof:   10 * time.Second,
		refuse:  2 * time.Second,
		dns:     10 * time.Second,
		resolve: 10 * time.Second,
		dial:    20 * time.Second,
		stagger: 250 * time.Millisecond,
		settle:  2 * time.Second,
	}
}

// A Gateway is the only way out of a run. Its methods may be called from any goroutine.
type Gateway struct {
	cfg     Config
	wait    timeouts
	sinks   sinks
	dialed  dialed
	lookups lookups
	proxy   upstream
	uploads *uploads
	// authority is by whom TLS is inspected; nil where none is.
	authority *authority.Authority
	slots     chan struct{} // one for each connection that is open
	full      sync.Once     // the event that there were too many

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	accepting sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	listeners  []net.Listener         // until it is closed
	open       map[io.Closer]struct{} // nil at the end of Close
	deliveries map[*delivery]struct{}
	delivered  sync.Cond // of mu: one is over
}

// New returns a Gateway that serves nothing yet. The error is a *RuleError for a rule that is not in canonical form.
func New(cfg Config) (*Gateway, error) {
	if cfg.Sink == nil {
		return nil, errors.New("egress: Config.Sink is nil: without a log nothing may be reached")
	}
	if err := cfg.Access.check(); err != nil {
		return nil, err
	}
	ca, err := newAuthority(cfg.Rules)
	if err != nil {
		return nil, err
	}
	if (ca != nil || speaksTLS(cfg.Upstream.HTTP) || speaksTLS(cfg.Upstream.Other)) && cfg.Roots == nil {
		// Now: what the caller's variables name may lie where the command can write.
		if cfg.Roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("egress: the authorities that this host trusts: %w", err)
		}
	}
	cfg.Rules, cfg.Denials = slices.Clone(cfg.Rules), slices.Clone(cfg.Denials)
	cfg.Loopback, cfg.Publish = slices.Clone(cfg.Loopback), slices.Clone(cfg.Publish)
	if cfg.Dial == nil {
		cfg.Dial = dialHost
	}
	if cfg.Resolve == nil {
		cfg.Resolve = resolveHost
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("egress: getrlimit: %w", err)
	}
	g := &Gateway{
		cfg:     cfg,
		wait:    defaultTimeouts(),
		proxy:   newUpstream(cfg.Upstream),
		uploads: newUploads(cfg.Quota), authority: ca,
		slots: make(chan struct{}, slotsFor(files.Cur, cfg.Quota)),
		open:  make(map[io.Closer]struct{}), deliveries: make(map[*delivery]struct{}),
	}
	g.delivered.L = &g.mu
	g.ctx, g.stop = context.WithCancel(context.Background())
	if cfg.HostAddrs == nil {
		own := watchHostAddrs()
		g.cfg.HostAddrs, g.open[own] = own.now, struct{}{}
	}
	return g, nil
}

// badRule says what is wrong with a rule, or "".
func badRule(r profiles.Rule) string {
	switch {
	case len(r.Ports) == 0:
		return "has no ports"
	case r.Host == "" && !r.Prefix.IsValid():
		return "has neither a host nor a range of addresses"
	case r.Host != "" && r.Prefix.IsValid():
		return "has both a host and a range of addresses"
	}
	for _, p := range r.Ports {
		if p.First == 0 || p.First > p.Last {
			return "has a range of ports that is none"
		}
	}
	if r.Host != "" {
		if name, err := canonicalName(r.Host); err != nil || name != r.Host {
			return "its host is not in canonical form"
		}
	}
	return ""
}

// Serve starts to answer what arrives at n, and returns. It may be called more than once.
func (g *Gateway) Serve(n Net) error {
	if n.Owner == nil {
		n.Owner = func(string, netip.AddrPort, netip.AddrPort) audit.Process { return audit.Process{} }
	}
	g.tellAuthority()
	for _, l := range n.TCP {
		if !g.accept(l, func(c net.Conn, d *delivery) { g.serveConn(n, c, d) }, g.overload) {
			return ErrClosed
		}
	}
	for _, c := range n.UDP {
		if !g.spawn(c, func() { g.receive(n, c) }) {
			return ErrClosed
		}
	}
	return g.publish(n)
}

// Close judges what has connected, and takes no more; it gives what the run has sent a moment to be with the servers, ends every
// connection and listener, and waits until nothing of the Gateway runs. It may be called again.
func (g *Gateway) Close() error {
	g.closeListeners()
	g.settle()
	g.mu.Lock()
	open := g.open
	g.open = nil
	g.mu.Unlock()
	g.stop()
	var errs []error
	for c := range open {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	g.work.Wait()
	return errors.Join(errs...)
}

// closeListeners does so when nobody waits in their queues any more: the kernel has told who is there that it is connected, and a
// program may end on that. It waits as long as settle does, at most.
func (g *Gateway) closeListeners() {
	g.mu.Lock()
	listeners := g.listeners
	g.listeners, g.closed = nil, true
	g.mu.Unlock()
	deadline := time.Now().Add(g.wait.settle)
	for _, l := range listeners {
		for queued(l) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		l.Close()
	}
	g.accepting.Wait()
}

// queued tells whether a listener has connections that nobody has accepted yet.
func queued(l net.Listener) (waits bool) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false // closed
	}
	raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		waits = err == nil && n > 0
	})
	return waits
}

// ending tells whether Close was called.
func (g *Gateway) ending() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// spawn runs f until it returns, and then closes c; Close closes c before. If Close has done so with all others, spawn closes c and
// returns false.
func (g *Gateway) spawn(c io.Closer, f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		c.Close()
		return false
	}
	g.open[c] = struct{}{}
	g.work.Go(func() {
		defer g.forget(c)
		f()
	})
	return true
}

func (g *Gateway) forget(c io.Closer) {
	g.mu.Lock()
	_, open := g.open[c]
	delete(g.open, c)
	g.mu.Unlock()
	if open {
		c.Close()
	}
}

// accept has connections taken until Close has closed the listener. If Close was called already, accept closes it and returns false.
func (g *Gateway) accept(l net.Listener, serve func(net.Conn, *delivery), overload func(net.Conn)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		l.Close()
		return false
	}
	g.listeners = append(g.listeners, l)
	g.accepting.Go(func() { g.take(l, serve, overload) })
	return true
}

// take serves as many connections of a listener at once as there are slots for. The end of the run waits for what each says from here on.
func (g *Gateway) take(l net.Listener, serve func(net.Conn, *delivery), overload func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if !g.pause("tcp", err) {
				return
			}
			continue
		}
		select {
		case g.slots <- struct{}{}:
		default:
			overload(conn)
			reset(conn)
			continue
		}
		sending := g.deliver()
		if !g.spawn(conn, func() {
			defer func() { <-g.slots }()
			defer sending.over()
			serve(conn, sending)
		}) {
			sending.over()
		}
	}
}

// overload reports a connection above the bound. Whose it is stays unknown: finding out costs more than the flood does.
func (g *Gateway) overload(conn net.Conn) {
	rule := ""
	if cap(g.slots) == g.cfg.Quota.Connections {
		rule = ruleConnections
		g.full.Do(func() {
			g.limit(actionConnectionLimit, spent{rule, fmt.Sprintf("%d connections at once", cap(g.slots)), true})
		})
	}
	dst := addrPort(conn.LocalAddr())
	name, _ := g.sinks.name(dst.Addr())
	g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: actionConnect, Decision: audit.Deny,
		Target: target(name, dst), Provenance: provenance(name), Rule: rule,
		Reason: fmt.Sprintf("the run has %d connections open already", cap(g.slots)),
	})
}

// pause reports an error of a listener and waits a moment. It returns false if the listener is closed for good.
// Other errors pass: the kernel gives those of a connection that is gone (accept(2)), and EMFILE ends with a connection.
func (g *Gateway) pause(network string, err error) bool {
	if errors.Is(err, net.ErrClosed) || g.ctx.Err() != nil {
		return false
	}
	g.cfg.Sink.Emit(audit.Event{
		Class: audit.ClassNet, Action: actionGatewayError, Decision: audit.Report,
		Target: network, Reason: err.Error(),
	})
	select {
	case <-time.After(20 * time.Millisecond):
		return true
	case <-g.ctx.Done():
		return false
	}
}

// Coverage says, in sentences for people, what a run's network events show and what they cannot.
func (g *Gateway) Coverage() []string {
	lines := []string{
		"network: of UDP packets that come faster than they can be judged, which go nowhere, only the number is recorded",
		"network: allowed hosts are reached over TCP only; UDP, including HTTP/3, is denied and recorded even to allowed hosts",
		"network: DNS answers addresses (A, AAAA) only; SRV, TXT, MX and other records are answered empty or refused",
		"network: of TLS the server name of the hello is checked and nothing after it is read; of plain HTTP every request is",
		"network: on ports other than 80 and 443, protocols that are neither TLS nor HTTP are passed on to allowed hosts unread",
		"network: two events for each connection that is passed on, at its beginning and at its end, and none for the requests in it",
		"network: a socket that its program closes at once may be gone before its process is looked for: the event has none then",
	}
	if g.authority != nil {
		lines = append(lines, "network: where a rule says tls: inspect, the gateway reads what is in TLS, by a certificate that programs inside trust and that is of this run alone")
	}
	if narrow(g.cfg.Rules) || g.authority != nil {
		lines = append(lines, "network: where a rule says which requests it grants, or that TLS is inspected, there is an event for each request: method and path, and not the query, fields or body")
	}
	if g.cfg.Upstream.Used() {
		lines = append(lines, "network: allowed hosts are reached by a proxy ("+g.cfg.Upstream.String()+"), which resolves their names: "+
			"to which address an allowed name leads, perhaps a private one, is neither checked nor recorded")
	}
	return lines
}
