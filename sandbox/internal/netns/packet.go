// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	ipv4Header = 20 // RFC 791, 3.1
	ipv6Header = 40 // RFC 8200, 3
	udpHeader  = 8  // RFC 768
	tcpHeader  = 20 // RFC 9293, 3.1
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

// The flags of TCP (RFC 9293, 3.1).
const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16
)

// packet is what is known of a packet from its first bytes.
type packet struct {
	protocol byte
	src, dst netip.AddrPort
	sequence uint32 // of TCP, with the length of its data
	flags    byte   // of TCP
	kind     byte   // of ICMP
}

// isAnswer tells what kernels send by themselves from what a program asks for: an ICMP message that is no echo (RFC 792, RFC 4443),
// and a TCP segment that opens nothing. One of those that no socket takes belongs to a connection that is closed on its other side
// (RFC 9293, 3.10.7.1). A segment without any of the four flags is none that a kernel sends.
func (p packet) isAnswer() bool {
	const echo4, echo6 = 8, 128
	switch p.protocol {
	case unix.IPPROTO_TCP:
		return p.flags&(flagFIN|flagRST|flagACK) != 0
	case unix.IPPROTO_ICMP:
		return p.kind != echo4
	case unix.IPPROTO_ICMPV6:
		return p.kind != echo6
	}
	return false
}

// network names the protocol as package net does, or by its number (/etc/protocols).
func (p packet) network() string {
	switch p.protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return "icmp"
	}
	return "ip:" + strconv.Itoa(int(p.protocol))
}

// parsePacket reads the headers of a packet that a program sent, as far as they are there. Extension headers of IPv6 are not
// followed: the protocol is the first one's then, and the ports are 0.
func parsePacket(b []byte) (packet, error) {
	var p packet
	var src, dst netip.Addr
	var total int
	switch {
	case len(b) >= ipv4Header && b[0]>>4 == 4:
		header := int(b[0]&15) * 4
		if header < ipv4Header || header > len(b) {
			return p, fmt.Errorf("an IPv4 header of %d bytes in %d", header, len(b))
		}
		p.protocol, total = b[9], int(binary.BigEndian.Uint16(b[2:]))-header
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[header:]
	case len(b) >= ipv6Header && b[0]>>4 == 6:
		p.protocol, total = b[6], int(binary.BigEndian.Uint16(b[4:]))
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[ipv6Header:]
	default:
		return p, fmt.Errorf("%d bytes are no IP packet", len(b))
	}
	var from, to uint16
	if (p.protocol == unix.IPPROTO_TCP || p.protocol == unix.IPPROTO_UDP) && len(b) >= 4 {
		from, to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	if (p.protocol == unix.IPPROTO_ICMP || p.protocol == unix.IPPROTO_ICMPV6) && len(b) > 0 {
		p.kind = b[0]
	}
	p.src, p.dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	if p.protocol == unix.IPPROTO_TCP && len(b) >= tcpHeader {
		p.flags = b[13]
		p.sequence = binary.BigEndian.Uint32(b[4:]) + uint32(max(total-int(b[12]>>4)*4, 0))
	}
	return p, nil
}

// resetPacket answers a segment that opens a connection as a port does that nobody listens at (RFC 9293, 3.5.2, group 1).
func resetPacket(p packet) []byte {
	src, dst := p.dst, p.src
	header := ipv4Header
	if src.Addr().Is6() {
		header = ipv6Header
	}
	packet := make([]byte, header+tcpHeader)
	putIPHeader(packet, unix.IPPROTO_TCP, tcpHeader, src.Addr(), dst.Addr())
	tcp := packet[header:]
	binary.BigEndian.PutUint16(tcp[0:], src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[8:], p.sequence+1) // SYN counts as one
	tcp[12], tcp[13] = tcpHeader/4<<4, flagRST|flagACK
	binary.BigEndian.PutUint16(tcp[16:], checksum(unix.IPPROTO_TCP, tcp, src.Addr(), dst.Addr()))
	return packet
}
