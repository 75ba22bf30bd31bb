// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// The checksums were computed by another program; the kernel fills in that of IPv4's header.
func TestPackets(t *testing.T) {
	udp := func(payload, src, dst string) []byte {
		b, err := udpPacket([]byte(payload), addrPort(src), addrPort(dst))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"UDP over IPv4": {udp("hi!", "8.8.8.8:53", "127.0.0.1:4660"),
			"4500001f 00000000 40110000 08080808 7f000001 0035 1234 000b d4f4 686921"},
		"UDP over IPv6": {udp("hi", "[2001:db8::1]:53", "[::1]:4660"),
			"60000000 000a 11 40 20010db8000000000000000000000001 00000000000000000000000000000001 0035 1234 000a 574d 6869"},
		"no checksum is all ones": {udp("\xff\xda", "0.0.0.0:0", "0.0.0.0:0"), "4500001e 00000000 40110000 00000000 00000000 0000 0000 000a ffff ffda"},
		"reset": {resetPacket(packet{src: addrPort("127.0.0.1:4660"), dst: addrPort("127.0.0.1:80"), sequence: 0x01020304}),
			"45000028 00000000 40060000 7f000001 7f000001 0050 1234 00000000 01020305 5014 0000 9b43 0000"},
	} {
		if got := hex.EncodeToString(c.got); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

// The checksum over a packet with its checksum is zero (RFC 1071), whatever is in it.
func TestChecksum(t *testing.T) {
	for _, payload := range []string{"", "a", "ab", "abc", strings.Repeat("\xff", 65000)} {
		for _, ends := range [][2]string{{"1.2.3.4:5", "127.0.0.1:6"}, {"[2001:db8::1]:7", "[::1]:8"}} {
			src, dst := addrPort(ends[0]), addrPort(ends[1])
			b, err := udpPacket([]byte(payload), src, dst)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parsePacket(b)
			if err != nil || p.src != src || p.dst != dst || p.network() != "udp" {
				t.Errorf("parsed %+v, %v", p, err)
			}
			segment := b[len(b)-len(payload)-udpHeader:]
			if sum := checksum(unix.IPPROTO_UDP, segment, src.Addr(), dst.Addr()); sum != 0 {
				t.Errorf("%v, %d bytes: checksum is off by %04x", ends, len(payload), sum)
			}
		}
	}
	if _, err := udpPacket(make([]byte, 65508), addrPort("1.2.3.4:5"), addrPort("127.0.0.1:6")); err == nil {
		t.Error("a datagram that is too long was built")
	}
}

func TestParsePacket(t *testing.T) {
	reset := resetPacket(packet{src: addrPort("[::1]:1"), dst: addrPort("[::1]:2"), sequence: 41})
	p, err := parsePacket(reset)
	if err != nil || p.network() != "tcp" || p.flags != flagRST|flagACK || p.src != addrPort("[::1]:2") {
		t.Errorf("%+v, %v", p, err)
	}
	// A SYN with 5 bytes of data (TCP Fast Open, RFC 7413): the answer must acknowledge all of it.
	syn := append(resetPacket(packet{src: addrPort("1.1.1.1:1"), dst: addrPort("1.1.1.1:2"), sequence: 0}), "12345"...)
	syn[3] += 5
	syn[20+4], syn[20+13] = 1, flagSYN
	if p, err = parsePacket(syn); err != nil || p.sequence != 1<<24+5 || p.flags != flagSYN {
		t.Errorf("%+v, %v", p, err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": syn[:19], "another version": append([]byte{0x50}, make([]byte, 60)...),
		"header too short": append([]byte{0x44}, make([]byte, 60)...), "header too long": append([]byte{0x4f}, make([]byte, 40)...),
		"short IPv6": reset[:39],
	} {
		if p, err := parsePacket(b); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for protocol, want := range map[byte]string{1: "icmp", 58: "icmp", 132: "ip:132", 6: "tcp"} {
		b := append([]byte{0x45}, make([]byte, 19)...) // no ports are there
		b[9] = protocol
		if p, err := parsePacket(b); err != nil || p.network() != want || p.src.Port() != 0 {
			t.Errorf("protocol %d: %+v, %v", protocol, p, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	for p, want := range map[packet]bool{
		{protocol: 1, kind: 3}: true, {protocol: 1, kind: 8}: false, {protocol: 58, kind: 1}: true, {protocol: 58, kind: 128}: false,
		{protocol: 17}: false, {protocol: 6, kind: 3}: false,
		{protocol: 6, flags: flagSYN}: false, {protocol: 6, flags: flagSYN | flagACK}: true, {protocol: 6, flags: flagACK}: true,
		{protocol: 6, flags: flagFIN | flagACK}: true, {protocol: 6, flags: flagRST}: true, {protocol: 17, flags: flagACK}: false,
	} {
		if got := p.isAnswer(); got != want {
			t.Errorf("%+v: %v", p, got)
		}
	}
}

// Containment checks: P01.
func FuzzParsePacket(f *testing.F) {
	f.Add(resetPacket(packet{src: addrPort("[::1]:1"), dst: addrPort("[::1]:2")}))
	f.Add(resetPacket(packet{src: addrPort("1.1.1.1:1"), dst: addrPort("1.1.1.1:2")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		if q, err := parsePacket(resetPacket(p)); err != nil || q.src != p.dst || q.dst != p.src {
			t.Errorf("%+v is answered by %+v, %v", p, q, err)
		}
	})
}

// Containment checks: P01.
func FuzzPayloads(f *testing.F) {
	f.Add(bindRequest(logGroup))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for _, p := range payloads(b) {
			total += len(p)
		}
		if total > len(b) {
			t.Errorf("%d bytes of packets in %d", total, len(b))
		}
		parseDiag(b)
		originalDestination(b)
	})
}
