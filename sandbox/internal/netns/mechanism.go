// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mechanism is how connections and datagrams to any address arrive at the listeners.
type Mechanism int

const (
	// ByTProxy is nftables' tproxy: connections to every port, and datagrams, arrive as they were sent.
	ByTProxy Mechanism = iota
	// ByRedirect is nftables' nat, where the kernel has no tproxy or an outer sandbox keeps IP_TRANSPARENT from it: connections
	// to every port arrive by way of connection tracking, which remembers the port that was dialed. Datagrams to port 53
	// arrive at a socket that is bound there; the others are dropped, and told of by the log of packets.
	ByRedirect
	// ByPorts is for kernels without nftables: a socket listens at each port at which something may be granted, and arrives there
	// what is sent to any address, since all are local. At the other ports nobody listens, so that the kernel itself refuses
	// what is sent there, and nobody is told.
	ByPorts
)

// mechanisms, the best one first.
var mechanisms = []Mechanism{ByTProxy, ByRedirect, ByPorts}

func (m Mechanism) String() string {
	return []string{"nftables TPROXY", "nftables REDIRECT", "listeners at the ports of the policy"}[m]
}

// Mechanism is the one that Capture has found to work.
func (n *Namespace) Mechanism() Mechanism { return n.mechanism }

// Coverage says, in sentences for people, what arrives at the listeners and what does not.
func (n *Namespace) Coverage() []string {
	seen := "network: every TCP connection, UDP packet and DNS query of the run is judged and recorded, whatever its destination"
	switch {
	case n.mechanism == ByPorts:
		seen = "network: every TCP connection to a port of the policy, and every DNS query, is judged and recorded, whatever its address"
	case n.mechanism == ByRedirect && n.dropped == nil:
		seen = "network: every TCP connection and DNS query of the run is judged and recorded, whatever its destination"
	}
	return append([]string{seen}, n.Weaker()...)
}

// Weaker says what is other than by the best mechanism.
func (n *Namespace) Weaker() (lines []string) {
	by := "network: captured by " + n.mechanism.String()
	switch n.mechanism {
	case ByRedirect:
		lines = append(lines, by+": a granted port of the host's loopback leads there also where something inside listens at it")
		if n.dropped == nil {
			lines = append(lines, "network: UDP other than DNS is dropped without a record, since this kernel cannot log packets")
		}
		if n.watch == nil {
			lines = append(lines, "network: a connection to a port of the run's own loopback where nobody listens is refused without a "+
				"record, since this kernel cannot log packets")
		}
	case ByPorts:
		lines = append(lines, by+", since nftables cannot be used: TCP connections to other ports, and UDP other than DNS, reach nothing "+
			"but the run itself, and are not recorded",
			"network: the command cannot listen at the ports of the policy; what it sends to other ports reaches it where it listens there "+
				"itself, whatever the address")
	}
	return lines
}

// Fallback is why the best mechanism is not used; nil where it is. It is an *Error.
func (n *Namespace) Fallback() error { return n.fallback }

// maxPorts bounds the listeners of ByPorts.
const maxPorts = 512

// use makes the rules and the listeners of one mechanism. The listeners come last: a process that is forked meanwhile has copies of
// them until it is executed, so that what was closed would still have its address when the next mechanism needs it.
func (n *Namespace) use(m Mechanism, granted, ports []uint16) error {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if m == ByTProxy {
		any4, any6 = loopback4, loopback6
	}
	addrs := []netip.Addr{any4}
	if n.ipv6 {
		addrs = append(addrs, any6)
	}
	if m == ByPorts {
		ports = slices.Clone(ports)
		slices.Sort(ports)
		if ports = slices.Compact(append(ports, portDNS)); len(ports) > maxPorts {
			return fail("listeners", fixTables, fmt.Errorf("a policy can grant at most %d ports", maxPorts-1))
		}
		n.unwatch() // nothing is logged without a rule
	} else {
		ports = []uint16{port}
		if err := n.load(m, granted); err != nil {
			return err
		}
	}
	for _, addr := range addrs {
		if err := n.listen(m, addr, ports); err != nil {
			n.closeListeners()
			if m != ByPorts {
				err = errors.Join(err, unload())
			}
			return fail("listeners", fixListen, err)
		}
	}
	return nil
}

