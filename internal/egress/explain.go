// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/agentjail/agentjail/profiles"
)

// Explanation is what the gateway would make of a destination, and why.
type Explanation struct {
	Asked     string   `json:"asked"`
	Canonical string   `json:"canonical,omitempty"` // the name or address that is judged; empty where the text is none
	Port      uint16   `json:"port,omitempty"`
	Class     string   `json:"class,omitempty"` // of an address's special range
	Allow     bool     `json:"allow"`
	Rule      string   `json:"rule,omitempty"`  // that allows it, or came closest
	From      []string `json:"from,omitempty"`  // where that was written; for the caller to fill in
	Proxy     string   `json:"proxy,omitempty"` // of the caller's network, through which it is reached: host and port
	Reason    string   `json:"reason"`
	Then      []string `json:"then,omitempty"`    // what happens
	Events    []string `json:"events,omitempty"`  // action and decision of each that a connection makes
	Answers   []Answer `json:"answers,omitempty"` // of an allowed name, where it was resolved
	Fix       string   `json:"fix,omitempty"`

	upstream upstream
	// narrow and inspected say that the rules grant some HTTP requests alone, and that TLS is inspected.
	narrow, inspected bool
}

// Answer is an address of an allowed name, and whether it would be dialed.
type Answer struct {
	Addr    netip.Addr `json:"addr"`
	Refused string     `json:"refused,omitempty"`
}

// defaultPort is that of a destination that names none, as of a rule.
const defaultPort = 443

// Explain says what would become of a connection to HOST[:PORT], [IPv6][:PORT] or an IPv6 address. It decides as the gateway does,
// and is pure: what an allowed name resolves to, only a run or Resolve finds out.
func Explain(access Access, proxies profiles.Upstream, text string) Explanation {
	e := Explanation{Asked: text, upstream: newUpstream(proxies)}
	host, port, err := splitTarget(text, defaultPort)
	if err != nil {
		e.Reason = err.Error()
		return e
	}
	e.Port = port
	switch a, err := netip.ParseAddr(host); {
	case host == "":
		e.Reason = (&NameError{host, "is empty"}).Error()
		return e
	case err == nil && a.Zone() != "": // a run has no interface but its loopback
		e.Reason = Decide(access, "", a, port).Reason
		return e
	case netip.AddrPortFrom(a.Unmap(), port) == proxyAddr:
		e.proxy(access.Proxy)
		return e
	case err == nil:
		e.decided(access, Decide(access, "", a, port))
		return e
	}
	if r, err := profiles.ParseRule(host); err == nil && r.Host != "" && !r.Suffix && strings.ContainsFunc(host, beyond) {
		// Programs ask for an international name in this form alone.
		host = r.Host
	}
	e.decided(access, Decide(access, host, netip.Addr{}, port))
	if e.Canonical == "" && isNumber(host[strings.LastIndex(host, ".")+1:]) {
		e.Then = append(e.Then, "a program that takes it for an address connects to that: ask about the address in full")
	}
	return e
}

// proxy explains the address of the explicit proxy.
func (e *Explanation) proxy(on bool) {
	e.Canonical, e.Allow = proxyAddr.Addr().String(), on
	if !on {
		e.Reason, e.Fix, e.Events = "the address of the proxy inside, which the policy does not ask for", "--proxy", []string{actionConnect + " deny"}
		e.Then = []string{"the connection is reset"}
		return
	}
	e.Reason = "the proxy inside"
	e.Then = []string{"what is asked of it is judged, and recorded, as a connection to the same destination is: ask about that"}
}

func beyond(r rune) bool { return r >= 0x80 }

// decided takes over a decision, with what follows from it.
func (e *Explanation) decided(access Access, d Decision) {
	e.Allow, e.Rule, e.Reason, e.Fix = d.Allow, d.Rule, d.Reason, d.Fix
	rules := access.rulesFor(d.Name, e.Port)
	e.narrow, e.inspected = narrow(rules), inspects(rules)
	verdict := map[bool]string{true: " allow", false: " deny"}
	_, known := access.ruleForQuery(d.Name) // perhaps for another port
	connect, query := actionConnect+verdict[d.Allow], actionQuery+verdict[known]
	switch {
	case d.Addr.IsValid():
		e.Canonical, e.Events = d.Addr.String(), []string{connect}
		if r, ok := special(d.Addr); ok {
			e.Class = r.class
		}
	case d.Name == "": // no name, and no address that can be asked for
		e.Events = []string{query}
		e.Then = []string{"nothing is looked up, and nothing is dialed"}
		return
	case e.Port == dnsPort:
		e.Canonical, e.Events = d.Name, []string{actionQuery}
	case d.Loopback || isLocal(d.Name):
		e.Canonical, e.Events = d.Name, []string{connect}
	default:
		e.Canonical, e.Events = d.Name, []string{query, connect}
	}
	if (e.narrow || e.inspected) && d.Allow {
		e.Events = append(e.Events, actionRequest)
	}
	if d.Allow && !d.Loopback && e.Port != dnsPort {
		e.Proxy = e.upstream.host(target(d.Name, netip.AddrPortFrom(d.Addr, e.Port)), e.Port == 80)
	}
	e.Then = e.follows(d)
}

