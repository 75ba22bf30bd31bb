// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// maxReason bounds the text of a denial, in bytes: it stands in each event and
// answer.
const maxReason = 300

// everyPort is what a denial is for where it names no port: a default of one
// port would leave the others open.
var everyPort = PortRange{1, 65535}

// Denial takes away what rules grant, whichever layer they are of and however
// specific they are.
type Denial struct {
	// Rule says what is denied, as a rule says what is allowed.
	Rule
	// Reason is for whoever reads the answer to a connection; one line, may be
	// empty.
	Reason string
}

// Everything reports whether the denial is for all ports.
func (d Denial) Everything() bool { return slices.Equal(d.Ports, []PortRange{everyPort}) }

// String returns "deny *.example.com", with the ports where they are not all.
func (d Denial) String() string {
	if d.Everything() {
		return "deny " + d.Target()
	}
	return "deny " + d.Rule.String()
}

// ParseDenial reads a denial in the form of --deny-net: what ParseRule reads, for
// all ports where none is given, and "=" and the reason, which may be left out. The
// error is an *Error without a position.
func ParseDenial(s string) (Denial, error) {
	target, reason, given := strings.Cut(s, "=")
	rule, err := parseDestination(target, everyPort, parseHost)
	if err == nil && given {
		err = checkReason(reason)
	}
	if err != nil {
		return Denial{}, err
	}
	return Denial{Rule: rule, Reason: reason}, nil
}

// check refuses a denial that ParseDenial would not have made.
func (d Denial) check() error {
	if err := d.checkWith(parseHost); err != nil || d.Reason == "" {
		return err
	}
	return checkReason(d.Reason)
}

// mergeDenials returns denials sorted, with one for each target and reason. The
// result shares no memory with the arguments.
func mergeDenials(lists ...[]Denial) []Denial {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b Denial) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Target(), b.Target()), cmp.Compare(a.Reason, b.Reason))
	})
	var merged []Denial
	for _, d := range all {
		if last := len(merged) - 1; last >= 0 && merged[last].Target() == d.Target() && merged[last].Reason == d.Reason {
			merged[last].Ports = mergePorts(merged[last].Ports, d.Ports)
			continue
		}
		d.Ports = mergePorts(d.Ports)
		merged = append(merged, d)
	}
	return merged
}

// checkReason accepts one line of text that shows as it is.
func checkReason(s string) error {
	switch {
	case len(s) > maxReason:
		return errorf("the reason is longer than %d bytes", maxReason)
	case strings.TrimSpace(s) != s || s == "":
		return errorf("the reason is empty, or begins or ends with a blank: leave it out, or write a sentence")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errorf("the reason has a character that does not show: write one line of text")
	}
	return nil
}

// denial reads one entry of network.deny.
func (d *decoder) denial(n ast.Node) error {
	var out Denial
	reason := field{"reason", func(n ast.Node) (err error) {
		if out.Reason, err = d.text(n); err != nil {
			return err
		}
		if err := checkReason(out.Reason); err != nil {
			return d.fail(n, err)
		}
		return nil
	}}
	rule, err := d.destination(n, "deny", everyPort, parseHost, reason)
	if err != nil {
		return err
	}
	out.Rule = rule
	d.layer.denials = append(d.layer.denials, out)
	return nil
}
