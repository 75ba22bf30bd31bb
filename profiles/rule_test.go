// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParseRule(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"example.com", "example.com:443"},
		{"example.com:80", "example.com:80"},
		{"example.com:8000-8100", "example.com:8000-8100"},
		{"EXAMPLE.Com.:1", "example.com:1"},
		{"intranet:65535", "intranet:65535"},
		{"*.example.com", "*.example.com:443"},
		{"*.a.b.example.com:22", "*.a.b.example.com:22"},
		{"*.github.io", "*.github.io:443"},
		{"*.bbc.co.uk", "*.bbc.co.uk:443"},
		{"bücher.example", "xn--bcher-kva.example:443"},
		{"BÜCHER.example", "xn--bcher-kva.example:443"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example:443"},
		{"r3---sn-4g5e6nl7.example.com", "r3---sn-4g5e6nl7.example.com:443"},
		{"1password.com", "1password.com:443"},
		{"a.0xzz", "a.0xzz:443"},
		{"10.20.0.0/16:5432", "10.20.0.0/16:5432"},
		{"10.20.0.0/16", "10.20.0.0/16:443"},
		{"127.0.0.1:8080", "127.0.0.1/32:8080"},
		{"192.0.2.1", "192.0.2.1/32:443"},
		{"2001:db8::/32", "[2001:db8::/32]:443"},
		{"2001:db8::1:443", "[2001:db8::1:443/128]:443"},
		{"[2001:db8::1]:80", "[2001:db8::1/128]:80"},
		{"[2001:db8::/32]:1-2", "[2001:db8::/32]:1-2"},
		{"[::1]", "[::1/128]:443"},
		{"0.0.0.0/0:53", "0.0.0.0/0:53"},
	} {
		r, err := ParseRule(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		if r.String() != tc.want {
			t.Errorf("%s: got %s, want %s", tc.in, r, tc.want)
		}
		if err := r.check(); err != nil {
			t.Errorf("%s: not a valid rule: %v", tc.in, err)
		}
		if again, err := ParseRule(r.String()); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%s reads back as %s, %v", r, again, err)
		}
	}
}

