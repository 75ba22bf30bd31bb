// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// redacted stands in the place of what RedactArgs has taken out.
const redacted = "***"

// RedactArgs takes out of a command line what looks like a credential: tokens
// of well-known services (their beginning, which says whose they are, stays),
// private keys, passwords in URLs, and the value of a flag, a variable, a header
// or a field of JSON that has the name of one. n is how many there were. Like
// LooksSecret it is a guess: a password without such a name stays, and so does
// a variable's name (--token "$TOKEN") or a path to a file.
func RedactArgs(args []string) (clean []string, n int) {
	clean = slices.Clone(args)
	for i, arg := range args {
		spans := secretSpans(arg)
		if i > 0 {
			spans = append(spans, flagValue(args[i-1], arg)...)
		}
		found := 0
		clean[i], found = cutOut(arg, spans)
		n += found
	}
	return clean, n
}

// span is a part of a text.
type span struct{ from, to int }

// cutOut puts redacted in the place of each span. Those that overlap are one.
func cutOut(s string, spans []span) (clean string, n int) {
	if len(spans) == 0 {
		return s, 0
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	end := 0 // of what has been written, or left out
	for _, at := range spans {
		if at.from >= end {
			b.WriteString(s[end:at.from])
			b.WriteString(redacted)
			n++
		}
		end = max(end, at.to)
	}
	b.WriteString(s[end:])
	return b.String(), n
}

// secretSpans finds what one argument holds.
func secretSpans(s string) []span {
	var spans []span
	for _, at := range slices.Concat(privateKey().FindAllStringIndex(s, -1), webToken().FindAllStringIndex(s, -1)) {
		spans = append(spans, span{at[0], at[1]})
	}
	spans = userinfoSpans(s, spans)
	spans = tokenSpans(s, spans)
	spans = schemeSpans(s, spans)
	return namedSpans(s, spans)
}

// privateKey is a key in PEM (RFC 7468), as far as it is there.
var privateKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)-----BEGIN (?:-{0,4}[^-])*?-{0,4}PRIVATE KEY(?:.*?-----END .*?-----|.*)`)
})

// webToken is a JSON Web Token (RFC 7519): three parts in base64, of which the
// first is an object, {" in base64 being eyJ.
var webToken = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`eyJ[\w-]{8,}\.[\w-]{11,}\.[\w.-]*`)
})

// userinfo is that of a URL (RFC 3986, section 3.2.1), with the @ behind it.
var userinfo = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`://([^:/?# \t\n"']*)(:[^/?# \t\n"']*)?@`)
})

// userinfoSpans finds the password of scheme://user:password@host, and a lone
// token in the place of the user of an HTTP URL.
func userinfoSpans(s string, spans []span) []span {
	for _, at := range userinfo().FindAllStringSubmatchIndex(s, -1) {
		scheme, from, name, to := s[:at[0]], at[2], at[3], at[1]-1
		switch {
		case to > name+1:
			spans = append(spans, span{name + 1, to})
		case to > from && (strings.HasSuffix(scheme, "http") || strings.HasSuffix(scheme, "https")):
			spans = append(spans, span{from, to})
		}
	}
	return spans
}

// tokenSpans finds tokens of well-known services.
func tokenSpans(s string, spans []span) []span {
	if !mixed(s) { // as most arguments are not: each command line is looked through
		return spans
	}
	for _, p := range secretPrefixes {
		for at := 0; len(s)-at >= len(p.prefix)+p.least; {
			i := strings.Index(s[at:], p.prefix)
			if i < 0 {
				break
			}
			start := at + i
			at = start + len(p.prefix)
			if start > 0 && !notToken(rune(s[start-1])) && !strings.ContainsRune("-_.", rune(s[start-1])) {
				continue // within a word
			}
			n := tokenLen(s[at:], "")
			if n >= p.least && mixed(s[at:at+n]) {
				spans = append(spans, span{at, at + n})
			}
			at += n
		}
	}
	return spans
}

// schemeSpans finds what follows the name of a scheme of HTTP authentication,
// and in addresses to which who knows them may post.
func schemeSpans(s string, spans []span) []span {
	for _, scheme := range []string{"Bearer ", "Basic ", "hooks.slack.com/services/", "/api/webhooks/"} {
		for at := 0; ; {
			i := strings.Index(s[at:], scheme)
			if i < 0 {
				break
			}
			at += i + len(scheme)
			head := s[at:min(len(s), at+maxJudged)]
			if n := tokenLen(head, inBase64); n >= leastOfScheme && mixed(head[:n]) {
				n = tokenLen(s[at:], inBase64)
				spans = append(spans, span{at, at + n})
				at += n
			}
		}
	}
	return spans
}

// mixed tells what was made at random from names in small letters, such as
// npm_config_user_agent or sk-learn-contributors.
func mixed(s string) bool { return strings.ContainsAny(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") }
