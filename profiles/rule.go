// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// defaultPort is the port of a rule that names none: HTTPS.
const defaultPort = 443

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// String returns "443" or "8000-8100".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return strconv.Itoa(int(r.First)) + "-" + strconv.Itoa(int(r.Last))
}

// Rule is one grant of network access: a host name, all names below one, or a
// range of addresses, each with its ports. The zero Rule is not valid.
type Rule struct {
	// Host is the name in its canonical form: lower case, A-labels, no
	// trailing dot. Empty if the rule is about addresses.
	Host string
	// Suffix makes the rule about every name below Host, but not Host itself.
	Suffix bool
	// Prefix is the range of addresses, masked; not valid in a rule about a
	// name. IPv4 is never written as a mapped IPv6 address.
	Prefix netip.Prefix
	// Ports is sorted, free of overlaps and never empty.
	Ports []PortRange
	// Requests narrows a rule about a name.
	Requests Requests
}

// ParseRule reads a rule in the form of --allow-net: HOST[:PORT],
// *.HOST[:PORT], CIDR[:PORT], ADDRESS[:PORT] or [IPv6]:PORT, where PORT may be
// a range such as 8000-8100, and is 443 if it is left out. The error is an
// *Error without a position.
func ParseRule(s string) (Rule, error) {
	return parseDestination(s, PortRange{defaultPort, defaultPort}, parseGranted)
}

// parseDestination reads what ParseRule says, with the ports of fallback where
// none is given.
func parseDestination(s string, fallback PortRange, parseHost hostParser) (Rule, error) {
	target, port, err := splitPort(s)
	if err != nil {
		return Rule{}, err
	}
	ports := []PortRange{fallback}
	if port != nil {
		r, err := parsePortRange(*port)
		if err != nil {
			return Rule{}, err
		}
		ports = []PortRange{r}
	}
	if looksLikeAddress(target) {
		prefix, err := parsePrefix(target)
		if err != nil {
			return Rule{}, err
		}
		return Rule{Prefix: prefix, Ports: ports}, nil
	}
	host, suffix, err := parseHost(target)
	if err != nil {
		return Rule{}, err
	}
	return Rule{Host: host, Suffix: suffix, Ports: ports}, nil
}

// hostParser is parseHost or parseGranted.
type hostParser func(string) (host string, suffix bool, err error)

// splitPort parts a rule into its target and the text of its port, nil if
// there is none. An IPv6 target has a port only behind brackets, because
// 2001:db8::1:443 is an address.
func splitPort(s string) (target string, port *string, err error) {
	if strings.Contains(s, "://") {
		return "", nil, errorf("%s: a rule is a host and a port, without a scheme such as https://", show(s))
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		target, tail, ok := strings.Cut(rest, "]")
		if !ok {
			return "", nil, errorf("%s: the closing bracket is missing", show(s))
		}
		if !strings.Contains(target, ":") {
			return "", nil, errorf("%s: brackets are for IPv6 addresses", show(s))
		}
		if tail == "" {
			return target, nil, nil
		}
		tail, ok = strings.CutPrefix(tail, ":")
		if !ok {
			return "", nil, errorf("%s: only :PORT may follow the bracket", show(s))
		}
		return target, &tail, nil
	}
	if strings.Count(s, ":") != 1 {
		return s, nil, nil
	}
	target, tail, _ := strings.Cut(s, ":")
	return target, &tail, nil
}

// looksLikeAddress tells a target that can only be meant as an address or a
// CIDR range from one that is a name. Names with a number as last label are
// neither: parseHost refuses them.
func looksLikeAddress(s string) bool {
	if strings.Contains(s, ":") {
		return true
	}
	addr, _, _ := strings.Cut(s, "/")
	_, err := netip.ParseAddr(addr)
	return err == nil
}

// parsePrefix reads an address or a CIDR range.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return netip.Prefix{}, errorf("%s is not an IP address", show(s))
		case addr.Zone() != "":
			return netip.Prefix{}, errorf("%s: a zone (%%...) cannot be granted", show(s))
		}
		return checkPrefix(netip.PrefixFrom(addr, addr.BitLen()))
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errorf("%s is not a range of addresses such as 10.20.0.0/16", show(s))
	}
	return checkPrefix(prefix)
}

