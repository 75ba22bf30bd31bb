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

// Requests narrows a rule about a host to some HTTP requests. The zero Requests
// narrows nothing: whatever is sent is granted.
type Requests struct {
	// Inspect has the gateway read what is in TLS, by an authority of the run's own.
	Inspect bool
	// Methods that are granted, sorted; none stands for all.
	Methods []string
	// Paths that are granted, sorted; none stands for all. In an entry * stands
	// for some characters other than a slash, and a /** at the end for all below.
	Paths []string
	// MaxUpload bounds the body of one request, in bytes; 0 is no bound.
	MaxUpload int64
}

// weight orders rules for one target: of two that have the same port the heavier one counts.
func (r Requests) weight() int {
	switch {
	case r.Narrow():
		return 2
	case r.Inspect:
		return 1
	}
	return 0
}

// inspect is the value of tls.
const inspect = "inspect"

// Narrow reports whether some requests are not granted.
func (r Requests) Narrow() bool { return len(r.Methods)+len(r.Paths) > 0 || r.MaxUpload > 0 }

// plainPort is the port on which HTTP is spoken without TLS, defaultPort the one where it is not.
const plainPort = 80

// checkMethod accepts a method as requests have it: they are compared with case, RFC 9110 section 9.1.
func checkMethod(s string) error {
	if s == "" || len(s) > 32 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return errorf("%s is not a method: write it in capitals, such as GET", show(s))
	}
	if s == "CONNECT" {
		return errorf("CONNECT asks for a tunnel, and is never passed on")
	}
	return nil
}

// checkURLPath accepts a pattern that a path in canonical form can match.
func checkURLPath(s string) error {
	rest, below := strings.CutSuffix(s, "/**")
	switch {
	case !strings.HasPrefix(s, "/"):
		return errorf("path %s must begin with a slash", show(s))
	case strings.ContainsAny(s, "?#"):
		return errorf("path %s: a query is not looked at: leave it out", show(s))
	case strings.ContainsAny(s, "%\\;"):
		return errorf("path %s: write characters as they are, without %%, backslash or semicolon", show(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) || !utf8.ValidString(s):
		return errorf("path %s has a blank, or a character that does not show", show(s))
	case strings.Contains(rest, "**"):
		return errorf("path %s: ** stands at the end alone, for all that is below", show(s))
	case strings.Contains(s, "//"):
		return errorf("path %s has an empty part, which no path that is passed on has", show(s))
	}
	if below && rest == "" {
		return errorf("path %s is every path: leave paths out", show(s))
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "." || part == ".." {
			return errorf("path %s has a part . or .., which no path that is passed on has", show(s))
		}
	}
	return nil
}

// check refuses what a document could not have.
func (r Requests) check() error {
	for _, list := range []struct {
		entries []string
		check   func(string) error
	}{{r.Methods, checkMethod}, {r.Paths, checkURLPath}} {
		for _, entry := range list.entries {
			if err := list.check(entry); err != nil {
				return err
			}
		}
	}
	if r.MaxUpload < 0 {
		return errorf("max_upload is negative")
	}
	return nil
}

// checkRequests refuses a rule that is narrower than can be kept.
func (r Rule) checkRequests() error {
	if r.Requests.weight() == 0 {
		return nil
	}
	if r.Host == "" {
		return errorf("tls, methods, paths and max_upload need a host: what is connected by its address is passed on unread")
	}
	if !r.Requests.Inspect && slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.First <= defaultPort && defaultPort <= p.Last }) {
		return errorf("methods, paths and max_upload cannot be kept on port %d, where TLS hides requests: add tls: inspect, or name the ports of plain HTTP, such as ports: [%d]",
			defaultPort, plainPort)
	}
	return nil
}

// fields reads the keys of a rule that narrow it.
func (r *Requests) fields(d *decoder) []field {
	list := func(key string, out *[]string, check func(string) error) field {
		return field{key, func(n ast.Node) error {
			err := d.list(n, key, func(entry ast.Node) error {
				s, err := d.text(entry)
				if err != nil {
					return err
				}
				if err := check(s); err != nil {
					return d.fail(entry, err)
				}
				*out = append(*out, s)
				return nil
			})
			if err == nil && len(*out) == 0 {
				err = d.fail(n, errorf("%s is empty and would grant nothing: leave it out for all", key))
			}
			*out = unite(*out, nil)
			return err
		}}
	}
	return []field{
		{"tls", func(n ast.Node) error {
			_, err := d.choice(n, "tls", []string{inspect})
			r.Inspect = err == nil
			return err
		}},
		list("methods", &r.Methods, checkMethod),
		list("paths", &r.Paths, checkURLPath),
		d.bound("max_upload", func(s string) (err error) { r.MaxUpload, err = parseBytes(s); return err }),
	}
}

// String is what a rule says of requests, "" where it says nothing.
func (r Requests) String() string {
	var parts []string
	if r.Inspect {
		parts = append(parts, "tls:"+inspect)
	}
	if len(r.Methods) > 0 {
		parts = append(parts, "methods:"+strings.Join(r.Methods, ","))
	}
	if len(r.Paths) > 0 {
		parts = append(parts, "paths:"+strings.Join(r.Paths, ","))
	}
	if r.MaxUpload > 0 {
		parts = append(parts, "max_upload:"+FormatSize(r.MaxUpload))
	}
	return strings.Join(parts, " ")
}

// yaml is the same in the canonical form of a policy, each key with a comma before it.
func (r Requests) yaml() string {
	var b strings.Builder
	if r.Inspect {
		b.WriteString(", tls: " + inspect)
	}
	for _, list := range []struct {
		key     string
		entries []string
	}{{"methods", r.Methods}, {"paths", r.Paths}} {
		for i, entry := range list.entries {
			b.WriteString(map[bool]string{true: ", " + list.key + ": [", false: ", "}[i == 0] + quote(entry))
		}
		if len(list.entries) > 0 {
			b.WriteByte(']')
		}
	}
	if r.MaxUpload > 0 {
		b.WriteString(", max_upload: " + FormatSize(r.MaxUpload))
	}
	return b.String()
}

func (r Requests) compare(o Requests) int {
	return cmp.Or(cmp.Compare(r.weight(), o.weight()), strings.Compare(r.String(), o.String()), slices.Compare(r.Methods, o.Methods), slices.Compare(r.Paths, o.Paths), cmp.Compare(r.MaxUpload, o.MaxUpload))
}

// narrowed takes from each rule the ports of which another one for the same target says more. The rules are sorted by target.
func narrowed(rules []Rule) []Rule {
	out := make([]Rule, 0, len(rules))
	for _, r := range rules {
		for _, o := range rules {
			if o.Target() == r.Target() && o.Requests.weight() > r.Requests.weight() {
				r.Ports = withoutPorts(r.Ports, o.Ports)
			}
		}
		if len(r.Ports) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// withoutPorts takes ports out of ranges.
func withoutPorts(ranges, less []PortRange) (left []PortRange) {
	for _, l := range less {
		left = nil
		for _, r := range ranges {
			if r.First < l.First {
				left = append(left, PortRange{r.First, min(r.Last, l.First-1)})
			}
			if r.Last > l.Last {
				left = append(left, PortRange{max(r.First, l.Last+1), r.Last})
			}
		}
		ranges = left
	}
	return ranges
}
