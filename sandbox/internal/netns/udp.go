// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// UDP receives the datagrams of one address family that the run sends, to whatever address, and answers from that address.
//
// Answers leave through a raw socket, which can send from every address and port without taking any: a socket bound to the
// address that is answered from would be in the command's way when it wants that port.
type UDP struct {
	conn *net.UDPConn
	raw  *rawSocket
	ipv6 bool
}

// listenUDP makes a UDP in the network namespace of the calling thread.
func listenUDP(network string, addr netip.AddrPort) (*UDP, error) {
	ipv6 := addr.Addr().Is6()
	options := append(transparent(addr.Addr()), option{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1})
	if ipv6 {
		// Without a checksum, which its sender may leave out (UDP_NO_CHECK6_TX), a datagram would be dropped unseen (RFC 6936).
		options = append(transparent(addr.Addr()), option{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1},
			option{unix.SOL_UDP, unix.UDP_NO_CHECK6_RX, 1})
	}
	lc := net.ListenConfig{Control: control(options)}
	conn, err := lc.ListenPacket(context.Background(), "udp"+network, addr.String())
	if err != nil {
		return nil, err
	}
	raw, err := newRawSocket(ipv6)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &UDP{conn: conn.(*net.UDPConn), raw: raw, ipv6: ipv6}, nil
}

// errNoDestination cannot happen as long as the kernel keeps its word (IP_RECVORIGDSTADDR, Linux 2.6.37).
var errNoDestination = errors.New("bug: a datagram came without its destination")

// ReadFromTo waits for a datagram from src to dst. One that is longer than b is cut. The error is net.ErrClosed after Close.
func (u *UDP) ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error) {
	var oob [128]byte
	n, oobn, _, src, err := u.conn.ReadMsgUDPAddrPort(b, oob[:])
	if err != nil {
		return 0, src, dst, err
	}
	dst, err = originalDestination(oob[:oobn])
	return n, unmap(src), dst, err
}

// originalDestination finds IP_ORIGDSTADDR or IPV6_ORIGDSTADDR among control messages.
func originalDestination(oob []byte) (netip.AddrPort, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("control message: %w", err)
	}
	for _, m := range messages {
		sa, err := unix.ParseOrigDstAddr(&m)
		if err != nil {
			continue // another message
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
		case *unix.SockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
		}
	}
	return netip.AddrPort{}, errNoDestination
}

// WriteFromTo sends a datagram to dst that comes from src.
func (u *UDP) WriteFromTo(b []byte, src, dst netip.AddrPort) error {
	src, dst = unmap(src), unmap(dst)
	if src.Addr().Is6() != u.ipv6 || dst.Addr().Is6() != u.ipv6 {
		return fmt.Errorf("%v to %v: not of this socket's family", src, dst)
	}
	packet, err := udpPacket(b, src, dst)
	if err != nil {
		return err
	}
	return u.raw.send(packet, dst.Addr())
}

// Close ends both directions.
func (u *UDP) Close() error { return errors.Join(u.conn.Close(), u.raw.Close()) }

// unmap makes an IPv4 address in IPv6's form one of IPv4, and drops the zone, which is always lo.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
