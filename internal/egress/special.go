// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"sync"
)

// A specialRange is a range of addresses that an allowed name must not lead to by itself.
type specialRange struct {
	prefix netip.Prefix
	class  string
	exact  bool // granted only by a rule for the single address
}

// metadata is the class of addresses at which a cloud gives a machine what it is to have, credentials too.
const metadata = "cloud metadata"

// specialText is the table, the most specific ranges first. Sources: the IANA IPv4 and IPv6 special-purpose address
// registries (RFC 6890 and its updates), and the metadata addresses that the cloud providers document.
var specialText = [...]struct {
	prefix, class string
	exact         bool
}{
	{"169.254.169.254/32", metadata, true}, // AWS, Google, Azure, Oracle, OpenStack
	{"169.254.170.2/32", metadata, true},   // AWS ECS task credentials
	{"169.254.170.23/32", metadata, true},  // AWS EKS pod identity
	{"100.100.100.200/32", metadata, true}, // Alibaba
	{"168.63.129.16/32", metadata, true},   // Azure's wire server; of a public range
	{"192.0.0.192/32", metadata, true},     // Oracle, classic
	{"169.254.0.23/32", metadata, true},    // Tencent
	{"169.254.42.42/32", metadata, true},   // Scaleway
	{"fd00:ec2::254/128", metadata, true},
	{"fd00:ec2::23/128", metadata, true},
	{"fd20:ce::254/128", metadata, true},       // Google
	{"fd00:c1::a9fe:a9fe/128", metadata, true}, // Oracle
	{"fd00:a9fe:a9fe::1/128", metadata, true},  // Linode
	{"fd00:42::42/128", metadata, true},        // Scaleway
	{"fe80::a9fe:a9fe/128", metadata, true},    // OpenStack
	{"0.0.0.0/8", "unspecified", true},         // Linux takes 0.0.0.0 for the machine itself
	{"10.0.0.0/8", "private", false},
	{"100.64.0.0/10", "carrier-grade NAT", false},
	{"127.0.0.0/8", "loopback", true},
	{"169.254.0.0/16", "link-local", false},
	{"172.16.0.0/12", "private", false},
	{"192.0.0.0/24", "IETF protocol", false},
	{"192.0.2.0/24", "documentation", false},
	{"192.88.99.0/24", "6to4 relay", false},
	{"192.168.0.0/16", "private", false},
	{"198.18.0.0/15", "benchmarking", false}, // the pool itself
	{"198.51.100.0/24", "documentation", false},
	{"203.0.113.0/24", "documentation", false},
	{"224.0.0.0/4", "multicast", false},
	{"240.0.0.0/4", "reserved", false},
	{"::/128", "unspecified", true},
	{"::1/128", "loopback", true},
	{"::ffff:0:0/96", "IPv4-mapped", false},
	{"::/96", "IPv4-compatible", false},
	{"64:ff9b:1::/48", "local NAT64", false},
	{"100::/64", "discard", false},
	{"2001::/32", "Teredo", false},
	{"2001:2::/48", "benchmarking", false},
	{"2001:10::/28", "ORCHID", false},
	{"2001:20::/28", "ORCHID", false},
	{"2001::/23", "IETF protocol", false}, // its anycast addresses are services of the next router (RFC 7723, RFC 8155)
	{"2001:db8::/32", "documentation", false},
	{"2002::/16", "6to4", false},
	{"3fff::/20", "documentation", false},
	{"fc00::/7", "private", false},
	{"fe80::/10", "link-local", false},
	{"fec0::/10", "site-local", false},
	{"ff00::/8", "multicast", false},
}

// specialTable parses the table at its first use: a run's short-lived processes must not pay for it when they start.
var specialTable = sync.OnceValue(func() []specialRange {
	table := make([]specialRange, 0, len(specialText))
	for _, t := range specialText {
		table = append(table, specialRange{netip.MustParsePrefix(t.prefix), t.class, t.exact})
	}
	return table
})

// special returns the special range that addr is in. ok is false for an ordinary public address.
// addr has no zone and is not IPv4-mapped.
func special(addr netip.Addr) (specialRange, bool) {
	if inner, ok := nat64(addr); ok {
		// The translator forwards to the IPv4 address inside (RFC 6052), and DNS64 resolvers answer with such addresses
		// for every host that has no IPv6. So the address inside is the one to judge.
		r, ok := special(inner)
		if !ok {
			return specialRange{}, false
		}
		return specialRange{netip.PrefixFrom(addr, addr.BitLen()), r.class + " behind NAT64", true}, true
	}
	for _, r := range specialTable() {
		if r.prefix.Contains(addr) {
			return r, true
		}
	}
	if global := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3); addr.Is6() && !global.Contains(addr) {
		// 2000::/3 is all of IPv6 that is handed out as global unicast (RFC 4291 section 2.4 and IANA's registry).
		return specialRange{netip.PrefixFrom(addr, addr.BitLen()), "unassigned", true}, true
	}
	return specialRange{}, false
}

// nat64 returns the IPv4 address inside an address of the well-known prefix 64:ff9b::/96.
func nat64(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	if [12]byte(b[:12]) != [12]byte{0x00, 0x64, 0xff, 0x9b} {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[12:])), true
}
