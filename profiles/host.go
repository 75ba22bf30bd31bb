// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Bounds of RFC 1035 section 2.3.4, in the text form without a trailing dot.
const (
	maxHostLen  = 253
	maxLabelLen = 63
)

// parseGranted is parseHost for what is granted: that must not be all names below
// a public suffix. A denial may be as wide as its author likes.
func parseGranted(s string) (host string, suffix bool, err error) {
	host, suffix, err = parseHost(s)
	if err == nil && suffix && isPublicSuffix(strings.Split(host, ".")) {
		return "", false, errorf("host %s covers a whole public suffix: name the domain, as in *.example.com", show(s))
	}
	return host, suffix, err
}

// parseHost reads a host name or "*." and one, and returns it in canonical
// form: lower case, A-labels, no trailing dot. What is not a plain host name is
// refused, with a hint at what was probably meant.
func parseHost(s string) (host string, suffix bool, err error) {
	if err := refuseURLParts(s); err != nil {
		return "", false, err
	}
	host, suffix = strings.CutPrefix(s, "*.")
	if strings.Contains(host, "*") || suffix && host == "" {
		return "", false, errorf("host %s: a wildcard stands only for the names below a domain: *.example.com", show(s))
	}
	host, err = canonicalHost(host)
	if err != nil {
		return "", false, err
	}
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	switch {
	case isNumeric(last):
		// Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses; so does
		// the host parser of the WHATWG URL standard ("ends in a number").
		return "", false, errorf("host %s would be read as an address: use cidr, with the address in its full form", show(s))
	case last == "localhost":
		return "", false, errorf("host %s is the machine's own loopback: to allow a port, list it under network.loopback, or give --allow-net 127.0.0.1:PORT; to deny some, use cidr: 127.0.0.0/8", show(s))
	}
	return host, suffix, nil
}

// refuseURLParts names the part of a URL that a host rule cannot have.
func refuseURLParts(s string) error {
	switch {
	case s == "":
		return errorf("host is empty")
	case strings.Contains(s, "://"):
		return errorf("host %s: write the name alone, without a scheme", show(s))
	case strings.ContainsAny(s, "/?#"):
		return errorf("host %s: write the name alone, without a path (a range of addresses goes under cidr)", show(s))
	case strings.Contains(s, "@"):
		return errorf("host %s: write the name alone, without a user", show(s))
	case strings.ContainsAny(s, ":[]"):
		return errorf("host %s: write the name alone; ports go under ports, addresses under cidr", show(s))
	}
	return nil
}

// canonicalHost returns the A-label form of a name. Letters may be in any case
// and one trailing dot is dropped, as everywhere in DNS. Characters that IDNA
// would silently map to others (full-width digits, circled letters) are
// refused: who reads the policy must see the name that is granted.
func canonicalHost(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	ascii := name
	if !isASCII(name) || strings.Contains("."+name, ".xn--") {
		var err error
		if ascii, err = idna.Registration.ToASCII(name); err != nil {
			return "", errorf("host %s is not a valid international name", show(s))
		}
	}
	if len(ascii) > maxHostLen {
		return "", errorf("host %s is longer than %d characters", show(s), maxHostLen)
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if !isLabel(label) {
			return "", errorf("host %s is not a host name: labels have 1 to %d letters, digits and inner hyphens",
				show(s), maxLabelLen)
		}
	}
	return ascii, nil
}

// isLabel is the letter-digit-hyphen rule of RFC 1123 section 2.1, in lower case.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabelLen || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isNumeric tells a label that a lenient parser of IPv4 addresses takes for a
// number: digits, or 0x and hexadecimal digits.
func isNumeric(label string) bool {
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// registryLabels are the second-level labels under which the registries of
// country domains let unrelated parties register names, as in co.uk.
var registryLabels = []string{
	"ac", "asn", "co", "com", "edu", "go", "gob", "gouv", "gov", "gv", "id",
	"info", "ltd", "mil", "ne", "net", "nom", "or", "org", "plc", "sch",
}

// isPublicSuffix tells a name under which unrelated parties register names: a
// single label, or one of registryLabels in a country's domain. It is a guard
// against a slip, not the public suffix list: that changes weekly, and its
// domains of a single owner (github.io) may well be granted.
func isPublicSuffix(labels []string) bool {
	switch len(labels) {
	case 1:
		return true
	case 2:
		return len(labels[1]) == 2 && slices.Contains(registryLabels, labels[0])
	}
	return false
}

// isASCII reports whether s has no byte above 0x7f.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > 0x7f {
			return false
		}
	}
	return true
}