// listen opens the listeners of one family.
func (n *Namespace) listen(m Mechanism, addr netip.Addr, ports []uint16) error {
	options, at := []option{{unix.SOL_SOCKET, unix.SO_MARK, mark}}, uint16(portDNS)
	if m == ByTProxy {
		options, at = append(options, transparent(addr)), port
	}
	network := "4"
	if addr.Is6() {
		network = "6"
	}
	// Both ends are this kernel's: none is gone without the other being told, and to look for that costs each connection four calls.
	lc := net.ListenConfig{Control: control(options), KeepAlive: -1}
	lc.SetMultipathTCP(false) // tproxy looks for plain TCP sockets
	for _, p := range ports {
		l, err := lc.Listen(context.Background(), "tcp"+network, netip.AddrPortFrom(addr, p).String())
		if err != nil {
			return err
		}
		if m == ByRedirect {
			l = redirected{l.(*net.TCPListener)}
		}
		n.tcp = append(n.tcp, l)
	}
	u, err := listenUDP(network, netip.AddrPortFrom(addr, at), options)
	if err != nil {
		return err
	}
	n.udp = append(n.udp, u)
	return nil
}

// load puts the rules in, with those for logs of packets where this kernel can log.
func (n *Namespace) load(m Mechanism, granted []uint16) error {
	if m == ByRedirect {
		prepareTracking()
		if d, err := newDroppedUDP(); err == nil {
			n.dropped = d
		}
	}
	var err error
	for _, log := range []struct{ watch, dropped bool }{{true, true}, {false, true}, {false, false}} {
		w := wanted{m, n.ipv6, granted, log.watch && n.watch != nil, log.dropped && n.dropped != nil}
		if err = newRuleset(w).load(); err != nil {
			continue
		}
		if !w.watch {
			n.unwatch()
		}
		if !w.dropped && n.dropped != nil {
			n.dropped.Close()
			n.dropped = nil
		}
		return nil
	}
	return missing(m, err)
}

// unwatch ends a Watch that nothing is logged for.
func (n *Namespace) unwatch() {
	if n.watch != nil {
		n.watch.close()
		n.watch = nil
	}
}

// prepareTracking has connection tracking forget no connection that its ends still know: one whose client has said all that it has to
// say, and waits for an answer, would be forgotten after a minute. Where /proc/sys cannot be written, it is.
func prepareTracking() {
	for _, name := range []string{"tcp_timeout_fin_wait", "tcp_timeout_close_wait", "tcp_timeout_unacknowledged"} {
		os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_"+name, []byte("432000"), 0) // as tcp_timeout_established
	}
}

// redirected accepts connections whose port was changed on their way.
type redirected struct{ *net.TCPListener }

func (l redirected) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		dialed, err := dialedAddr(conn)
		if err == nil {
			return redirectedConn{conn, net.TCPAddrFromAddrPort(dialed)}, nil
		}
		conn.SetLinger(0) // it is gone already, or nobody can say where it was to go
		conn.Close()
	}
}

// redirectedConn is a connection whose local address is the one that was dialed.
type redirectedConn struct {
	*net.TCPConn // with its ReadFrom and WriteTo, which use splice(2)
	dialed       net.Addr
}

func (c redirectedConn) LocalAddr() net.Addr { return c.dialed }

// dialedAddr asks connection tracking (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
func dialedAddr(c *net.TCPConn) (dialed netip.AddrPort, err error) {
	const originalDst = 80 // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
	raw, err := c.SyscallConn()
	if err != nil {
		return dialed, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	var failed error
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			var sa unix.RawSockaddrInet4
			failed = getsockopt(fd, unix.SOL_IP, originalDst, &sa)
			dialed = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), ntohs(sa.Port))
			return
		}
		var sa unix.RawSockaddrInet6
		failed = getsockopt(fd, unix.SOL_IPV6, originalDst, &sa)
		dialed = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), ntohs(sa.Port))
	})
	if err == nil {
		err = failed
	}
	return dialed, err
}

func getsockopt[T any](fd uintptr, level, name int, out *T) error {
	size := uint32(unsafe.Sizeof(*out))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(name), uintptr(unsafe.Pointer(out)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ntohs reads a number that stands in the order of the network.
func ntohs(n uint16) uint16 { return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)) }
