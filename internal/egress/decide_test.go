// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// Containment checks: I01, I09, I10.
func TestDecideName(t *testing.T) {
	rs := rules(t, "allowed.test:443", "allowed.test:8000-8010", "*.wild.test:443", "xn--bcher-kva.test", "10.1.0.0/16:443")
	label63, label64 := strings.Repeat("a", 63), strings.Repeat("a", 64)
	tests := []struct {
		name  string
		port  uint16
		allow bool
		rule  string
	}{
		// Ports.
		{"allowed.test", 443, true, "allowed.test:443"},
		{"allowed.test", 8005, true, "allowed.test:8000-8010"},
		{"allowed.test", 8011, false, "allowed.test:8000-8010"},
		{"allowed.test", 22, false, "allowed.test:8000-8010"},
		{"allowed.test", 0, false, ""},
		// One name has one form.
		{"ALLOWED.Test", 443, true, "allowed.test:443"},
		{"allowed.test.", 443, true, "allowed.test:443"},
		{"allowed.test..", 443, false, ""},
		{"xn--bcher-kva.test", 443, true, "xn--bcher-kva.test:443"},
		{"XN--BCHER-KVA.test.", 443, true, "xn--bcher-kva.test:443"},
		{"bücher.test", 443, false, ""},
		{"ⓐllowed.test", 443, false, ""},
		{"аllowed.test", 443, false, ""}, // with a Cyrillic letter
		{"allowed。test", 443, false, ""},
		// Suffixes.
		{"evilallowed.test", 443, false, ""},
		{"allowed.test.evil.test", 443, false, ""},
		{"sub.allowed.test", 443, false, ""},
		{"a.wild.test", 443, true, "*.wild.test:443"},
		{"a.b.wild.test", 443, true, "*.wild.test:443"},
		{label63 + ".wild.test", 443, true, "*.wild.test:443"},
		{label64 + ".wild.test", 443, false, ""},
		{"wild.test", 443, false, ""},
		{".wild.test", 443, false, ""},
		{"a..wild.test", 443, false, ""},
		{"*.wild.test", 443, false, ""},
		{"awild.test", 443, false, ""},
		{strings.Repeat("a.", 122) + "wild.test", 443, true, "*.wild.test:443"}, // 253
		{strings.Repeat("a.", 122) + "a.wild.test", 443, false, ""},
		// What is no name.
		{"allowed.test@evil.test", 443, false, ""},
		{"user@allowed.test", 443, false, ""},
		{"allowed.test:443", 443, false, ""},
		{"allowed.test/", 443, false, ""},
		{"allowed.test\x00.wild.test", 443, false, ""},
		{"evil\n.wild.test", 443, false, ""},
		{"evil%00.wild.test", 443, false, ""},
		{"evil\\.wild.test", 443, false, ""},
		{"evil test.wild.test", 443, false, ""},
		{"::1%25.wild.test", 443, false, ""},
		{"[fe80::1%x.wild.test]", 443, false, ""},
		{"", 443, false, ""}, // and no address either
		{".", 443, false, ""},
		// Numbers are addresses to somebody.
		{"10.1.2.3", 443, false, ""},
		{"127.1", 443, false, ""},
		{"0x7f.1", 443, false, ""},
		{"0x7f000001", 443, false, ""},
		{"0X7F000001", 443, false, ""},
		{"2130706433", 443, false, ""},
		{"0177.0.0.01", 443, false, ""},
		{"a.wild.test.1", 443, false, ""},
		{"0x.wild.test.0x", 443, false, ""},
		{"127。0。0。1", 443, false, ""},
		{"１２７.0.0.1", 443, false, ""},
	}
	for _, tt := range tests {
		d := Decide(Access{Rules: rs}, tt.name, netip.Addr{}, tt.port)
		if d.Allow != tt.allow || d.Rule != tt.rule || d.Loopback {
			t.Errorf("Decide(%q, %d) = %+v, want allow %t by %q", tt.name, tt.port, d, tt.allow, tt.rule)
		}
		if d.Reason == "" {
			t.Errorf("Decide(%q, %d) gives no reason", tt.name, tt.port)
		}
	}
}