// checkPrefix refuses a range that is not in its one canonical form.
func checkPrefix(p netip.Prefix) (netip.Prefix, error) {
	switch {
	case !p.IsValid():
		return netip.Prefix{}, errorf("the range of addresses is not valid")
	case p.Addr().Zone() != "":
		return netip.Prefix{}, errorf("%s: a zone (%%...) cannot be granted", show(p.String()))
	case p.Addr().Is4In6():
		return netip.Prefix{}, errorf("%s: write an IPv4 address as such, not mapped into IPv6", p)
	case p.Masked() != p:
		return netip.Prefix{}, errorf("%s has address bits behind the prefix: write %s", p, p.Masked())
	}
	return p, nil
}

// parsePortRange reads 443 or 8000-8100.
func parsePortRange(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	lo, ok := parsePort(first)
	if !ok {
		return PortRange{}, errorf("%s is not a port: write a number from 1 to 65535, or a range such as 8000-8100", show(s))
	}
	if !isRange {
		return PortRange{lo, lo}, nil
	}
	hi, ok := parsePort(last)
	if !ok || hi < lo {
		return PortRange{}, errorf("%s is not a range of ports such as 8000-8100", show(s))
	}
	return PortRange{lo, hi}, nil
}

// parsePort accepts decimal digits without sign or leading zero only, so that
// no other reader of the same text can see another port.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

// check refuses a rule that ParseRule would not have made.
func (r Rule) check() error { return r.checkWith(parseGranted) }

func (r Rule) checkWith(parseHost hostParser) error {
	if len(r.Ports) == 0 {
		return errorf("a network rule needs a port")
	}
	for _, p := range r.Ports {
		if p.First == 0 || p.Last < p.First {
			return errorf("%s is not a range of ports", p)
		}
	}
	if err := r.Requests.check(); err != nil {
		return err
	}
	if err := r.checkRequests(); err != nil {
		return err
	}
	if r.Host == "" {
		if r.Suffix {
			return errorf("a network rule for subdomains needs a host")
		}
		_, err := checkPrefix(r.Prefix)
		return err
	}
	if r.Prefix.IsValid() {
		return errorf("a network rule has a host or a range of addresses, not both")
	}
	name := r.Host
	if r.Suffix {
		name = "*." + name
	}
	host, suffix, err := parseHost(name)
	if err != nil {
		return err
	}
	if host != r.Host || suffix != r.Suffix {
		return errorf("host %s is not in its canonical form %s", show(r.Host), show(host))
	}
	return nil
}

// Target returns what the rule is about, without ports: a name, "*.name" or a
// range of addresses.
func (r Rule) Target() string {
	switch {
	case r.Host == "":
		return r.Prefix.String()
	case r.Suffix:
		return "*." + r.Host
	}
	return r.Host
}

// String returns the rule as people write it: target and ports, and what it says of requests.
func (r Rule) String() string {
	target := r.Target()
	if r.Host == "" && r.Prefix.Addr().Is6() {
		target = "[" + target + "]"
	}
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = p.String()
	}
	return strings.TrimSuffix(target+":"+strings.Join(ports, ",")+" "+r.Requests.String(), " ")
}

// mergeRules returns the rules sorted by target, with one rule for each target
// and for what it says of requests, and its ports united. A rule that narrows
// requests goes before one for the same target that does not: that one loses
// the ports of which the other says more. The result shares no memory with the
// arguments.
func mergeRules(lists ...[]Rule) []Rule {
	var out []Rule
	for _, list := range lists {
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b Rule) int {
		return cmp.Or(
			cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.Target(), b.Target()),
			a.Requests.compare(b.Requests),
		)
	})
	merged := out[:0]
	for _, r := range out {
		if last := len(merged) - 1; last >= 0 && merged[last].Target() == r.Target() && merged[last].Requests.compare(r.Requests) == 0 {
			merged[last].Ports = mergePorts(merged[last].Ports, r.Ports)
			continue
		}
		r.Ports = mergePorts(r.Ports)
		merged = append(merged, r)
	}
	return narrowed(merged)
}

// mergePorts unites ranges of ports: sorted, without overlap, neighbours joined.
func mergePorts(lists ...[]PortRange) []PortRange {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	merged := all[:0]
	for _, r := range all {
		if last := len(merged) - 1; last >= 0 && int(r.First) <= int(merged[last].Last)+1 {
			merged[last].Last = max(merged[last].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}
