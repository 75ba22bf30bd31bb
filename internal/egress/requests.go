// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agentjail/agentjail/profiles"
)

// A request is what rules say something of.
type request struct {
	method string
	target string // origin form or absolute form, as it was sent
	length int64  // of the body; -1 where that is not said
	fields http.Header
}

// Fields by which many frameworks let a client replace the method or the path: Rack, Spring and Express, ASP.NET, IIS and Symfony.
var (
	methodFields = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	pathFields   = []string{"X-Original-Url", "X-Rewrite-Url"}
)

// narrow reports whether any of the rules of one destination narrows the requests that it grants.
func narrow(rules []profiles.Rule) bool {
	return slices.ContainsFunc(rules, func(r profiles.Rule) bool { return r.Requests.Narrow() })
}

// grantRequest returns the rule that grants a request, the one with the largest bound of the body where several do. The error is a
// *headError. It is pure.
func grantRequest(rules []profiles.Rule, r request) (best profiles.Rule, err error) {
	found := false
	for _, rule := range rules {
		if why := unlike(rule.Requests, r); why != nil {
			err = cmp.Or(err, why)
			continue
		}
		if size := rule.Requests.MaxUpload; !found || best.Requests.MaxUpload > 0 && (size == 0 || size > best.Requests.MaxUpload) {
			best, found = rule, true
		}
	}
	if found {
		return best, nil
	}
	if len(rules) > 1 {
		err = denied("none of the %d rules for this host grants it, the first because %v", len(rules), err)
	}
	return rules[0], err
}

func denied(format string, args ...any) error {
	return &headError{actionRequest, http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// unlike says why a rule does not grant a request, nil where it does.
func unlike(grants profiles.Requests, r request) error {
	if len(grants.Methods) > 0 {
		for _, method := range append(overriding(r.fields, methodFields), r.method) {
			if !slices.Contains(grants.Methods, method) {
				return denied("the method %s is not granted, but %s", quote(method), strings.Join(grants.Methods, ", "))
			}
		}
	}
	if len(grants.Paths) > 0 {
		if over := overriding(r.fields, pathFields); len(over) > 0 {
			return denied("a field of the request asks for another path, %s", quote(over[0]))
		}
		readings, err := readPath(r.target)
		if err != nil {
			return err
		}
		for _, parts := range readings {
			if !slices.ContainsFunc(grants.Paths, func(pattern string) bool { return matchPath(pattern, parts) }) {
				return denied("the path is not granted, but %s", shortened(grants.Paths))
			}
		}
	}
	if grants.MaxUpload > 0 && r.length > grants.MaxUpload {
		return tooLong(grants.MaxUpload)
	}
	return nil
}

func tooLong(most int64) error {
	return denied("the body of the request is longer than %s", profiles.FormatSize(most))
}

// overriding are the values of some fields. CGI (RFC 3875 section 4.1.18) and what is built on it, such as WSGI, read an underscore in a
// name as a hyphen.
func overriding(fields http.Header, names []string) (values []string) {
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if slices.Contains(names, http.CanonicalHeaderKey(strings.ReplaceAll(field, "_", "-"))) {
			values = append(values, fields[field]...)
		}
	}
	return values
}

// shortened lists what is granted, as far as a reason has room.
func shortened(paths []string) string {
	const most = 200
	text := strings.Join(paths, ", ")
	if len(text) > most {
		return fmt.Sprintf("%d others, such as %s", len(paths), quote(paths[0]))
	}
	return text
}

// pathOf is the path of a request target.
func pathOf(target string) string {
	if _, rest, absolute := strings.Cut(target, "://"); absolute && target[0] != '/' {
		i := strings.IndexAny(rest, "/?")
		if i < 0 || rest[i] == '?' {
			return "/"
		}
		target = rest[i:]
	}
	path, _, _ := strings.Cut(target, "?")
	return path
}

// readPath returns the parts of the path that a server may see, after its escapes are undone: a slash that is escaped (%2F, as npm sends
// it in @scope%2Fname) parts the path for some servers, and is a character for others. A path that servers are known to read in further
// ways is refused: they differ on . and .., empty parts, backslashes, what follows a semicolon, and what is escaped twice.
func readPath(target string) (readings [][]string, err error) {
	raw := pathOf(target)
	if raw == "" || raw[0] != '/' {
		return nil, denied("the request has no path")
	}
	if strings.ContainsAny(raw, "\\;#") {
		return nil, odd("has a backslash, a semicolon or a #")
	}
	var whole, split []string
	for part := range strings.SplitSeq(raw[1:], "/") {
		plain, err := url.PathUnescape(part)
		switch {
		case err != nil:
			return nil, odd("has a % without two hexadecimal digits")
		case strings.ContainsFunc(plain, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }):
			return nil, odd("has a control character or a backslash")
		case !utf8.ValidString(plain):
			return nil, odd("has bytes that are not UTF-8") // some servers take overlong forms of . and / for these
		case isEscaped(plain):
			return nil, odd("has something that is escaped twice")
		case strings.ContainsAny(plain, lookalikes):
			return nil, odd("has a character that is made a dot, slash, backslash, semicolon or percent sign of")
		}
		whole = append(whole, plain)
		split = append(split, strings.Split(plain, "/")...)
	}
	for i, part := range split {
		if name, _, _ := strings.Cut(part, ";"); isDots(name) || part == "" && i < len(split)-1 {
			return nil, odd("has an empty part, or one that is . or ..")
		}
	}
	if len(whole) == len(split) {
		return [][]string{whole}, nil
	}
	return [][]string{whole, split}, nil
}

