// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen opens the gateway's four listeners. It runs in the namespace. IP_TRANSPARENT lets a socket answer for addresses
// that are not its own, and get what TPROXY hands it (ip(7); IPV6_TRANSPARENT, Linux 2.6.37).
func (n *Namespace) listen() error {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := (&net.ListenConfig{Control: transparent}).Listen(context.Background(), "tcp", address)
		if err != nil {
			return &Error{"listen on " + address, err, ""}
		}
		n.tcp = append(n.tcp, l)
		p, err := (&net.ListenConfig{Control: transparentUDP}).ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return &Error{"listen on " + address, err, ""}
		}
		conn, ok := p.(*net.UDPConn)
		if !ok {
			return &Error{"listen on " + address, errors.New("not a UDP socket"), ""}
		}
		n.udp = append(n.udp, &UDP{conn: conn, ns: n})
	}
	return nil
}

func (n *Namespace) ports() ports {
	tcp := func(i int) uint16 { return n.tcp[i].Addr().(*net.TCPAddr).AddrPort().Port() }
	udp := func(i int) uint16 { return n.udp[i].conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }
	return ports{tcp4: tcp(0), tcp6: tcp(1), udp4: udp(0), udp6: udp(1)}
}

func transparent(network, _ string, c syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if network[len(network)-1] == '6' {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	return setOption(c, level, option)
}

func transparentUDP(network, address string, c syscall.RawConn) error {
	if err := transparent(network, address, c); err != nil {
		return err
	}
	if network[len(network)-1] == '6' {
		return setOption(c, unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR)
	}
	return setOption(c, unix.SOL_IP, unix.IP_RECVORIGDSTADDR)
}

func setOption(c syscall.RawConn, level, option int) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failed)
}

// UDP receives datagrams for any address of one family.
type UDP struct {
	conn *net.UDPConn
	ns   *Namespace
}

// ReadFromTo reads one datagram, and says who sent it and to what address.
func (u *UDP) ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error) {
	var oob [128]byte
	for {
		n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(b, oob[:])
		if err != nil {
			return 0, src, dst, err
		}
		if to, ok := originalDestination(oob[:oobn]); ok {
			return n, from, to, nil
		}
	}
}

// originalDestination reads the control message of IP_RECVORIGDSTADDR, a sockaddr.
func originalDestination(oob []byte) (netip.AddrPort, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for _, m := range messages {
		to, err := unix.ParseOrigDstAddr(&m)
		if err != nil {
			continue
		}
		switch a := to.(type) {
		case *unix.SockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
		case *unix.SockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
		}
	}
	return netip.AddrPort{}, false
}

// WriteFromTo sends one datagram to dst that comes from src, an address that the run had sent to.
func (u *UDP) WriteFromTo(b []byte, src, dst netip.AddrPort) error {
	err := net.ErrClosed
	u.ns.do(func() { err = sendFrom(b, src, dst) })
	return err
}

// sendFrom uses a socket for one datagram: answers are rare, and a socket that stays would answer for its address.
func sendFrom(b []byte, src, dst netip.AddrPort) error {
	family, level, option := unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
	if !src.Addr().Is4() {
		family, level, option = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(src)); err != nil {
		return err
	}
	return unix.Sendto(fd, b, 0, sockaddr(dst))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Close ends the reads.
func (u *UDP) Close() error { return u.conn.Close() }
