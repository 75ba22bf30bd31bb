// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/internal/audit"
)

const (
	dnsPort    = 53
	dnsHeader  = 12 // RFC 1035 section 4.1.1
	answerTTL  = 60 // seconds; the addresses never change, this only bounds caches that outlive the run
	udpPayload = 1232
)

// A dnsAsker is who sent a query, and to which server.
type dnsAsker struct {
	server netip.AddrPort
	proc   audit.Process
}

// A dnsVerdict is the answer to a query and its event.
type dnsVerdict struct {
	action   string
	decision audit.Decision
	rule     string
	reason   string
	fix      string
	rcode    int
	answer   []dns.RR
}

// answerDNS judges one message that was sent to port 53. It writes the event about it before it returns the reply,
// which is nil for bytes that are not a query: nothing that is sent to port 53 goes without an event.
func (g *Gateway) answerDNS(b []byte, who dnsAsker) []byte {
	event := audit.Event{
		Class: audit.ClassDNS, Provenance: audit.FromKernel, Process: who.proc,
		Action: actionMalformedDNS, Decision: audit.Deny, Target: target("", who.server),
	}
	msg, why := parseQuery(b)
	if why != "" {
		event.Reason = why
		g.cfg.Sink.Emit(event)
		return nil
	}
	q := msg.Question[0]
	v := g.judgeQuery(msg.Opcode, q)
	event.Action, event.Decision, event.Target = v.action, v.decision, queryTarget(q)
	event.Rule, event.Reason, event.Fix = v.rule, v.reason, v.fix
	g.cfg.Sink.Emit(event)

	reply := new(dns.Msg).SetRcode(msg, v.rcode)
	reply.Answer = v.answer
	reply.RecursionAvailable = true
	if msg.IsEdns0() != nil {
		reply.SetEdns0(udpPayload, false)
	}
	out, err := reply.Pack()
	if err != nil {
		return nil // a name that came off the wire goes back onto it; where not, no answer is the safe one
	}
	return out
}

// parseQuery reads a query of one question, and says why bytes are none. The counts are looked at before the records are:
// a query has one question and at most EDNS and a signature beside it.
func parseQuery(b []byte) (*dns.Msg, string) {
	if len(b) < dnsHeader {
		return nil, fmt.Sprintf("%d bytes to port 53 are too short for a DNS query", len(b))
	}
	count := func(i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }
	switch {
	case b[2]&0x80 != 0:
		return nil, "a DNS response, not a query"
	case count(4) != 1 || count(6) != 0 || count(8) > 1 || count(10) > 2:
		return nil, "not a DNS query of one question"
	}
	msg := new(dns.Msg)
	if err := msg.Unpack(b); err != nil || len(msg.Question) != 1 {
		return nil, "not a DNS query that can be read"
	}
	return msg, ""
}

// queryTarget names a query for people and for folding: A and AAAA of one name are asked for together and are one target.
func queryTarget(q dns.Question) string {
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	if name == "" {
		name = "."
	}
	if q.Qclass == dns.ClassINET && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA) {
		return name
	}
	text := name + " " + dns.Type(q.Qtype).String()
	if q.Qclass != dns.ClassINET {
		text += " " + dns.Class(q.Qclass).String()
	}
	return text
}

// judgeQuery decides on one question. It may take an address from the pool.
func (g *Gateway) judgeQuery(opcode int, q dns.Question) dnsVerdict {
	refuse := func(reason string) dnsVerdict {
		return dnsVerdict{action: actionQuery, decision: audit.Deny, reason: reason, rcode: dns.RcodeRefused}
	}
	switch {
	case opcode != dns.OpcodeQuery:
		v := refuse("only plain queries are answered")
		v.rcode = dns.RcodeNotImplemented
		return v
	case q.Qclass != dns.ClassINET:
		return refuse("only queries of class IN are answered")
	case q.Qtype == dns.TypeANY, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		return refuse("a query for everything below a name is not answered")
	case q.Qtype == dns.TypePTR:
		return g.judgeReverse(q)
	}
	name, err := canonicalName(beyondASCII(q.Name))
	if err != nil {
		return refuse(err.Error())
	}
	if isLocal(name) {
		return localAnswer(q)
	}
	if rule, ok := g.cfg.ruleForQuery(name); ok {
		wildcard := ""
		if rule.Suffix {
			wildcard = rule.Target()
		}
		return g.allowedAnswer(q, name, rule.String(), wildcard)
	}
	if denial, ok := g.cfg.deniedName(name, 0); ok {
		return g.deniedAnswer(q, name, denial.String(), denialReason(name, denial))
	}
	v := g.deniedAnswer(q, name, "", name+" is not on the allow-list of this run")
	v.fix = audit.Flag("--allow-net", name)
	return v
}