// lookalikes become a character that parts a path where a server brings it into a normal form (NFKC of Unicode's UAX 15, IDNA), or into a
// code that lacks them (the best fit mappings of Windows).
const lookalikes = "\u2024\u2025\u2026\ufe52\uff0e\u3002\uff61" + "\u2044\u2215\uff0f" + "\u2216\ufe68\uff3c" + "\u037e\ufe54\uff1b" + "\ufe6a\uff05"

// isDots tells a part that is . or .., or is read as one where dots and blanks at its end do not count, as on Windows.
func isDots(part string) bool {
	return part != "" && strings.TrimFunc(part, func(c rune) bool { return c == '.' || unicode.IsSpace(c) }) == ""
}

func odd(what string) error {
	return denied("the path %s: servers read that in different ways", what)
}

// isEscaped tells whether there is still an escape in a text, RFC 3986 section 2.1.
func isEscaped(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && isHex(s[i+1]) && isHex(s[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// matchPath compares the parts of a path with a pattern of profiles.Requests.
func matchPath(pattern string, parts []string) bool {
	want := strings.Split(pattern[1:], "/")
	for i, w := range want {
		switch {
		case i == len(parts):
			return false
		case w == "**" && i == len(want)-1:
			return true
		case !matchPart(w, parts[i]):
			return false
		}
	}
	return len(want) == len(parts)
}

// matchPart compares one part, where * stands for any characters.
func matchPart(pattern, part string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return part == pattern
	}
	part, ok := strings.CutPrefix(part, first)
	if !ok {
		return false
	}
	for {
		var middle string
		if middle, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(part, middle)
		}
		i := strings.Index(part, middle)
		if i < 0 {
			return false
		}
		part = part[i+len(middle):]
	}
}

// Bounds of what an event says of a request.
const (
	maxShownMethod = 32
	maxShownPath   = 1024
)

// requestTarget is the target of an event about a request: its method and address, without the query, where credentials are often sent,
// and without parts of the path that look like one.
func requestTarget(scheme, host, method, target string) string {
	if len(method) > maxShownMethod {
		method = method[:maxShownMethod] + "..."
	}
	path := pathOf(target)
	if len(path) > maxShownPath {
		path = path[:maxShownPath] + "..."
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		plain, err := url.PathUnescape(part)
		if err == nil && profiles.LooksSecret("", plain) {
			parts[i] = "[withheld]"
		}
	}
	return method + " " + scheme + "://" + host + strings.Join(parts, "/")
}
