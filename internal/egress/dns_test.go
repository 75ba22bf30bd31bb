// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/internal/audit"
)

// packets is a PacketConn whose packets come from, and go to, channels. As a net.Conn it is one client's socket, to which
// miekg's client can be given.
type packets struct {
	net.Conn
	in     chan packet
	out    chan packet
	closed chan struct{}
}

type packet struct {
	data     []byte
	src, dst netip.AddrPort
}

var (
	agent    = netip.MustParseAddrPort("127.0.0.1:40000")
	resolver = netip.MustParseAddrPort("8.8.8.8:53")
)

func newPackets(n *network) *packets {
	p := &packets{in: make(chan packet), out: make(chan packet, 16), closed: make(chan struct{})}
	err := n.g.Serve(Net{UDP: []PacketConn{p}, Owner: func(network string, local, remote netip.AddrPort) audit.Process {
		return audit.Process{PID: int(local.Port()), Exe: network + " " + remote.String()}
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (p *packets) ReadFromTo(b []byte) (int, netip.AddrPort, netip.AddrPort, error) {
	select {
	case k := <-p.in:
		return copy(b, k.data), k.src, k.dst, nil
	case <-p.closed:
		return 0, netip.AddrPort{}, netip.AddrPort{}, net.ErrClosed
	}
}

func (p *packets) WriteFromTo(b []byte, src, dst netip.AddrPort) error {
	p.out <- packet{append([]byte(nil), b...), src, dst}
	return nil
}

func (p *packets) Close() error { close(p.closed); return nil }

// ask sends a query and returns the reply.
func (p *packets) ask(t *testing.T, m *dns.Msg) *dns.Msg {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	p.in <- packet{b, agent, resolver}
	r := <-p.out
	if r.src != resolver || r.dst != agent {
		t.Errorf("reply from %s to %s", r.src, r.dst)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(r.data); err != nil {
		t.Fatal(err)
	}
	if reply.Id != m.Id || !reply.Response || len(reply.Question) != 1 || reply.Question[0] != m.Question[0] {
		t.Errorf("reply %v to %v", reply, m)
	}
	return reply
}

func query(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
}

// answers returns the data of the answers.
func answers(m *dns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, rr.A.String())
		case *dns.AAAA:
			out = append(out, rr.AAAA.String())
		case *dns.PTR:
			out = append(out, rr.Ptr)
		default:
			out = append(out, rr.String())
		}
	}
	return strings.Join(out, " ")
}

// Containment checks: J03, K02, K05.
func TestDNSAnswers(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:2222", "*.wild.test", "exact.wild.test:80")
	p := newPackets(n)
	deep := strings.Repeat("label-of-16-char.", 9) + "wild.test"
	tests := []struct {
		name   string
		qtype  uint16
		rcode  int
		answer string
		event  string
		rule   string
	}{
		{"allowed.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.1", "dns.query allow allowed.test", "allowed.test:2222"},
		{"allowed.test", dns.TypeAAAA, dns.RcodeSuccess, "fd6a:6169:6c00::1", "dns.query allow allowed.test", "allowed.test:2222"},
		{"aLLowed.Test", dns.TypeA, dns.RcodeSuccess, "198.18.0.1", "dns.query allow allowed.test", "allowed.test:2222"},
		{"evil.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.2", "dns.query deny evil.test", ""},
		{"evil.test", dns.TypeAAAA, dns.RcodeSuccess, "fd6a:6169:6c00::2", "dns.query deny evil.test", ""},
		{"a.wild.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.3", "dns.query allow a.wild.test", "*.wild.test:443"},
		{"exact.wild.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.4", "dns.query allow exact.wild.test", "exact.wild.test:80"},
		{"wild.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.5", "dns.query deny wild.test", ""},
		{"allowed.test", dns.TypeHTTPS, dns.RcodeSuccess, "", "dns.query allow allowed.test HTTPS", "allowed.test:2222"},
		{"allowed.test", dns.TypeTXT, dns.RcodeSuccess, "", "dns.query deny allowed.test TXT", "allowed.test:2222"},
		{"allowed.test", dns.TypeANY, dns.RcodeRefused, "", "dns.query deny allowed.test ANY", ""},
		{"allowed.test", dns.TypeAXFR, dns.RcodeRefused, "", "dns.query deny allowed.test AXFR", ""},
		{"evil.test", dns.TypeTXT, dns.RcodeRefused, "", "dns.query deny evil.test TXT", ""},
		{"evil.test", dns.TypeNULL, dns.RcodeRefused, "", "dns.query deny evil.test NULL", ""},
		{"evil.test", dns.TypeHTTPS, dns.RcodeRefused, "", "dns.query deny evil.test HTTPS", ""},
		{"evil.test", 65432, dns.RcodeRefused, "", "dns.query deny evil.test TYPE65432", ""},
		{".", dns.TypeNS, dns.RcodeRefused, "", "dns.query deny . NS", ""},
		{"127.1", dns.TypeA, dns.RcodeRefused, "", "dns.query deny 127.1", ""},
		{"bad name.wild.test", dns.TypeA, dns.RcodeRefused, "", `dns.query deny bad\ name.wild.test`, ""},
		{"0123456789abcdefghijklmnopqrstuv.evil.test", dns.TypeA, dns.RcodeRefused, "", "dns.query deny 0123456789abcdefghijklmnopqrstuv.evil.test", ""},
		{"0123456789abcdefghijklmnopqrstuv.wild.test", dns.TypeA, dns.RcodeSuccess, "198.18.0.6", "dns.query allow 0123456789abcdefghijklmnopqrstuv.wild.test", "*.wild.test:443"},
		{deep, dns.TypeA, dns.RcodeRefused, "", "dns.query deny " + deep, "*.wild.test:443"},
		{"localhost", dns.TypeA, dns.RcodeSuccess, "127.0.0.1", "dns.query allow localhost", ""},
		{"x.localhost", dns.TypeAAAA, dns.RcodeSuccess, "::1", "dns.query allow x.localhost", ""},
		{"localhost", dns.TypeTXT, dns.RcodeSuccess, "", "dns.query allow localhost TXT", ""},
		{"1.0.18.198.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "allowed.test.", "dns.query allow 1.0.18.198.in-addr.arpa PTR", ""},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "localhost.", "dns.query allow 1.0.0.127.in-addr.arpa PTR", ""},
		{"8.8.8.8.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, "", "dns.query deny 8.8.8.8.in-addr.arpa PTR", ""},
	}
	for i, tt := range tests {
		m := query(strings.ReplaceAll(tt.name, " ", `\ `), tt.qtype)
		reply := p.ask(t, m)
		if reply.Rcode != tt.rcode || answers(reply) != tt.answer {
			t.Errorf("%s %d: rcode %d, %q; want %d, %q", tt.name, tt.qtype, reply.Rcode, answers(reply), tt.rcode, tt.answer)
		}
		lines := n.log.lines()
		e := n.log.last(t)
		if len(lines) != i+1 || lines[i] != "dns "+tt.event || e.Rule != tt.rule || e.Reason == "" {
			t.Errorf("%s %d: %d events, %+v", tt.name, tt.qtype, len(lines), e)
		}
		if e.PID != 40000 || e.Exe != "udp 8.8.8.8:53" || e.Provenance != audit.FromKernel {
			t.Errorf("%s: event %+v", tt.name, e)
		}
		for _, rr := range reply.Answer {
			if rr.Header().Name != m.Question[0].Name || rr.Header().Ttl != answerTTL {
				t.Errorf("%s: %v", tt.name, rr)
			}
		}
	}
	if n.looked != nil {
		t.Errorf("the host's resolver was asked for %s", n.looked)
	}
}

// TestDNSOddNames: what is wrong with a name is said, and not that its bytes take more room where they are written out.
// Containment checks: I02.
func TestDNSOddNames(t *testing.T) {
	n := newNetwork(t, nil, "*.wild.test", "b.wild.test")
	p := newPackets(n)
	const character, ascii, allowed = "has a character that no host name has", "has characters outside ASCII", "is on the allow-list"
	long := strings.Repeat("x", 63)
	for _, tt := range []struct {
		labels []string
		reason string
	}{
		{[]string{"a b"}, character},
		{[]string{strings.Repeat(" ", 63)}, character},
		{[]string{strings.Repeat("\x01", 63)}, character},
		{[]string{long, strings.Repeat("\n", 63), strings.Repeat("\x7f", 63)}, character},
		{[]string{"a.b"}, character}, // one label, which is not the two of a.b
		{[]string{"x\\195"}, character},
		{[]string{"a%b", strings.Repeat("\xff", 63)}, character},
		{[]string{"caf\xc3\xa9"}, ascii},
		{[]string{strings.Repeat("\xe9", 63)}, ascii},
		{[]string{"\xff", "\x00"}, ascii},
		{[]string{"a"}, allowed},
		{[]string{long}, allowed},
		{[]string{"a", "b"}, allowed},
	} {
		labels := append(slices.Clone(tt.labels), "wild", "test")
		var wire []byte
		for _, label := range labels {
			wire = append(append(wire, byte(len(label))), label...)
		}
		name, _, err := dns.UnpackDomainName(append(wire, 0), 0)
		if err != nil {
			t.Fatal(err)
		}
		reply := p.ask(t, query(name, dns.TypeA))
		refused := tt.reason != allowed
		if e := n.log.last(t); !strings.Contains(e.Reason, tt.reason) || (e.Decision == audit.Deny) != refused || (reply.Rcode == dns.RcodeRefused) != refused {
			t.Errorf("%q: rcode %d, %s %q; want %q", labels, reply.Rcode, e.Decision, e.Reason, tt.reason)
		}
	}
}

func TestDNSReverse6(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	n.sink("allowed.test")
	for _, text := range []string{"fd6a:6169:6c00::1", "::1", "2606:4700::1111", "198.18.0.1"} {
		addr := netip.MustParseAddr(text)
		name, err := dns.ReverseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := reverseAddr(name); !ok || got != addr {
			t.Errorf("%s is %s, want %s", name, got, addr)
		}
	}
	p := newPackets(n)
	name, _ := dns.ReverseAddr("fd6a:6169:6c00::1")
	if got := answers(p.ask(t, query(name, dns.TypePTR))); got != "allowed.test." {
		t.Errorf("reverse name %q", got)
	}
	for _, bad := range []string{"in-addr.arpa.", "1.2.3.in-addr.arpa.", "01.2.3.4.in-addr.arpa.", "a.b.c.d.in-addr.arpa.",
		strings.Repeat("0.", 32) + "arpa.", strings.Repeat("00", 31) + "0.ip6.arpa.", strings.Repeat("x.", 32) + "ip6.arpa.", "evil.test."} {
		if addr, ok := reverseAddr(bad); ok {
			t.Errorf("%s is %s", bad, addr)
		}
	}
}

func TestDNSEDNSAndFlags(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	p := newPackets(n)
	m := query("allowed.test", dns.TypeA)
	m.SetEdns0(4096, true)
	reply := p.ask(t, m)
	if opt := reply.IsEdns0(); opt == nil || opt.UDPSize() != udpPayload || opt.Do() {
		t.Errorf("EDNS %v", opt)
	}
	if !reply.RecursionAvailable || !reply.RecursionDesired || reply.Authoritative || reply.Truncated {
		t.Errorf("flags %v", reply.MsgHdr)
	}
	if p.ask(t, query("allowed.test", dns.TypeA)).IsEdns0() != nil {
		t.Error("EDNS where none was asked for")
	}
	m = query("version.bind", dns.TypeTXT)
	m.Question[0].Qclass = dns.ClassCHAOS
	if r := p.ask(t, m); r.Rcode != dns.RcodeRefused {
		t.Errorf("class CH: %d", r.Rcode)
	}
	m = query("allowed.test", dns.TypeSOA)
	m.Opcode = dns.OpcodeNotify
	if r := p.ask(t, m); r.Rcode != dns.RcodeNotImplemented {
		t.Errorf("NOTIFY: %d", r.Rcode)
	}
	n.wantEvents("dns dns.query allow allowed.test", "dns dns.query allow allowed.test",
		"dns dns.query deny version.bind TXT CH", "dns dns.query deny allowed.test SOA")
}

// Containment checks: K05.
func TestDNSMalformed(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test")
	p := newPackets(n)
	good, _ := query("allowed.test", dns.TypeA).Pack()
	response := append([]byte(nil), good...)
	response[2] |= 0x80
	two := append([]byte(nil), good...)
	two[5] = 2
	answer := append([]byte(nil), good...)
	answer[7] = 1
	loop := append(append([]byte(nil), good[:12]...), 0xc0, 0x0c, 0, 1, 0, 1)
	var want []string
	for _, data := range [][]byte{{}, {1}, []byte("GET / HTTP/1.1\r\n\r\n"), good[:11], good[:len(good)-1], response, two, answer, loop, make([]byte, 9000)} {
		p.in <- packet{data, agent, resolver}
		want = append(want, "dns dns.malformed deny 8.8.8.8:53")
	}
	n.wantEvents(want...)
	if len(p.out) != 0 {
		t.Error("a packet that is not DNS was answered")
	}
}

// Containment checks: K01.
func TestDNSOverTCP(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test", "8.8.8.8:53")
	for _, dst := range []string{"8.8.8.8:53", "10.0.0.1:53"} {
		c := &dns.Conn{Conn: n.dial(dst)}
		for _, name := range []string{"allowed.test", "evil.test"} {
			if err := c.WriteMsg(query(name, dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			reply, err := c.ReadMsg()
			if err != nil || len(reply.Answer) != 1 {
				t.Fatalf("%v, %v", reply, err)
			}
		}
		c.Close()
	}
	n.wantEvents("dns dns.query allow allowed.test", "dns dns.query deny evil.test",
		"dns dns.query allow allowed.test", "dns dns.query deny evil.test")
	if e := n.log.last(t); e.PID != 42 {
		t.Errorf("event %+v", e)
	}
}

// Containment checks: K05.
func TestDNSOverTCPMalformed(t *testing.T) {
	good, _ := query("allowed.test", dns.TypeA).Pack()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(good))), good...)
	for _, data := range [][]byte{nil, {0}, {0, 0}, framed[:len(framed)-1], []byte("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"), hello(t, "allowed.test")} {
		n := newNetwork(t, nil, "allowed.test")
		c := n.dial("8.8.8.8:53")
		send(t, c, string(data))
		c.CloseWrite()
		io.ReadAll(c)
		n.wantEvents("dns dns.malformed deny 8.8.8.8:53")
	}
	n := newNetwork(t, nil, "allowed.test")
	c := n.dial("8.8.8.8:53")
	send(t, c, string(framed)+"\x00\x05evil!")
	io.ReadAll(c)
	n.wantEvents("dns dns.query allow allowed.test", "dns dns.malformed deny 8.8.8.8:53")
}

func TestSinksAreBounded(t *testing.T) {
	var s sinks
	first, _, _, _ := s.of("first.test", false, "")
	for i := 1; i < maxDeniedSinks; i++ {
		if _, _, _, ok := s.of(fmt.Sprintf("%d.test", i), false, ""); !ok {
			t.Fatalf("only %d names", i)
		}
	}
	if _, _, _, ok := s.of("more.test", false, ""); ok {
		t.Error("the bound does not hold")
	}
	if a, _, _, ok := s.of("first.test", false, ""); !ok || a != first {
		t.Error("a known name lost its address")
	}
	a4, a6, _, ok := s.of("allowed.test", true, "")
	if !ok {
		t.Error("denied names took the addresses of allowed ones")
	}
	for _, a := range []netip.Addr{a4, a6, netip.AddrFrom16(a4.As16())} {
		if name, pooled := s.name(a); name != "allowed.test" || !pooled {
			t.Errorf("%s is %q, %t", a, name, pooled)
		}
	}
	for text, want := range map[string]bool{"198.17.255.255": false, "198.18.0.0": true, "198.19.255.255": true, "198.20.0.0": false,
		"fd6a:6169:6c00::": true, "fd6a:6169:6c00:ffff::1": true, "fd6a:6169:6c01::1": false, "::1": false} {
		if name, pooled := s.name(netip.MustParseAddr(text)); name != "" || pooled != want {
			t.Errorf("%s: %q, %t; want pooled %t", text, name, pooled, want)
		}
	}
}

// Containment checks: K03.
func TestDNSExhaustedAndWildcards(t *testing.T) {
	n := newNetwork(t, nil, "*.wild.test")
	p := newPackets(n)
	for i := range 300 {
		p.ask(t, query(fmt.Sprintf("n%d.wild.test", i), dns.TypeA))
		p.ask(t, query(fmt.Sprintf("n%d.wild.test", i), dns.TypeAAAA))
	}
	reports := 0
	for _, line := range n.log.lines() {
		if line == "dns dns.wildcard report *.wild.test" {
			reports++
		}
	}
	if reports != 1 {
		t.Errorf("%d reports of many names below a wildcard", reports)
	}
	n.g.sinks.denied = maxDeniedSinks
	if r := p.ask(t, query("evil.test", dns.TypeA)); r.Rcode != dns.RcodeRefused {
		t.Errorf("rcode %d", r.Rcode)
	}
	if e := n.log.last(t); e.Action != "dns.exhausted" || e.Decision != audit.Deny || e.Target != "evil.test" {
		t.Errorf("event %+v", e)
	}
}

// Containment checks: H04.
func TestUDPIsDenied(t *testing.T) {
	n := newNetwork(t, []uint16{8125}, "allowed.test:443", "10.0.0.0/8:123")
	p := newPackets(n)
	sink := n.sink("allowed.test")
	for _, tt := range []struct{ dst, target, reason string }{
		{sink.String() + ":443", "allowed.test:443", "use TCP"},
		{sink.String() + ":80", "allowed.test:80", "not with port 80"},
		{n.sink("evil.test").String() + ":443", "evil.test:443", "evil.test is not on the allow-list"},
		{"10.1.1.1:123", "10.1.1.1:123", "even to an allowed host"},
		{"1.1.1.1:3478", "1.1.1.1:3478", "not on the allow-list"},
		{"127.0.0.1:8125", "127.0.0.1:8125", "even to an allowed host"},
		{"[ff02::fb]:5353", "[ff02::fb]:5353", "multicast"},
	} {
		p.in <- packet{[]byte("x"), agent, netip.MustParseAddrPort(tt.dst)}
		p.in <- packet{[]byte("x"), agent, netip.MustParseAddrPort(tt.dst)} // the first one is done with
		e := n.log.last(t)
		if e.Action != "udp.send" || e.Decision != audit.Deny || e.Target != tt.target || !strings.Contains(e.Reason, tt.reason) || e.PID != 40000 {
			t.Errorf("%s: event %+v", tt.dst, e)
		}
	}
	if len(p.out) != 0 || n.dialed() != "" {
		t.Error("a packet was answered or passed on")
	}
}

func TestOwnersArePacketsOfOneFlow(t *testing.T) {
	var calls atomic.Int32
	f := flows{owner: func(string, netip.AddrPort, netip.AddrPort) audit.Process {
		return audit.Process{PID: int(calls.Add(1))}
	}}
	for range 100 {
		f.of(agent, resolver)
	}
	if n := calls.Load(); n == 0 || n > 50 {
		t.Errorf("%d look-ups for 100 packets of a flow", n)
	}
	for i := range 3 * maxFlows {
		f.of(netip.AddrPortFrom(agent.Addr(), uint16(i)), resolver)
	}
	if len(f.seen) > maxFlows {
		t.Errorf("%d flows are kept", len(f.seen))
	}
}

// FuzzDNS: nothing that is sent to port 53 goes without an event, and no denied name gets another answer than the pool's.
// Containment checks: I23, K05, P01.
func FuzzDNS(f *testing.F) {
	for _, q := range []*dns.Msg{query("allowed.test", dns.TypeA), query("evil.test", dns.TypeTXT), query("1.0.18.198.in-addr.arpa", dns.TypePTR),
		query("a.wild.test", dns.TypeAAAA).SetEdns0(4096, true)} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1})
	rs := rules(f, "allowed.test", "*.wild.test")
	f.Fuzz(func(t *testing.T, b []byte) {
		sink := new(log)
		g, err := New(Config{Access: Access{Rules: rs}, Sink: sink})
		if err != nil {
			t.Fatal(err)
		}
		out := g.answerDNS(b, dnsAsker{server: resolver})
		if len(sink.events) != 1 {
			t.Fatalf("%d events", len(sink.events))
		}
		e := sink.events[0]
		if out == nil {
			if e.Decision != audit.Deny {
				t.Errorf("no answer and no denial: %+v", e)
			}
			return
		}
		if len(out) > 1024 {
			t.Errorf("an answer of %d bytes", len(out))
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(out); err != nil {
			t.Fatalf("the answer is malformed: %v", err)
		}
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok && !a.A.IsLoopback() && a.A[0] != 198 {
				t.Errorf("answer %v", rr)
			}
		}
	})
}
