// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// PacketConn receives datagrams that the run sends, to whatever address; see UDP.
type PacketConn interface {
	ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error)
	WriteFromTo(b []byte, src, dst netip.AddrPort) error
	Close() error
}

// UDP receives the datagrams of one address family that the run sends, to whatever address, and answers from that address.
//
// Answers leave through a raw socket, which can send from every address and port without taking any: a socket bound to the
// address that is answered from would be in the command's way when it wants that port.
type UDP struct {
	conn   *net.UDPConn
	raw    *rawSocket
	ipv6   bool
	losses losses

	reading sync.Mutex // held by who takes datagrams from conn: a reader, or Close

	mu   sync.Mutex // taken before reading, by who takes both
	rest []datagram // had come when Close was called
}

type datagram struct {
	data     []byte
	src, dst netip.AddrPort
}

// Bounds of what Close keeps for the reader: more than any buffer of a socket holds, unless the command still sends.
const (
	maxRest      = 1 << 16 // datagrams
	maxRestBytes = 4 << 20
)

// listenUDP makes a UDP in the network namespace of the calling thread, with further options of its socket.
func listenUDP(network string, addr netip.AddrPort, options []option) (*UDP, error) {
	ipv6 := addr.Addr().Is6()
	if ipv6 {
		// Without a checksum, which its sender may leave out (UDP_NO_CHECK6_TX), a datagram would be dropped unseen (RFC 6936).
		options = append(slices.Clip(options), option{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1}, option{unix.SOL_UDP, unix.UDP_NO_CHECK6_RX, 1})
	} else {
		options = append(slices.Clip(options), option{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1})
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

// ReadFromTo waits for a datagram from src to dst. One that is longer than b is cut. After Close it returns what had come
// before, and then net.ErrClosed.
func (u *UDP) ReadFromTo(b []byte) (n int, src, dst netip.AddrPort, err error) {
	var oob [128]byte
	u.reading.Lock()
	n, oobn, _, src, err := u.conn.ReadMsgUDPAddrPort(b, oob[:])
	u.reading.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) { // of Close
		return u.readRest(b)
	}
	if err != nil {
		return 0, src, dst, err
	}
	dst, err = originalDestination(oob[:oobn])
	return n, unmap(src), dst, err
}

func (u *UDP) readRest(b []byte) (n int, src, dst netip.AddrPort, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.rest) == 0 {
		return 0, src, dst, net.ErrClosed
	}
	d := u.rest[0]
	u.rest = u.rest[1:]
	return copy(b, d.data), d.src, d.dst, nil
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
		if dst := addrPortOf(sa); dst.IsValid() {
			return dst, nil
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

// Close ends both directions. What the command sent before can still be read: it was denied, however soon its sender ended.
func (u *UDP) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	// A reader that waits, or comes now, waits for the mutex.
	if err := u.conn.SetReadDeadline(time.Unix(1, 0)); err == nil {
		u.reading.Lock() // the deadline was not there yet for one that reads now: what it takes is first
		u.keepRest()
		u.reading.Unlock()
		u.look()
	}
	return errors.Join(u.conn.Close(), u.raw.Close())
}

// keepRest reads what has come.
func (u *UDP) keepRest() {
	conn, err := u.conn.SyscallConn()
	if err != nil {
		return
	}
	b, oob, size := make([]byte, 0xffff), make([]byte, 128), 0
	conn.Control(func(fd uintptr) {
		for range maxRest {
			n, oobn, _, from, err := unix.Recvmsg(int(fd), b, oob, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			dst, err := originalDestination(oob[:oobn])
			if size += n; err != nil || size > maxRestBytes {
				u.losses.add(1)
				continue
			}
			u.rest = append(u.rest, datagram{bytes.Clone(b[:n]), addrPortOf(from), dst})
		}
	})
}

// look counts what was lost.
func (u *UDP) look() {
	if conn, err := u.conn.SyscallConn(); err == nil {
		u.losses.look(conn)
	}
}

// addrPortOf is not valid for addresses that are not of the Internet.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// unmap makes an IPv4 address in IPv6's form one of IPv4, and drops the zone, which is always lo.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
