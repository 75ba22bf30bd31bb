// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// TestDenialsWin: a denial beats every rule, also one that is more specific, and of several the most specific one gives the reason.
// Containment check: I13.
func TestDenialsWin(t *testing.T) {
	a := Access{
		Rules: rules(t, "*.wild.test", "good.wild.test", "x.bad.wild.test", "ports.test:1-100", "10.1.2.3/32", "10.1.0.0/16", "0.0.0.0/0:80", "127.0.0.1:6", "[::1]:6", "64:ff9b::/96"),
		Denials: denials(t, "bad.wild.test", "*.bad.wild.test", "*.wild.test:8443", "deep.x.bad.wild.test", "ports.test:22", "10.1.2.0/24", "10.1.2.3/32:443", "9.9.9.9",
			"127.0.0.1:5432", "[::1]:6"),
		Loopback: []uint16{5432, 8080},
	}
	for _, tt := range []struct {
		host string
		port uint16
		rule string // of a denial; empty for what is allowed
	}{
		{"good.wild.test", 443, ""}, {"bad.wild.test", 443, "deny bad.wild.test"}, {"BAD.wild.test.", 443, "deny bad.wild.test"},
		{"x.bad.wild.test", 443, "deny *.bad.wild.test"}, {"deep.x.bad.wild.test", 443, "deny deep.x.bad.wild.test"},
		{"xbad.wild.test", 443, ""}, {"bad.wild.test.other.wild.test", 443, ""}, {"good.wild.test", 8443, "deny *.wild.test:8443"},
		{"bad.wild.test", 8443, "deny bad.wild.test"}, // the more specific one
		{"ports.test", 21, ""}, {"ports.test", 22, "deny ports.test:22"},
		{"10.1.3.3", 443, ""}, {"10.1.2.4", 443, "deny 10.1.2.0/24"}, {"10.1.2.3", 443, "deny 10.1.2.3/32:443"}, {"::ffff:10.1.2.4", 443, "deny 10.1.2.0/24"},
		{"9.9.9.9", 80, "deny 9.9.9.9/32"}, {"9.9.9.8", 80, ""},
		{"64:ff9b::909:909", 443, "deny 9.9.9.9/32"}, {"64:ff9b::909:908", 443, ""}, // NAT64
		{"127.0.0.1", 8080, ""}, {"127.0.0.1", 5432, "deny 127.0.0.1/32:5432"}, {"::1", 5432, "deny 127.0.0.1/32:5432"},
		{"localhost", 5432, "deny 127.0.0.1/32:5432"}, {"127.0.0.1", 6, "deny [::1/128]:6"},
	} {
		name, addr := tt.host, netip.Addr{}
		if ip, err := netip.ParseAddr(tt.host); err == nil {
			name, addr = "", ip
		}
		d := Decide(a, name, addr, tt.port)
		if d.Allow != (tt.rule == "") {
			t.Errorf("%s %d: %+v", tt.host, tt.port, d)
		}
		if tt.rule != "" && (d.Rule != tt.rule || !strings.Contains(d.Reason, "is denied by the policy: because of ") || d.Fix != "") {
			t.Errorf("%s %d: %+v, want %s", tt.host, tt.port, d, tt.rule)
		}
		if e := Explain(a, profiles.Upstream{}, tt.host); tt.port == 443 && e.Allow != d.Allow {
			t.Errorf("%s: explained as %+v", tt.host, e)
		}
	}
	if d := Decide(Access{Denials: denials(t, "a.test")}, "b.test", netip.Addr{}, 443); d.Allow || !strings.Contains(d.Fix, "--allow-net") {
		t.Errorf("a denial alone: %+v", d)
	}
}

// TestDenialWithAReason: of two denials of the same the one that says why is told.
func TestDenialWithAReason(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		for _, what := range []string{"a.wild.test", "*.wild.test", "9.9.9.9"} {
			both := denials(t, what, what)
			both[order[0]].Reason, both[order[1]].Reason = "", "it is old"
			a := Access{Denials: both}
			name, _ := a.deniedName("a.wild.test", 80)
			addr, _ := a.deniedAddr(netip.MustParseAddr("9.9.9.9"), 80)
			if name.Reason+addr.Reason != "it is old" {
				t.Errorf("%s: %+v %+v", what, name, addr)
			}
		}
	}
}

