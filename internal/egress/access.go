// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/agentjail/agentjail/profiles"
)

// Access is what a run may reach. The zero Access is nothing.
type Access struct {
	Rules []profiles.Rule
	// Denials go before Rules and Loopback, however specific those are.
	Denials  []profiles.Denial
	Loopback []uint16 // ports of the host's own loopback
	// Proxy has the gateway answer as an HTTP and SOCKS 5 proxy at profiles.ProxyAddress. It takes no part in the decision.
	Proxy bool
}

// check returns a *RuleError for a rule or denial that is not in canonical form.
func (a Access) check() error {
	for _, r := range a.Rules {
		if why := badRule(r); why != "" {
			return &RuleError{r, why}
		}
	}
	for _, d := range a.Denials {
		if why := badRule(d.Rule); why != "" {
			return &RuleError{d.Rule, why}
		}
	}
	return nil
}

// deniedName returns the denial of a canonical name, the most specific one if there are several. Port 0 stands for all ports: what is
// denied for some alone is not meant then.
func (a Access) deniedName(name string, port uint16) (best profiles.Denial, found bool) {
	for _, d := range a.Denials {
		if !matchName(d.Rule, name) || !denies(d, port) {
			continue
		}
		// What names the host itself is the longest of all that match.
		if !found || goesBefore(len(d.Host)-len(best.Host), best) {
			best, found = d, true
		}
	}
	return best, found
}

// deniedAddr returns the denial of an address, the most specific one if there are several. What is denied of IPv4 is denied by way of a
// translator, too: DNS64 gives every host an address there.
func (a Access) deniedAddr(addr netip.Addr, port uint16) (best profiles.Denial, found bool) {
	inner, _ := nat64(addr)
	for _, d := range a.Denials {
		if !d.Prefix.IsValid() || !d.Prefix.Contains(addr) && !d.Prefix.Contains(inner) || !denies(d, port) {
			continue
		}
		if !found || goesBefore(d.Prefix.Bits()-best.Prefix.Bits(), best) {
			best, found = d, true
		}
	}
	return best, found
}

// goesBefore tells whether a denial that is so much more specific gives the reason instead of other: of two alike the one that has any.
func goesBefore(more int, other profiles.Denial) bool {
	return more > 0 || more == 0 && other.Reason == ""
}

// rulesFor returns the rules by which a connection to port of a canonical name is judged: those of the most specific target that has the
// port, a name before a suffix and a longer suffix before a shorter one. There are several where each grants other requests.
func (a Access) rulesFor(name string, port uint16) (best []profiles.Rule) {
	for _, r := range a.Rules {
		if !matchName(r, name) || !hasPort(r, port) {
			continue
		}
		switch {
		case len(best) == 0 || specific(r) > specific(best[0]):
			best = []profiles.Rule{r}
		case specific(r) == specific(best[0]):
			best = append(best, r)
		}
	}
	return best
}

// specific orders the rules that match one name.
func specific(r profiles.Rule) int {
	if r.Suffix {
		return len(r.Host)
	}
	return maxName + 1
}

// ruleForQuery returns the rule by which a query for a canonical name is answered as one for an allowed name.
func (a Access) ruleForQuery(name string) (profiles.Rule, bool) {
	if _, denied := a.deniedName(name, 0); denied {
		return profiles.Rule{}, false
	}
	return ruleForName(a.Rules, name)
}

func denies(d profiles.Denial, port uint16) bool {
	if port == 0 {
		return d.Everything()
	}
	return hasPort(d.Rule, port)
}

// denialReason says for people that a destination is denied. The policy's text is one line that shows as it is.
func denialReason(what string, d profiles.Denial) string {
	return fmt.Sprintf("%s is denied by the policy: %s", what, cmp.Or(d.Reason, "no reason is given"))
}
