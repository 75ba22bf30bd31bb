// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
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