// beyondASCII gives the bytes of a name that are not ASCII, which the library writes as \DDD (RFC 1035 section 5.1), as themselves,
// for the reason to be the true one. Whatever else it writes with a backslash keeps that: no host name has either.
func beyondASCII(name string) string {
	var out []byte
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' || i+1 == len(name) {
			out = append(out, name[i])
			continue
		}
		if i+4 <= len(name) {
			if n, err := strconv.ParseUint(name[i+1:i+4], 10, 8); err == nil && n >= 0x80 {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, name[i], name[i+1])
		i++
	}
	return string(out)
}

// allowedAnswer gives the pool's address of an allowed name.
func (g *Gateway) allowedAnswer(q dns.Question, name, rule, wildcard string) dnsVerdict {
	v := dnsVerdict{action: actionQuery, decision: audit.Allow, rule: rule, reason: "the name is on the allow-list"}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
	case dns.TypeHTTPS, dns.TypeSVCB:
		v.reason = "the name is on the allow-list; this optional record is answered empty"
		return v
	default:
		v.decision, v.reason = audit.Deny, "the name is on the allow-list, but only its addresses are answered"
		return v
	}
	if wildcard != "" && len(name) > maxFree+len(wildcard) {
		v.decision, v.rcode = audit.Deny, dns.RcodeRefused
		v.reason = fmt.Sprintf("more than %d characters below %s look like data, not like a name", maxFree, wildcard)
		return v
	}
	a4, a6, count, ok := g.sinks.of(name, true, wildcard)
	if !ok {
		return exhausted(rule)
	}
	if count == 256 || count == 4096 {
		g.cfg.Sink.Emit(audit.Event{
			Class: audit.ClassDNS, Action: actionWildcard, Decision: audit.Report, Target: wildcard, Rule: rule,
			Provenance: audit.FromResolved,
			Reason:     fmt.Sprintf("%d distinct names were asked for: the names themselves can carry data to the zone's owner", count),
		})
	}
	v.answer = addressRecord(q, a4, a6)
	return v
}

// deniedAnswer gives a denied name an address too, so that the connection that follows can be told why it is refused.
func (g *Gateway) deniedAnswer(q dns.Question, name, rule, reason string) dnsVerdict {
	v := dnsVerdict{action: actionQuery, decision: audit.Deny, rcode: dns.RcodeRefused, rule: rule, reason: reason}
	switch {
	case carriesData(name):
		v.reason = "a name that looks like encoded data"
		return v
	case q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA:
		return v
	}
	a4, a6, _, ok := g.sinks.of(name, false, "")
	if !ok {
		return exhausted("")
	}
	v.rcode, v.answer = dns.RcodeSuccess, addressRecord(q, a4, a6)
	return v
}

func exhausted(rule string) dnsVerdict {
	return dnsVerdict{
		action: actionExhausted, decision: audit.Deny, rule: rule, rcode: dns.RcodeRefused,
		reason: "too many distinct names were asked for in this run",
	}
}

// localAnswer answers for the run's own loopback.
func localAnswer(q dns.Question) dnsVerdict {
	return dnsVerdict{
		action: actionQuery, decision: audit.Allow, reason: "the name of the run's own loopback",
		answer: addressRecord(q, loopback4, netip.IPv6Loopback()),
	}
}

// judgeReverse answers the reverse name of an address of the pool, and of loopback.
func (g *Gateway) judgeReverse(q dns.Question) dnsVerdict {
	addr, ok := reverseAddr(q.Name)
	name := ""
	switch {
	case ok && (addr == loopback4 || addr == netip.IPv6Loopback()):
		name = "localhost"
	case ok:
		name, _ = g.sinks.name(addr)
	}
	if name == "" {
		return dnsVerdict{
			action: actionQuery, decision: audit.Deny, rcode: dns.RcodeNameError,
			reason: "only addresses that this run was given have a reverse name",
		}
	}
	hdr := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: answerTTL}
	return dnsVerdict{
		action: actionQuery, decision: audit.Allow, reason: "the name of an address that this run was given",
		answer: []dns.RR{&dns.PTR{Hdr: hdr, Ptr: dns.Fqdn(name)}},
	}
}

// reverseAddr reads a name of in-addr.arpa or ip6.arpa, RFC 1035 section 3.5 and RFC 3596 section 2.5.
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(digits, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(digits) != 63 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := 62; i >= 0; i -= 2 {
		text.WriteByte(digits[i])
		if i%8 == 0 && i > 0 {
			text.WriteByte(':')
		}
	}
	addr, err := netip.ParseAddr(text.String())
	return addr, err == nil && dns.CountLabel(name) == 34
}

// addressRecord is the answer to a query for A or AAAA, and empty for other types.
func addressRecord(q dns.Question, a4, a6 netip.Addr) []dns.RR {
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: answerTTL}
	switch q.Qtype {
	case dns.TypeA:
		return []dns.RR{&dns.A{Hdr: hdr, A: net.IP(a4.AsSlice())}}
	case dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: hdr, AAAA: net.IP(a6.AsSlice())}}
	}
	return nil
}