// Containment checks: H08, I07, I08, I12.
func TestDecideAddr(t *testing.T) {
	rs := rules(t, "93.184.216.0/24:443", "10.20.0.0/16:5432", "0.0.0.0/0:80", "[::/0]:80", "[fd00:1::/32]:443",
		"169.254.0.0/16:80", "169.254.169.254:8080", "127.0.0.0/8:9000", "127.0.0.1:9001", "allowed.test")
	tests := []struct {
		addr     string
		port     uint16
		allow    bool
		loopback bool
	}{
		{"93.184.216.34", 443, true, false},
		{"::ffff:93.184.216.34", 443, true, false},
		{"93.184.217.34", 443, false, false},
		{"93.184.216.34", 444, false, false},
		{"10.20.1.2", 5432, true, false},
		{"10.21.1.2", 5432, false, false},
		{"fd00:1::2", 443, true, false},
		{"fd01:1::2", 443, false, false},
		// The whole Internet is not the special ranges.
		{"1.1.1.1", 80, true, false},
		{"2606:4700:4700::1111", 80, true, false},
		{"10.0.0.1", 80, false, false},
		{"192.168.1.1", 80, false, false},
		{"100.64.0.1", 80, false, false},
		{"168.63.129.16", 80, false, false},
		{"127.0.0.1", 80, false, false},
		{"::1", 80, false, false},
		{"::127.0.0.1", 80, false, false},
		{"0.0.0.0", 80, false, false},
		{"::", 80, false, false},
		{"64:ff9b::7f00:1", 80, false, false},
		{"64:ff9b::a9fe:a9fe", 80, false, false},
		{"64:ff9b::101:101", 80, true, false}, // 1.1.1.1 through NAT64
		{"2002:7f00:1::", 80, false, false},
		{"2001:0:1::1", 80, false, false},
		{"2001:1::1", 80, false, false}, // where routers take requests to open ports
		{"fe80::1", 80, false, false},
		{"ff02::1", 80, false, false},
		{"4000::1", 80, false, false},
		// A range is not its metadata service.
		{"169.254.1.1", 80, true, false},
		{"169.254.169.254", 80, false, false},
		{"169.254.169.254", 8080, true, false},
		{"169.254.0.23", 80, false, false},
		{"fd00:1:a9fe::1", 443, true, false},
		// Loopback is the host's only where a port or the very address is granted.
		{"127.0.0.1", 5432, true, true},
		{"::1", 5432, true, true},
		{"::ffff:127.0.0.1", 5432, true, true},
		{"127.0.0.2", 5432, false, false},
		{"127.0.0.1", 5433, false, false},
		{"127.0.0.1", 9000, false, false},
		{"127.0.0.1", 9001, true, true},
		{"::1", 9001, true, true},
		{"fe80::1%lo", 80, false, false},
	}
	for _, tt := range tests {
		d := Decide(Access{Rules: rs, Loopback: []uint16{5432}}, "", netip.MustParseAddr(tt.addr), tt.port)
		if d.Allow != tt.allow || d.Loopback != tt.loopback {
			t.Errorf("Decide(%s, %d) = %+v, want allow %t loopback %t", tt.addr, tt.port, d, tt.allow, tt.loopback)
		}
		r, _ := special(netip.MustParseAddr(tt.addr).Unmap())
		if none := d.Allow || strings.HasPrefix(r.class, metadata); none != (d.Fix == "") && tt.port != 0 && !strings.Contains(tt.addr, "%") {
			t.Errorf("Decide(%s, %d): fix %q", tt.addr, tt.port, d.Fix)
		}
	}
	if d := Decide(Access{Rules: rs}, "", netip.Addr{}, 80); d.Allow {
		t.Error("no address at all is allowed")
	}
}

// TestSpecialRegistries: what IANA's registries of special addresses do not have as reachable from everywhere is special, from its first
// address to its last, and what lies beside it is not.
// Containment check: I12.
func TestSpecialRegistries(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
		"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
		"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "::ffff:0:0:0/96",
		// Of NAT64, what the address inside is.
		"64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112", "64:ff9b::c0a8:0/112", "64:ff9b::e000:0/99",
	} {
		p := netip.MustParsePrefix(text)
		last := p.Addr().AsSlice()
		for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, addr := range []netip.Addr{p.Addr(), end} {
			if _, is := special(addr); !is {
				t.Errorf("%s of %s is not special", addr, text)
			}
		}
	}
	for _, text := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "168.63.129.15",
		"2000::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::", "3ffe:ffff::", "3fff:1000::", "64:ff9b::808:808",
	} {
		if r, is := special(netip.MustParseAddr(text)); is {
			t.Errorf("%s is %s", text, r.class)
		}
	}
}

func TestDecideLocalNames(t *testing.T) {
	// A rule for such a name, however it came to be, grants nothing.
	rs := []profiles.Rule{{Host: "localhost", Ports: []profiles.PortRange{{First: 1, Last: 65535}}}}
	for _, name := range []string{"localhost", "LOCALHOST.", "db.localhost", "ip6-loopback", "localhost.localdomain"} {
		if d := Decide(Access{Rules: rs, Loopback: []uint16{5432}}, name, netip.Addr{}, 5432); !d.Allow || !d.Loopback || d.Rule != "loopback:5432" {
			t.Errorf("%s:5432 = %+v", name, d)
		}
		if d := Decide(Access{Rules: rs, Loopback: []uint16{5432}}, name, netip.Addr{}, 80); d.Allow || d.Fix != "--allow-net 127.0.0.1:80" {
			t.Errorf("%s:80 = %+v", name, d)
		}
	}
}

