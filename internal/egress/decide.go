// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// loopback4 is the IPv4 loopback address.
var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// A Decision is the verdict on one destination. The zero Decision denies.
type Decision struct {
	Allow    bool
	Loopback bool       // the destination is a port of the host's own loopback
	Name     string     // canonical; empty for an address and for a name that is none
	Addr     netip.Addr // for an address: without zone, IPv4-mapped ones as IPv4
	Rule     string     // the rule that allowed it, or the one that came closest
	Reason   string     // for people
	Fix      string     // the flag that would allow it, if one would
}

// Decide judges a connection to port of name or, where name is empty, of addr. It is pure.
// A name is compared in its canonical form; a malformed one is denied. An address is never compared with a name's rule.
func Decide(a Access, name string, addr netip.Addr, port uint16) Decision {
	switch {
	case port == 0:
		return Decision{Reason: "port 0 is not a port"}
	case name != "":
		return decideName(a, name, port)
	default:
		return decideAddr(a, addr, port)
	}
}

func decideName(a Access, raw string, port uint16) Decision {
	name, err := canonicalName(raw)
	if err != nil {
		return Decision{Reason: err.Error()}
	}
	if isLocal(name) {
		d := decideLoopback(a, port)
		d.Name = name
		return d
	}
	if denial, ok := a.deniedName(name, port); ok {
		return Decision{Name: name, Rule: denial.String(), Reason: denialReason(name, denial)}
	}
	if rules := a.rulesFor(name, port); len(rules) > 0 {
		return Decision{Allow: true, Name: name, Rule: rules[0].String(), Reason: "the host is on the allow-list"}
	}
	near := ""
	for _, r := range a.Rules {
		if matchName(r, name) {
			near = r.String()
		}
	}
	d := Decision{Name: name, Rule: near, Fix: audit.Flag("--allow-net", name+":"+strconv.Itoa(int(port)))}
	d.Reason = name + " is not on the allow-list of this run"
	if near != "" {
		d.Reason = fmt.Sprintf("%s is on the allow-list, but not with port %d", name, port)
	}
	return d
}

func decideAddr(a Access, addr netip.Addr, port uint16) Decision {
	if !addr.IsValid() || addr.Zone() != "" {
		return Decision{Reason: "an address with a zone, or none, cannot be allowed"}
	}
	addr = addr.Unmap()
	if addr == loopback4 || addr == netip.IPv6Loopback() {
		d := decideLoopback(a, port)
		d.Addr = addr
		return d
	}
	g := grantFor(a, addr, port, false)
	return Decision{Allow: g.ok, Addr: addr, Rule: g.rule, Reason: g.reason, Fix: g.fix}
}

// decideLoopback judges a port of the host's own loopback. Which of its two addresses was asked for makes no difference.
func decideLoopback(a Access, port uint16) Decision {
	for _, addr := range []netip.Addr{loopback4, netip.IPv6Loopback()} {
		if denial, ok := a.deniedAddr(addr, port); ok {
			return Decision{Rule: denial.String(), Reason: denialReason(fmt.Sprintf("port %d of the host's loopback", port), denial)}
		}
	}
	d := Decision{Allow: true, Loopback: true, Reason: "the port of the host's loopback is on the allow-list"}
	if slices.Contains(a.Loopback, port) {
		d.Rule = "loopback:" + strconv.Itoa(int(port))
		return d
	}
	for _, addr := range []netip.Addr{loopback4, netip.IPv6Loopback()} {
		if g := grantFor(a, addr, port, true); g.ok {
			d.Rule = g.rule
			return d
		}
	}
	return Decision{
		Reason: fmt.Sprintf("nothing in the run listens on port %d, and port %d of the host's loopback is not allowed", port, port),
		Fix:    audit.Flag("--allow-net", netip.AddrPortFrom(loopback4, port).String()),
	}
}

// A grant says whether an address may be dialed on its own account, by a CIDR rule, and not in spite of a denial.
type grant struct {
	ok     bool
	rule   string
	class  string // of the special range, if any
	reason string
	fix    string // the flag that would make it so, if one would
}

// grantFor judges an address by the CIDR rules alone. A special address needs a rule that is no wider than its special
// range: 0.0.0.0/0 is the Internet, not the metadata service. own says that the address is one of this host's: that, like
// loopback, needs a rule for the very address, since a rule for a network is hardly meant to open the host's own services.
func grantFor(a Access, addr netip.Addr, port uint16, own bool) grant {
	if denial, ok := a.deniedAddr(addr, port); ok {
		return grant{rule: denial.String(), reason: denialReason(addr.String(), denial)}
	}
	r, isSpecial := special(addr)
	g := grant{class: r.class, fix: audit.Flag("--allow-net", netip.AddrPortFrom(addr, port).String())}
	if strings.HasPrefix(r.class, metadata) {
		g.fix = "" // it gives out the machine's own credentials: nobody is to be asked for that
	}
	need := 0
	if isSpecial {
		need = r.prefix.Bits()
	}
	if own && r.class != "loopback" {
		g.class = "this host's own"
	}
	if own || r.exact {
		need = addr.BitLen()
	}
	for _, rule := range a.Rules {
		if !rule.Prefix.IsValid() || !rule.Prefix.Contains(addr) || !hasPort(rule, port) {
			continue
		}
		g.rule = rule.String()
		if rule.Prefix.Bits() >= need {
			g.ok, g.reason, g.fix = true, "the address is on the allow-list", ""
			return g
		}
	}
	switch {
	case g.rule != "":
		g.reason = fmt.Sprintf("%s is a special address (%s): it needs a rule of its own, %s is too wide", addr, g.class, g.rule)
	case g.class != "":
		g.reason = fmt.Sprintf("%s is a special address (%s) and not on the allow-list of this run", addr, g.class)
	default:
		g.reason = fmt.Sprintf("%s is not on the allow-list of this run", addr)
	}
	return g
}

// matchName reports whether a rule is for the canonical name, whatever the port. A suffix rule matches what is below it,
// not the name itself.
func matchName(r profiles.Rule, name string) bool {
	if r.Host == "" {
		return false
	}
	if !r.Suffix {
		return name == r.Host
	}
	return len(name) > len(r.Host)+1 && strings.HasSuffix(name, r.Host) && name[len(name)-len(r.Host)-1] == '.'
}

// ruleForName returns the first rule that allows name on some port. An exact rule goes before a suffix.
func ruleForName(rules []profiles.Rule, name string) (profiles.Rule, bool) {
	var found profiles.Rule
	ok := false
	for _, r := range rules {
		if len(r.Ports) == 0 || !matchName(r, name) {
			continue
		}
		if !r.Suffix {
			return r, true
		}
		if !ok {
			found, ok = r, true
		}
	}
	return found, ok
}

func hasPort(r profiles.Rule, port uint16) bool {
	for _, p := range r.Ports {
		if p.First <= port && port <= p.Last {
			return true
		}
	}
	return false
}
