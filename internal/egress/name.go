// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"math"
	"net/netip"
	"strings"
)

// Bounds of a name, RFC 1035 section 2.3.4. The 253 is 255 octets on the wire, as text.
const (
	maxName  = 253
	maxLabel = 63
)

// A NameError says why a host name was not accepted.
type NameError struct {
	Name string
	Why  string
}

func (e *NameError) Error() string {
	return "host name " + quote(e.Name) + ": " + e.Why
}

// canonicalName returns the one form in which names are compared, dialed and logged: lower case, without the final dot.
// It accepts ASCII letters, digits, hyphens and underscores only. International names travel as A-labels (xn--...) in DNS,
// TLS and HTTP, so that anything else is a mistake or an attempt to be read in two ways. A name that ends in a number is an
// address to the C library (inet_aton(3): 127.1, 0x7f000001) and to browsers, and is refused.
func canonicalName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	why := badCharacter(name) // what is wrong of itself comes before what is too long
	switch {
	case name == "":
		return "", &NameError{s, "is empty"}
	case why != "":
		return "", &NameError{s, why}
	case len(name) > maxName:
		return "", &NameError{s, "is longer than 253 characters"}
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if why := badLabel(label); why != "" {
			return "", &NameError{s, why}
		}
	}
	if isNumber(labels[len(labels)-1]) {
		return "", &NameError{s, "ends in a number: an address must be written in full"}
	}
	return strings.ToLower(name), nil
}

// means tells whether what the agent wrote is a canonical name.
func means(raw, name string) bool {
	got, err := canonicalName(raw)
	return err == nil && got == name
}

// sameAddr tells whether two texts are the same address, without a zone, in its full form.
func sameAddr(a, b string) bool {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err1 == nil && err2 == nil && x.Zone() == "" && x.Unmap() == y.Unmap()
}

// badLabel says what is wrong with the length of one label of a name, or "".
func badLabel(label string) string {
	switch {
	case label == "":
		return "has an empty label"
	case len(label) > maxLabel:
		return "has a label longer than 63 characters"
	}
	return ""
}

// badCharacter says what is wrong with the characters of a name, or "".
func badCharacter(name string) string {
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		case c >= 0x80:
			return "has characters outside ASCII: write it as an A-label (xn--...)"
		default:
			return "has a character that no host name has"
		}
	}
	return ""
}

// isNumber reports whether label would be read as a number where addresses are parsed: decimal, octal or hexadecimal.
func isNumber(label string) bool {
	digits, hex := label, false
	if len(label) >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X') {
		digits, hex = label[2:], true
	}
	for _, c := range []byte(digits) {
		isHex := c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if !(c >= '0' && c <= '9') && !(hex && isHex) {
			return false
		}
	}
	return true
}

// machineName is what a run takes its machine to be called. Programs that look their own host up by one family alone, which
// /etc/hosts may not have, ask the DNS for it.
const machineName = "agentjail"

// isLocal reports whether a canonical name means the machine itself: RFC 6761 section 6.3, the names that Debian and
// Fedora put into /etc/hosts, and machineName.
func isLocal(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "localhost6", "localhost4", "ip6-localhost", "ip6-loopback",
		"localhost6.localdomain6", "localhost4.localdomain4", machineName:
		return true
	}
	return strings.HasSuffix(name, ".localhost")
}

// Bounds above which a name is taken for data. Entropy is looked at in denied names only, where a mistake costs nothing:
// below allowed wildcards there are honest names made of content hashes (CDNs, object stores).
const (
	maxFree       = 128 // characters, of a denied name or below a wildcard
	maxRandom     = 32  // characters of a label from which on its entropy means something
	randomEntropy = 3.7 // bits for each character
)

// carriesData reports whether a denied name is too long to be a name, or looks like encoded data.
func carriesData(name string) bool {
	if len(name) > maxFree {
		return true
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) >= maxRandom && entropy(label) > randomEntropy {
			return true
		}
	}
	return false
}

// entropy is the Shannon entropy of s in bits for each byte.
func entropy(s string) float64 {
	var counts [256]int
	for _, c := range []byte(s) {
		counts[c]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