// TestDenialIsTold: the reason of the policy is what the agent reads, whichever way it asked, and what the event says.
func TestDenialIsTold(t *testing.T) {
	n := newNetwork(t, nil, "*.wild.test:1-65535", "bad.wild.test:443")
	n.g.cfg.Denials = denials(t, "bad.wild.test", "ports.wild.test:80")
	n.g.cfg.Denials[0].Reason = "it is the old one; use good.wild.test"
	const told = "agentjail: bad.wild.test is denied by the policy: it is the old one; use good.wild.test\n"
	c := n.dialName("bad.wild.test", 80)
	if status, body := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: bad.wild.test\r\n\r\n"); status != 403 || body != told {
		t.Errorf("%d %q", status, body)
	}
	if e := n.log.last(t); e.Rule != "deny bad.wild.test" || e.Decision != audit.Deny || e.Reason != strings.TrimSpace(told[len("agentjail: "):]) {
		t.Errorf("%+v", e)
	}
	for _, form := range []string{"bad.wild.test", "BAD.Wild.Test", "bad.wild.test."} {
		for _, request := range []string{
			"CONNECT " + form + ":443 HTTP/1.1\r\n\r\n", "GET http://" + form + "/ HTTP/1.1\r\nHost: " + form + "\r\n\r\n", socksTo(form, 443),
			"CONNECT " + n.sink("bad.wild.test").String() + ":443 HTTP/1.1\r\n\r\n",
		} {
			c := n.explicit()
			send(t, c, request)
			b, _ := io.ReadAll(c)
			if want := map[bool]string{true: "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", false: told}[request[0] == 5]; !strings.HasSuffix(string(b), want) {
				t.Errorf("%q: %q", request, b)
			}
			if e := n.log.last(t); e.Rule != "deny bad.wild.test" || e.Action != actionConnect {
				t.Errorf("%q: %+v", request, e)
			}
		}
	}
	n.g.cfg.Denials[1] = denials(t, "127.0.0.1:5432")[0]
	for _, host := range []string{"127.0.0.1", "localhost"} {
		c := n.explicit()
		send(t, c, "CONNECT "+host+":5432 HTTP/1.1\r\n\r\n")
		if b, _ := io.ReadAll(c); !strings.HasSuffix(string(b), "denied by the policy: because of 127.0.0.1:5432\n") {
			t.Errorf("%q", b)
		}
	}
	// The reason is that of an address to which an allowed name leads, too, but not which one it is.
	n.g.cfg.Denials = append(n.g.cfg.Denials, denials(t, "9.9.9.9")...)
	n.host("lead.wild.test", "9.9.9.9")
	c = n.dialName("lead.wild.test", 80)
	if status, body := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: lead.wild.test\r\n\r\n"); status != 403 ||
		body != "agentjail: lead.wild.test:80 leads to an address that is denied by the policy: because of 9.9.9.9\n" {
		t.Errorf("%d %q", status, body)
	}
	for name, want := range map[string]audit.Decision{"bad.wild.test": audit.Deny, "ports.wild.test": audit.Allow, "good.wild.test": audit.Allow} {
		v := n.g.judgeQuery(dns.OpcodeQuery, dns.Question{Name: name + ".", Qtype: dns.TypeA, Qclass: dns.ClassINET})
		if v.decision != want || len(v.answer) != 1 {
			t.Errorf("a query for %s: %+v", name, v)
		}
	}
	if n.dialed() != "" || !slices.Equal(n.looked, []string{"lead.wild.test"}) {
		t.Errorf("dialed %s, looked up %s", n.dialed(), n.looked)
	}
}

// TestDeniedAddressBehindAName: an address that is denied is not reached by a name either, also where a rule grants it.
// Containment check: I13.
func TestDeniedAddressBehindAName(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:7", "both.test:7", "translated.test:7", "9.9.9.9:7")
	n.g.cfg.Denials = denials(t, "9.9.9.0/24")
	n.host("allowed.test", "9.9.9.9")
	n.host("both.test", "9.9.9.9", "93.184.216.34")
	n.host("translated.test", "64:ff9b::909:909") // as DNS64 answers
	n.server("93.184.216.34:7", echo)
	n.server("9.9.9.9:7", echo)
	wantReset(t, n.dialName("allowed.test", 7))
	n.wantEvents("net dial.special_address deny allowed.test:7")
	if e := n.log.last(t); !strings.Contains(e.Reason, "9.9.9.9 is denied by the policy: because of 9.9.9.0/24") || strings.Contains(e.Reason, "--allow-net") {
		t.Errorf("%+v", e)
	}
	wantReset(t, n.dial("9.9.9.9:7"))
	wantReset(t, n.dialName("translated.test", 7))
	if e := n.log.last(t); !strings.Contains(e.Reason, "is denied by the policy: because of 9.9.9.0/24") {
		t.Errorf("%+v", e)
	}
	c := n.dialName("both.test", 7)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	if n.dialed() != "93.184.216.34:7" {
		t.Errorf("dialed %s", n.dialed())
	}
}

func TestNewRefusesDenials(t *testing.T) {
	for _, bad := range denials(t, "allowed.test") {
		bad.Host = "Allowed.test"
		if _, err := New(Config{Sink: new(log), Access: Access{Denials: append(denials(t, "a.test"), bad)}}); err == nil {
			t.Error("a denial that is never met was accepted")
		}
	}
}