// ruleErrors is area I of the containment checks, as far as a rule can get it
// wrong, and words of the message.
var ruleErrors = []struct{ in, want string }{
	{"", "host is empty"},
	{":443", "host is empty"},
	{"*", "wildcard"},
	{"*.", "wildcard"},
	{"*.*.example.com", "wildcard"},
	{"a.*.example.com", "wildcard"},
	{"*example.com", "wildcard"},
	{".example.com", "is not a host name"},
	{"a..example.com", "is not a host name"},
	{"example.com..", "is not a host name"},
	{".", "is not a host name"},
	{"*.com", "public suffix"},
	{"*.internal", "public suffix"},
	{"*.co.uk", "public suffix"},
	{"*.COM.au.", "public suffix"},
	{"https://example.com", "without a scheme"},
	{"example.com/path", "without a path"},
	{"example.com?q", "without a path"},
	{"example.com#f", "without a path"},
	{"user@example.com", "without a user"},
	{"user:pass@example.com", "is not a port"},
	{"example.com:", "is not a port"},
	{"example.com:0", "is not a port"},
	{"example.com:0443", "is not a port"},
	{"example.com:65536", "is not a port"},
	{"example.com:99999999999999999999", "is not a port"},
	{"example.com:+1", "is not a port"},
	{"example.com:443/x", "is not a port"},
	{"example.com:https", "is not a port"},
	{"example.com: 443", "is not a port"},
	{"example.com:90-80", "is not a range of ports"},
	{"example.com:80-", "is not a range of ports"},
	{"example.com:80-90-100", "is not a range of ports"},
	{"localhost", "network.loopback"},
	{"foo.localhost:80", "network.loopback"},
	{"127.1", "use cidr"},
	{"0x7f.1", "use cidr"},
	{"0x7f000001", "use cidr"},
	{"2130706433", "use cidr"},
	{"0177.0.0.1", "use cidr"},
	{"127.0.0.01", "use cidr"},
	{"0", "use cidr"},
	{"0x", "use cidr"},
	{"*.0.0.1", "use cidr"},
	{"127.0.0.1.", "use cidr"},
	{"256.1.1.1", "use cidr"},
	{"１２７.0.0.1", "international"},
	{"127。0。0。1", "international"},
	{"allowed．test", "international"},
	{"*.allowed｡test", "international"},
	{"ⓐllowed.example", "international"},
	{"a\u00adb.example", "international"},
	{"xn--a.example", "international"},
	{"xn--.example", "international"},
	{"example\x00.com", "is not a host name"},
	{"example.com\r\n", "is not a host name"},
	{"exam ple.com", "is not a host name"},
	{"a_b.example.com", "is not a host name"},
	{"-a.example.com", "is not a host name"},
	{"a-.example.com", "is not a host name"},
	{"example.com%00", "is not a host name"},
	{`example.com\`, "is not a host name"},
	{strings.Repeat("a", 64) + ".example.com", "is not a host name"},
	{strings.Repeat("a.", 130) + "example", "longer than 253"},
	{"10.0.0.1/8", "write 10.0.0.0/8"},
	{"10.0.0.0/33", "is not a range of addresses"},
	{"10.0.0.0/08", "is not a range of addresses"},
	{"10.0.0.0/", "is not a range of addresses"},
	{"::ffff:127.0.0.1", "not mapped"},
	{"::ffff:10.0.0.0/104", "not mapped"},
	{"fe80::1%eth0", "zone"},
	{"[fe80::1%x.example.com]:443", "zone"},
	{"[::1", "bracket is missing"},
	{"[::1]x", "only :PORT"},
	{"[example.com]:443", "brackets are for IPv6"},
	{"[127.0.0.1]:443", "brackets are for IPv6"},
	{"a:b:c", "is not an IP address"},
}

// Containment checks: I10.
func TestParseRuleErrors(t *testing.T) {
	for _, tc := range ruleErrors {
		r, err := ParseRule(tc.in)
		if err == nil {
			t.Errorf("%q: accepted as %s", tc.in, r)
			continue
		}
		if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: got %q, want %q in it", tc.in, err, tc.want)
		}
		if strings.ContainsAny(err.Error(), "\x00\r\n") || !isASCII(err.Error()) {
			t.Errorf("%q: the error repeats the input raw: %q", tc.in, err)
		}
	}
}

// WithAllow takes rules that others made by hand.
func TestWithAllowChecks(t *testing.T) {
	https := []PortRange{{443, 443}}
	ten := netip.MustParsePrefix("10.0.0.0/8")
	for name, r := range map[string]Rule{
		"zero":              {},
		"no port":           {Host: "a.example"},
		"port 0":            {Host: "a.example", Ports: []PortRange{{0, 1}}},
		"range backwards":   {Host: "a.example", Ports: []PortRange{{2, 1}}},
		"no target":         {Ports: https},
		"suffix of nothing": {Suffix: true, Prefix: ten, Ports: https},
		"two targets":       {Host: "a.example", Prefix: ten, Ports: https},
		"capitals":          {Host: "A.example", Ports: https},
		"trailing dot":      {Host: "a.example.", Ports: https},
		"wildcard in host":  {Host: "*.a.example", Ports: https},
		"address as host":   {Host: "127.1", Ports: https},
		"public suffix":     {Host: "com", Suffix: true, Ports: https},
		"unmasked":          {Prefix: netip.MustParsePrefix("10.0.0.1/8"), Ports: https},
		"mapped":            {Prefix: netip.MustParsePrefix("::ffff:10.0.0.0/104"), Ports: https},
	} {
		if p, err := (Policy{}).WithAllow(r); err == nil || len(p.Rules()) != 0 {
			t.Errorf("%s: accepted: %v", name, r)
		}
	}
	good := Rule{Host: "a.example", Suffix: true, Ports: []PortRange{{9, 9}, {1, 3}}}
	p, err := Policy{}.WithAllow(good, Rule{Prefix: ten, Ports: https}, Rule{Host: "a.example", Suffix: true, Ports: []PortRange{{4, 5}, {2, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{
		{Prefix: ten, Ports: https},
		{Host: "a.example", Suffix: true, Ports: []PortRange{{1, 5}, {9, 9}}},
	}
	if got := p.Rules(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMergePortsJoins(t *testing.T) {
	for _, tc := range []struct {
		in, want []PortRange
	}{
		{[]PortRange{{1, 65535}, {65535, 65535}}, []PortRange{{1, 65535}}},
		{[]PortRange{{80, 80}, {82, 82}}, []PortRange{{80, 80}, {82, 82}}},
		{[]PortRange{{80, 90}, {85, 86}, {91, 91}}, []PortRange{{80, 91}}},
	} {
		if got := mergePorts(tc.in); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v: got %v, want %v", tc.in, got, tc.want)
		}
	}
}
