// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/agentjail/agentjail/profiles"
)

// reasonCollector is what a denial that WithoutCollector adds tells the command.
const reasonCollector = "the log of this run goes there (--log-otlp); name this host and port to allow them all the same"

// WithoutCollector returns the plan with the collector of LogOptions.OTLP denied to the command, which could send records of its own there:
// by its name, and by the addresses that it has on this machine or a private network. Public ones may be those of other hosts as well,
// whose names are proven. One on this machine, whose addresses own are, may listen on all of those: its port is denied on each. Where the
// policy grants just that host and port, it stays so, and the plan says that it does.
func (p Plan) WithoutCollector(at *url.URL, addresses, own []netip.Addr) Plan {
	port := collectorPort(at)
	targets := collectorTargets(at.Hostname(), addresses, port)
	granted := slices.ContainsFunc(targets, p.grantsAlone)
	if isHere(at.Hostname(), addresses, own) {
		targets = append(targets, hereTargets(own, port)...)
	}
	if granted {
		p.Collector = at.Host
		p.Coverage = append(slices.Clone(p.Coverage), "records that the command sends to the collector of its log, "+at.Host+", which the policy grants: they are not this run's events")
		return p
	}
	p.Denials = slices.Clone(p.Denials)
	for _, r := range targets {
		same := func(d profiles.Denial) bool { return d.Target() == r.Target() && slices.Equal(d.Ports, r.Ports) }
		if !slices.ContainsFunc(p.Denials, same) {
			p.Denials = append(p.Denials, profiles.Denial{Rule: r, Reason: reasonCollector})
		}
	}
	return p
}

// collectorTargets are what rules can call a collector.
func collectorTargets(host string, addresses []netip.Addr, port uint16) (targets []profiles.Rule) {
	literal, err := netip.ParseAddr(host)
	if err == nil {
		addresses = []netip.Addr{literal}
	} else if r, err := profiles.ParseRule(host + ":" + strconv.Itoa(int(port))); err == nil { // no rule grants localhost and the like by name
		targets = append(targets, r)
	}
	for _, addr := range addresses {
		if addr != literal && !isNear(addr.Unmap()) {
			continue
		}
		if addr = addr.Unmap().WithZone(""); addr.IsUnspecified() {
			addr = loopbackOf(addr)
		}
		targets = append(targets, profiles.Rule{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Ports: []profiles.PortRange{{First: port, Last: port}}})
	}
	return targets
}

// isHere tells whether a collector is on this machine.
func isHere(host string, addresses, own []netip.Addr) bool {
	if literal, err := netip.ParseAddr(host); err == nil {
		addresses = []netip.Addr{literal}
	}
	return slices.ContainsFunc(addresses, func(a netip.Addr) bool {
		a = a.Unmap().WithZone("")
		return a.IsLoopback() || a.IsUnspecified() || slices.Contains(own, a)
	})
}

// hereTargets are a port on all addresses of this machine. Every one of 127.0.0.0/8 leads to a socket that listens on 0.0.0.0 (ip(7)).
func hereTargets(own []netip.Addr, port uint16) (targets []profiles.Rule) {
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.PrefixFrom(netip.IPv6Loopback(), 128)}
	for _, addr := range own {
		if !addr.IsLoopback() {
			here = append(here, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	for _, prefix := range here {
		targets = append(targets, profiles.Rule{Prefix: prefix, Ports: []profiles.PortRange{{First: port, Last: port}}})
	}
	return targets
}

// grantsAlone tells whether a rule of the plan is about one host and one port, and that is the target.
func (p Plan) grantsAlone(target profiles.Rule) bool {
	port := target.Ports[0]
	if target.Prefix.IsValid() && target.Prefix.Addr().IsLoopback() && slices.Contains(p.Loopback, port.First) {
		return true
	}
	return slices.ContainsFunc(p.Rules, func(r profiles.Rule) bool {
		return r.Host == target.Host && !r.Suffix && r.Prefix == target.Prefix && slices.Contains(r.Ports, port)
	})
}

// dialsCollector refuses what the collector's requests are not to go to, by the address that is dialed: a name may lead elsewhere by then.
func dialsCollector(scheme string, published []uint16) func(netip.AddrPort) error {
	return func(at netip.AddrPort) error {
		addr := at.Addr().Unmap()
		switch {
		case (addr.IsLoopback() || addr.IsUnspecified()) && slices.Contains(published, at.Port()):
			return fmt.Errorf("port %d of this machine leads into the run (--publish), which would get its own log; choose another", at.Port())
		case scheme == "http" && !isNear(addr):
			return errors.New("plain http would show the log, and headers with it, to everybody on the way to " + addr.String() + "; use https")
		}
		return nil
	}
}

// sharedSpace is that of carriers' own networks (RFC 6598), which overlay networks use, too.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// isNear tells whether an address is this machine's alone, or of a network that is not the public one. The kernel takes the unspecified
// address for loopback (ip(7)).
func isNear(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsUnspecified() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || sharedSpace.Contains(addr)
}

func loopbackOf(unspecified netip.Addr) netip.Addr {
	if unspecified.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

func collectorPort(at *url.URL) uint16 {
	if port, err := strconv.ParseUint(at.Port(), 10, 16); err == nil {
		return uint16(port)
	}
	if at.Scheme == "http" {
		return 80
	}
	return 443
}
