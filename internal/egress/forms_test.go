// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/agentjail/agentjail/internal/audit"
)

// hostForms are the spellings of a host that published escapes of name checks used, with the name that each is: "" for none.

var hostForms = map[string]string{
	"allowed.test": "allowed.test", "ALLOWED.TEST": "allowed.test", "allowed.test.": "allowed.test", "AlloweD.Test.": "allowed.test",
	// Names of their own, which look like it.
	"evilallowed.test": "evilallowed.test", "allowed.test.evil.test": "allowed.test.evil.test", "wild.test": "wild.test",
	"a.wild.test": "a.wild.test", "xn--llowed-d9a.test": "xn--llowed-d9a.test",
	strings.Repeat("a", 63) + ".wild.test": strings.Repeat("a", 63) + ".wild.test",
	// No names.
	"": "", ".": "", "..": "", "allowed.test..": "", ".wild.test": "", "a..wild.test": "", "*.wild.test": "", ".allowed.test": "",
	strings.Repeat("a", 64) + ".wild.test": "", strings.Repeat("a.", 122) + "a.wild.test": "",
	"allowed.test\x00": "", "allowed.test\x00.evil.test": "", "evil.test\x00.wild.test": "", "allowed.test\r": "", "allowed.test\n": "",
	"allowed.test\t": "", " allowed.test": "", "allowed.test ": "", "evil.test .wild.test": "", "allowed%2etest": "", "evil%00.wild.test": "",
	"evil%0d%0a.wild.test": "", `evil\.wild.test`: "", `allowed.test\`: "", "evil#.wild.test": "", "evil?.wild.test": "", "evil@allowed.test": "",
	"allowed.test@evil.test": "", "evil;.wild.test": "", "evil/.wild.test": "", "[::1%25.wild.test]": "", "::1%.wild.test": "",
	"fe80::1%x.wild.test": "", "[allowed.test]": "", "ⓐllowed.test": "", "аllowed.test": "", "allowed。test": "", "bücher.test": "",
	"allowed.test\u200b": "", "allowed.test\xff": "", "allow\u00aded.test": "",
	// What some resolver reads as an address.
	"127.1": "", "0x7f.1": "", "0x7f000001": "", "2130706433": "", "0177.0.0.1": "", "127.0.0.01": "", "0": "", "127.0.0.1": "",
	"127.0.0.1.": "", "1.0x1": "", "１２７.0.0.1": "", "127。0。0。1": "", "a.wild.test.1": "", "0X7F.1": "", "00": "",
	"::1": "", "::ffff:127.0.0.1": "", "::127.0.0.1": "", "[::1]": "", "64:ff9b::7f00:1": "",
}

// TestHostForms: the decision, the DNS answer, the Host field, the absolute form, the TLS hello and the requests to the explicit proxy
// have one form of a name.
// Containment checks: I01, I02, I03, I04, I07, I09, I14.
func TestHostForms(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test", "*.wild.test")
	for form, want := range hostForms {
		allowed := want == "allowed.test" || strings.HasSuffix(want, ".wild.test")
		if form != "" {
			if d := Decide(n.g.cfg.Access, form, netip.Addr{}, 443); d.Name != want || d.Allow != allowed {
				t.Errorf("the decision on %q: %+v, want %q allowed %t", form, d, want, allowed)
			}
		}
		if v := n.g.judgeQuery(dns.OpcodeQuery, dns.Question{Name: wireName(form), Qtype: dns.TypeA, Qclass: dns.ClassINET}); (v.decision == audit.Allow) != allowed {
			t.Errorf("a query for %q: %+v, want allowed %t", form, v, allowed)
		}
		for path, request := range map[string]string{
			"CONNECT":                   "CONNECT " + form + ":443 HTTP/1.1\r\n\r\n",
			"the proxy's absolute form": "GET http://" + form + ":443/ HTTP/1.1\r\nHost: " + form + "\r\n\r\n",
			"SOCKS":                     socksTo(form, 443),
		} {
			if host, d := n.asked(request); d.Allow != allowed || allowed && host != want {
				t.Errorf("%s %q: %q %+v, want allowed %t", path, form, host, d, allowed)
			}
		}
		for _, dialed := range []string{"allowed.test", "a.wild.test", "evil.test"} {
			same := want == dialed
			for path, head := range map[string]string{
				"the Host field":    "GET / HTTP/1.1\r\nHost: " + form + "\r\n\r\n",
				"the absolute form": "GET http://" + form + "/ HTTP/1.1\r\nHost: " + dialed + "\r\n\r\n",
			} {
				if path == "the Host field" && strings.Trim(form, " \t") == dialed {
					continue // blanks around a value are not of it, RFC 9110 section 5.5
				}
				if _, err := parseHead([]byte(head), dialed, 443); (err == nil) != same {
					t.Errorf("%s %q on a connection to %s: %v, want accepted %t", path, form, dialed, err, same)
				}
			}
			if means(form, dialed) != same {
				t.Errorf("the TLS hello %q on a connection to %s: want accepted %t", form, dialed, same)
			}
		}
	}
}

// wireName is a name as the library gives it that came over the wire: what is no letter of a name is escaped (RFC 1035 section 5.1).
func wireName(form string) string {
	var b strings.Builder
	for i := range len(form) {
		switch c := form[i]; {
		case c < '!' || c > '~':
			b.WriteString(`\` + string([]byte{'0' + c/100, '0' + c/10%10, '0' + c%10}))
		case strings.IndexByte(`\"();@$`, c) >= 0:
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// TestDestinationForms: an address and a port are judged alike, by whichever way a client asks for them, and what is no port is refused.
// Containment checks: I07, I08, I10, I12, I14, I15.
func TestDestinationForms(t *testing.T) {
	n := newNetwork(t, []uint16{5432}, "allowed.test", "10.1.2.3:22", "0.0.0.0/0:80", "[::/0]:80")
	for _, tt := range []struct {
		addr    string
		port    uint16
		allowed bool
	}{
		{"10.1.2.3", 22, true}, {"10.1.2.3", 80, false}, {"10.1.2.4", 22, false}, {"::ffff:10.1.2.3", 22, true},
		{"93.184.216.34", 80, true}, {"93.184.216.34", 443, false}, {"2606:4700::1111", 80, true}, {"2606:4700::1111", 443, false},
		{"127.0.0.1", 5432, true}, {"::1", 5432, true}, {"127.0.0.1", 5433, false}, {"127.0.0.2", 5432, false}, {"127.0.0.1", 80, false},
		{"::ffff:127.0.0.1", 80, false}, {"::127.0.0.1", 80, false}, {"64:ff9b::7f00:1", 80, false}, {"2002:7f00:1::", 80, false},
		{"2001:0:4136:e378:8000:63bf:3fff:fdd2", 80, false}, {"0.0.0.0", 80, false}, {"::", 80, false}, {"169.254.169.254", 80, false},
		{"fd00:ec2::254", 80, false}, {"100.64.0.1", 80, false}, {"100.100.100.200", 80, false}, {"192.168.1.1", 80, false}, {"fe80::1", 80, false},
		{"224.0.0.251", 80, false}, {"ff02::1", 80, false}, {"255.255.255.255", 80, false}, {"192.0.0.192", 80, false},
	} {
		addr := netip.MustParseAddr(tt.addr)
		if d := Decide(n.g.cfg.Access, "", addr, tt.port); d.Allow != tt.allowed {
			t.Errorf("a connection to %s port %d: %+v, want allowed %t", tt.addr, tt.port, d, tt.allowed)
		}
		to := net.JoinHostPort(tt.addr, strconv.Itoa(int(tt.port)))
		for path, request := range map[string]string{
			"CONNECT":           "CONNECT " + to + " HTTP/1.1\r\n\r\n",
			"the absolute form": "GET http://" + to + "/ HTTP/1.1\r\nHost: " + to + "\r\n\r\n",
			"SOCKS, an address": socksToAddr(addr, int(tt.port)),
		} {
			if _, d := n.asked(request); d.Allow != tt.allowed {
				t.Errorf("%s of %s: %+v, want allowed %t", path, to, d, tt.allowed)
			}
		}
		// An address that is written as a name is none.
		if _, d := n.asked(socksTo(tt.addr, int(tt.port))); d.Allow && !tt.allowed {
			t.Errorf("SOCKS, %s as a name: %+v", to, d)
		}
	}
	for _, port := range []string{"0443", "65536", "65979", "", "443/x", "https", "0", "-1", "+443", " 443", "443 ", "4_43", "0x1bb", "443:443", "４４３"} {
		for path, request := range map[string]string{
			"CONNECT":           "CONNECT allowed.test:" + port + " HTTP/1.1\r\n\r\n",
			"the absolute form": "GET http://allowed.test:" + port + "/ HTTP/1.1\r\nHost: allowed.test:" + port + "\r\n\r\n",
		} {
			if path == "the absolute form" && strings.Contains(port, "/") {
				continue // the path begins there
			}
			if _, d := n.asked(request); d.Allow {
				t.Errorf("%s with the port %q: %+v", path, port, d)
			}
		}
		if _, err := parseHead([]byte("GET / HTTP/1.1\r\nHost: allowed.test:"+port+"\r\n\r\n"), "allowed.test", 443); err == nil && strings.TrimSpace(port) != "443" && port != "" {
			t.Errorf("the Host field with the port %q is accepted", port)
		}
	}
	if _, d := n.asked("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n"); !d.Allow {
		t.Errorf("the plain form: %+v", d)
	}
}
