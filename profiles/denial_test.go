// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"fmt"
	"strings"
	"testing"
)

func TestDenials(t *testing.T) {
	p := parse(t, `version: 1
network:
  allow: [{host: a.example}]
  deny:
    - {host: "*.B.example.", reason: "use c.example: it is \"new\" (größer)"}
    - {cidr: 10.1.0.0/16, ports: [22, "80-90"]}
    - {host: a.example}
    - {host: a.example, ports: [22], reason: other}
`)
	var got []string
	for _, d := range p.Denials() {
		got = append(got, fmt.Sprintf("%s %t %s", d, d.Everything(), d.Reason))
	}
	want := []string{
		"deny 10.1.0.0/16:22,80-90 false ", "deny a.example true ", "deny a.example:22 false other",
		`deny *.b.example true use c.example: it is "new" (größer)`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	readsBack(t, p)
	if origins := p.Origins("deny", "*.b.example"); len(origins) != 1 || origins[0].Line != 5 {
		t.Errorf("origins %v", origins)
	}

	// Layers are united, in either order, and a rule of a later one takes nothing back.
	over := parse(t, "version: 1\nnetwork: {allow: [{host: x.b.example}], deny: [{cidr: 10.1.0.0/16, ports: [23]}, {host: a.example}]}\n")
	both := p.With(over)
	if len(both.Denials()) != 4 || both.Denials()[0].String() != "deny 10.1.0.0/16:22-23,80-90" {
		t.Errorf("united: %v", both.Denials())
	}
	if both.Digest() != over.With(p).Digest() {
		t.Error("the order of layers makes a difference")
	}
	if p.Digest() == p.With(over).Digest() {
		t.Error("the digest does not tell them apart")
	}
	readsBack(t, both)
	if len((Policy{}).Denials()) != 0 {
		t.Error("the zero policy denies by rule")
	}
}

func TestDenialErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{host: a, cidr: 10.0.0.0/8}":                         "a rule of network.deny needs host or cidr, and not both",
		"{reason: x}":                                         "a rule of network.deny needs host or cidr, and not both",
		"{host: a, why: x}":                                   `unknown key "why": a rule of network.deny has host, cidr, ports, reason`,
		"{host: a, ports: []}":                                "ports is empty and would match nothing",
		`{host: "127.1"}`:                                     "would be read as an address",
		"{host: localhost}":                                   "to deny some, use cidr: 127.0.0.0/8",
		"{host: a, reason: 1}":                                "a string is needed",
		`{host: a, reason: ""}`:                               "the reason is empty",
		`{host: a, reason: " x"}`:                             "begins or ends with a blank",
		`{host: a, reason: "x\ny"}`:                           "a character that does not show",
		`{host: a, reason: "x\u202ey"}`:                       "a character that does not show",
		`{host: a, reason: "x\u0007"}`:                        "a character that does not show",
		"{host: a, reason: " + strings.Repeat("x", 301) + "}": "longer than 300 bytes",
	} {
		_, err := Parse("p.yaml", []byte("version: 1\nnetwork: {deny: ["+text+"]}\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p.yaml:2:") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	// A rule of allow has no reason.
	if _, err := Parse("p.yaml", []byte("version: 1\nnetwork: {allow: [{host: a, reason: x}]}\n")); err == nil {
		t.Error("a reason of a grant was accepted")
	}
}

// TestParseDenial: what a flag says is what a file says, and a denial may be as wide as no grant can be.
func TestParseDenial(t *testing.T) {
	for text, want := range map[string]string{
		"A.Example.":             "deny a.example ",
		"*.com":                  "deny *.com ",
		"*.co.uk:443=no shops":   "deny *.co.uk:443 no shops",
		"10.0.0.0/8:22-23=a=b":   "deny 10.0.0.0/8:22-23 a=b",
		"[::1]:80=x":             "deny [::1/128]:80 x",
		"0.0.0.0/0=nothing, you": "deny 0.0.0.0/0 nothing, you",
	} {
		d, err := ParseDenial(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		p, err := Policy{}.WithDeny(d)
		if got := d.String() + " " + d.Reason; got != want || err != nil || p.Denials()[0].String() != d.String() {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
		readsBack(t, p)
		if origins := p.Origins("deny", d.Target()); len(origins) != 1 {
			t.Errorf("%s: origins %v", text, origins)
		}
	}
	for text, want := range map[string]string{
		"": "host is empty", "=x": "host is empty", "a=": "the reason is empty", "a= x": "begins or ends with a blank", "a=x\ty": "a character that does not show",
		"a:0": "is not a port", "127.1": "would be read as an address", "http://a": "without a scheme", "*": "a wildcard stands only",
	} {
		if d, err := ParseDenial(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", text, d, err, want)
		}
	}
	for _, d := range []Denial{{}, {Rule: Rule{Host: "A", Ports: []PortRange{everyPort}}}, {Rule: Rule{Host: "a", Ports: []PortRange{everyPort}}, Reason: "x\n"}} {
		if _, err := (Policy{}).WithDeny(d); err == nil {
			t.Errorf("accepted: %+v", d)
		}
	}
}