func TestDecideFixes(t *testing.T) {
	rs := rules(t, "allowed.test", "10.0.0.0/8:443", "0.0.0.0/0:443")
	for _, tt := range []struct {
		name, addr string
		port       uint16
		fix        string
		reason     string
	}{
		{"evil.test", "", 443, "--allow-net evil.test:443", "evil.test is not on the allow-list of this run"},
		{"allowed.test", "", 80, "--allow-net allowed.test:80", "allowed.test is on the allow-list, but not with port 80"},
		{"", "1.1.1.1", 53, "--allow-net 1.1.1.1:53", "1.1.1.1 is not on the allow-list of this run"},
		{"", "2606:4700::1", 22, "--allow-net '[2606:4700::1]:22'", "2606:4700::1 is not on the allow-list of this run"},
		{"", "192.168.1.1", 443, "--allow-net 192.168.1.1:443",
			"192.168.1.1 is a special address (private): it needs a rule of its own, 0.0.0.0/0:443 is too wide"},
		{"", "169.254.169.254", 443, "",
			"169.254.169.254 is a special address (cloud metadata): it needs a rule of its own, 0.0.0.0/0:443 is too wide"},
		{"", "169.254.1.1", 80, "--allow-net 169.254.1.1:80",
			"169.254.1.1 is a special address (link-local) and not on the allow-list of this run"},
		{"", "192.168.1.1", 80, "--allow-net 192.168.1.1:80",
			"192.168.1.1 is a special address (private) and not on the allow-list of this run"},
	} {
		var addr netip.Addr
		if tt.addr != "" {
			addr = netip.MustParseAddr(tt.addr)
		}
		d := Decide(Access{Rules: rs}, tt.name, addr, tt.port)
		if d.Fix != tt.fix || d.Reason != tt.reason {
			t.Errorf("%s%s:%d: %q, %q", tt.name, tt.addr, tt.port, d.Fix, d.Reason)
		}
		// The advice must be true.
		if tt.fix == "" {
			continue
		}
		added := append(rules(t, strings.Trim(strings.TrimPrefix(d.Fix, "--allow-net "), "'")), rs...)
		if !Decide(Access{Rules: added}, tt.name, addr, tt.port).Allow {
			t.Errorf("%s%s:%d: %q does not help", tt.name, tt.addr, tt.port, d.Fix)
		}
	}
}

func TestZeroConfigDenies(t *testing.T) {
	for _, name := range []string{"allowed.test", "localhost"} {
		if Decide(Access{}, name, netip.Addr{}, 443).Allow {
			t.Errorf("%s is allowed without rules", name)
		}
	}
	for _, rule := range []profiles.Rule{{}, {Host: "allowed.test"}, {Suffix: true, Ports: []profiles.PortRange{{First: 443, Last: 443}}}} {
		if Decide(Access{Rules: []profiles.Rule{rule}}, "allowed.test", netip.Addr{}, 443).Allow {
			t.Errorf("rule %+v allows", rule)
		}
		if _, ok := ruleForName([]profiles.Rule{rule}, "allowed.test"); ok {
			t.Errorf("rule %+v lets the name resolve", rule)
		}
	}
}

// Containment checks: I23.
func FuzzDecide(f *testing.F) {
	for _, s := range []string{"allowed.test", "A.Wild.Test.", "a.BAD.wild.test", "127.1", "[::1]", "a@allowed.test", "\x00.wild.test", "localhost"} {
		f.Add(s, uint16(443))
	}
	a := Access{Rules: rules(f, "allowed.test:443", "*.wild.test:443"), Denials: denials(f, "bad.wild.test", "*.bad.wild.test"), Loopback: []uint16{443}}
	f.Fuzz(func(t *testing.T, name string, port uint16) {
		d := Decide(a, name, netip.Addr{}, port)
		if !d.Allow {
			return
		}
		plain := strings.TrimSuffix(strings.ToLower(name), ".")
		switch {
		case port != 443:
			t.Errorf("%q is allowed with port %d", name, port)
		case d.Name != plain:
			t.Errorf("%q is dialed as %q", name, d.Name)
		case d.Loopback != (plain == "localhost" || strings.HasSuffix(plain, ".localhost") || strings.HasPrefix(plain, "localhost") || strings.HasPrefix(plain, "ip6-")):
			t.Errorf("%q: loopback %t", name, d.Loopback)
		case !d.Loopback && plain != "allowed.test" && !strings.HasSuffix(plain, ".wild.test"):
			t.Errorf("%q is allowed", name)
		case plain == "bad.wild.test" || strings.HasSuffix(plain, ".bad.wild.test"):
			t.Errorf("%q is allowed, and denied", name)
		}
	})
}
