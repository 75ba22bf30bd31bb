// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// rawSocket sends whole IP packets and receives none (raw(7), IPPROTO_RAW).
type rawSocket struct{ file *os.File }

func newRawSocket(ipv6 bool) (*rawSocket, error) {
	family := unix.AF_INET
	if ipv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("raw socket: SO_MARK: %w", err)
	}
	return &rawSocket{os.NewFile(uintptr(fd), "raw")}, nil
}

// send never waits: what does not fit into the socket's buffer is an error, as a lost packet is anywhere.
func (r *rawSocket) send(packet []byte, dst netip.Addr) error {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: first4(dst)}
	if dst.Is6() {
		sa = &unix.SockaddrInet6{Addr: dst.As16()}
	}
	conn, err := r.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), packet, 0, sa) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("send to %v: %w", dst, err)
	}
	return nil
}

func first4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

func (r *rawSocket) Close() error { return r.file.Close() }

const (
	ipv4Header = 20 // RFC 791, 3.1
	ipv6Header = 40 // RFC 8200, 3
	udpHeader  = 8  // RFC 768
	hops       = 64
)

// udpPacket builds a UDP datagram with its IP header. Both addresses are of one family.
func udpPacket(payload []byte, src, dst netip.AddrPort) ([]byte, error) {
	header := ipv4Header
	if src.Addr().Is6() {
		header = ipv6Header
	}
	length := udpHeader + len(payload)
	if max := 0xffff - ipv4Header; length > max {
		return nil, fmt.Errorf("a datagram of %d bytes is longer than %d", len(payload), max-udpHeader)
	}
	packet := make([]byte, header+length)
	putIPHeader(packet, unix.IPPROTO_UDP, length, src.Addr(), dst.Addr())
	udp := packet[header:]
	binary.BigEndian.PutUint16(udp[0:], src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(length))
	copy(udp[udpHeader:], payload)
	sum := checksum(unix.IPPROTO_UDP, udp, src.Addr(), dst.Addr())
	if sum == 0 {
		sum = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return packet, nil
}

// putIPHeader writes the header of either family. The kernel fills in the checksum of IPv4 (raw(7)).
func putIPHeader(packet []byte, protocol byte, length int, src, dst netip.Addr) {
	if src.Is6() {
		packet[0] = 6 << 4
		binary.BigEndian.PutUint16(packet[4:], uint16(length))
		packet[6], packet[7] = protocol, hops
		copy(packet[8:24], src.AsSlice())
		copy(packet[24:40], dst.AsSlice())
		return
	}
	packet[0] = 4<<4 | ipv4Header/4
	binary.BigEndian.PutUint16(packet[2:], uint16(ipv4Header+length))
	packet[8], packet[9] = hops, protocol
	copy(packet[12:16], src.AsSlice())
	copy(packet[16:20], dst.AsSlice())
}

// checksum is the Internet checksum over the pseudo header and the segment, whose own checksum field is 0 (RFC 1071).
func checksum(protocol byte, segment []byte, src, dst netip.Addr) uint16 {
	sum := uint32(protocol) + uint32(len(segment))
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), segment} {
		for ; len(part) >= 2; part = part[2:] {
			sum += uint32(part[0])<<8 | uint32(part[1])
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