// follows says what happens to the connection; see the package comment.
func (e *Explanation) follows(d Decision) []string {
	const tcp = "over TCP alone: UDP, and with it HTTP/3, is refused"
	switch {
	case e.Port == dnsPort:
		return []string{"port 53 is answered by the gateway itself, whatever the rules say"}
	case !d.Allow && d.Name != "" && !isLocal(d.Name):
		return []string{
			"no query leaves this machine: the name gets an address of the run's own",
			"a connection is told why: plain HTTP by a 403, TLS by the alert access_denied; others are reset",
		}
	case !d.Allow:
		return []string{"the connection is reset"}
	case d.Loopback:
		return []string{"where nothing in the run listens on the port, that of this machine's loopback is connected"}
	case d.Addr.IsValid():
		return []string{"the address is connected, whatever is sent", tcp}
	case e.Proxy != "":
		return append(e.first(), "the proxy resolves the name", tcp)
	}
	return append(e.first(), "what the name resolves to is checked: an address of a special range needs a rule of its own", tcp)
}

// first says what a client must send first to an allowed name.
func (e *Explanation) first() (lines []string) {
	if e.inspected {
		lines = append(lines, "TLS is inspected: programs see a certificate of this run, and servers are verified here")
	}
	switch {
	case e.narrow:
		return append(lines, "HTTP requests alone, and of them what the rule grants; the others are told why by a 403")
	case e.inspected:
		return append(lines, "HTTP requests alone, each of which must name this host")
	case e.Port == 80 || e.Port == 443:
		return []string{"what is sent first must be TLS or HTTP, and name this host"}
	}
	return []string{"TLS and HTTP must name this host, other protocols are passed on"}
}

// Resolve asks this machine's resolver, as the gateway does, for the addresses of an allowed name, and judges them. What is no
// allowed name stays as it is.
func Resolve(ctx context.Context, access Access, e Explanation) (Explanation, error) {
	if len(e.Events) < 2 || !e.Allow {
		return e, nil
	}
	addrs, err := resolveHost(ctx, e.Canonical)
	own, err2 := HostAddrs()
	if err := errors.Join(err, err2); err != nil {
		return e, fmt.Errorf("resolve %s: %w", e.Canonical, err)
	}
	for _, addr := range addrs[:min(len(addrs), maxAnswers)] {
		a := Answer{Addr: addr.Unmap()}
		if _, refused := screen(access, []netip.Addr{addr}, own, e.Port, true); len(refused) > 0 {
			a.Refused = withFix(refused[0].reason, refused[0].fix)
		}
		e.Answers = append(e.Answers, a)
	}
	return e, nil
}

// splitAuthority parts HOST[:PORT] where an IPv6 address has brackets, RFC 3986 section 3.2.
func splitAuthority(text string, fallback uint16) (host string, port uint16, err error) {
	host, port, err = splitTarget(text, fallback)
	if err == nil && strings.Contains(host, ":") && text[0] != '[' {
		err = fmt.Errorf("%s: an IPv6 address stands in brackets", quote(text))
	}
	return host, port, err
}

// CheckTarget says what is wrong with a text that asks about no host or address, such as one with a port that is none.
func CheckTarget(text string) error {
	host, _, err := splitTarget(text, defaultPort)
	if err == nil && host == "" {
		err = &NameError{host, "is empty"}
	}
	return err
}

// splitTarget parts a destination, whose port is fallback where it names none. A port is decimal digits without a sign or leading zero, from 1 to 65535: net.SplitHostPort takes
// 0443 and 65536 as well.
func splitTarget(text string, fallback uint16) (host string, port uint16, err error) {
	rest, bracketed := strings.CutPrefix(text, "[")
	if !bracketed && strings.Count(text, ":") != 1 {
		return text, fallback, nil
	}
	host, tail, _ := strings.Cut(text, ":")
	if bracketed {
		var closed bool
		if host, tail, closed = strings.Cut(rest, "]"); !closed || !strings.Contains(host, ":") {
			return "", 0, fmt.Errorf("%s: brackets are for an IPv6 address", quote(text))
		}
		if tail == "" {
			return host, fallback, nil
		}
		if tail, closed = strings.CutPrefix(tail, ":"); !closed {
			return "", 0, fmt.Errorf("%s: only :PORT may follow the bracket", quote(text))
		}
	}
	n, err := strconv.ParseUint(tail, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != tail {
		return "", 0, fmt.Errorf("%s: %s is not a port: write a number from 1 to 65535", quote(text), quote(tail))
	}
	return host, uint16(n), nil
}

// String is the explanation for people.
func (e Explanation) String() string {
	var b strings.Builder
	verdict := map[bool]string{true: "allowed", false: "refused"}[e.Allow]
	fmt.Fprintf(&b, "%s: %s\n", quote(e.Asked), verdict)
	line := func(key, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", key, text)
		}
	}
	if addr, err := netip.ParseAddr(e.Canonical); err == nil {
		line("judged as", target("", netip.AddrPortFrom(addr, e.Port)))
	} else if e.Canonical != "" {
		line("judged as", target(e.Canonical, netip.AddrPortFrom(addr, e.Port)))
	}
	line("range", e.Class)
	line("why", e.Reason)
	line("through", e.Proxy)
	line("rule", strings.Join(append([]string{e.Rule}, e.From...), ", "))
	for _, then := range e.Then {
		line("then", then)
	}
	for _, a := range e.Answers {
		verdict := "would be dialed"
		if a.Refused != "" {
			verdict = "refused: " + a.Refused
		}
		line("resolves", a.Addr.String()+" "+verdict)
	}
	line("recorded", strings.Join(e.Events, ", "))
	line("to allow", e.Fix)
	return b.String()
}
