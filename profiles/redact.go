// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"
)

// Redacted stands in the place of what RedactArgs has taken out, which is seldom
// shorter.
const Redacted = "***"

// leastSecret is how long a value is at least that only its name tells;
// leastKey is that of names which often mean something else.
const (
	leastSecret = 4
	leastKey    = 8
)

// RedactArgs takes out of a command line what looks like a credential: tokens
// of well-known services (their beginning, which says whose they are, stays),
// private keys, passwords in URLs, and what a flag, a variable, a header or a
// field of JSON is that has the name of one. n is how many there were. Like
// LooksSecret it is a guess: a password without such a name stays, and so does
// a variable's name (--token "$TOKEN") or a path to a file.
func RedactArgs(args []string) (clean []string, n int) {
	clean = args
	for i, arg := range args {
		if len(arg) < leastSecret {
			continue
		}
		spans := secretSpans(arg)
		if i > 0 {
			spans = append(spans, flagValue(args[i-1], arg)...)
		}
		if len(spans) == 0 {
			continue
		}
		if n == 0 {
			clean = slices.Clone(args)
		}
		var found int
		clean[i], found = cutOut(arg, spans)
		n += found
	}
	return clean, n
}

// span is a part of a text.
type span struct{ from, to int }

// cutOut puts Redacted in the place of each span. Those that overlap are one.
func cutOut(s string, spans []span) (clean string, n int) {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	end := 0 // of what has been written, or left out
	for _, at := range spans {
		if at.from >= end {
			b.WriteString(s[end:at.from])
			b.WriteString(Redacted)
			n++
		}
		end = max(end, at.to)
	}
	b.WriteString(s[end:])
	return b.String(), n
}

// secretSpans finds what one argument holds.
func secretSpans(s string) []span {
	spans := keySpans(s, nil)
	spans = userinfoSpans(s, spans)
	spans = tokenSpans(s, spans)
	spans = schemeSpans(s, spans)
	return namedSpans(s, spans)
}

// keySpans finds private keys in PEM (RFC 7468).
func keySpans(s string, spans []span) []span {
	const begin, end, rule = "-----BEGIN ", "-----END ", "-----"
	for at := 0; ; {
		i := strings.Index(s[at:], begin)
		if i < 0 {
			return spans
		}
		from, to := at+i, len(s)
		at = from + len(begin)
		if label, _, _ := strings.Cut(s[at:], rule); !strings.HasSuffix(label, "PRIVATE KEY") && !strings.Contains(label, "PRIVATE KEY ") {
			continue
		}
		if j := strings.Index(s[at:], end); j >= 0 {
			at += j + len(end)
			if k := strings.Index(s[at:], rule); k >= 0 {
				to = at + k + len(rule)
			}
		}
		at = to
		spans = append(spans, span{from, to})
	}
}

// tokenSpans finds tokens of well-known services.
func tokenSpans(s string, spans []span) []span {
	for at := 0; at < len(s); {
		run := tokenRun(s[at:])
		word := s[at : at+run]
		if run < leastToken {
			// most words are
		} else if isJWT(word) {
			spans = append(spans, span{at, at + run})
		} else if from := tokenIn(word); from >= 0 {
			spans = append(spans, span{at + from, at + run})
		}
		at += run + 1
	}
	return spans
}

// leastToken is the length of the shortest of secretPrefixes with what follows.
const leastToken = 15

// tokenBytes are the characters that can be part of a token, tokenStarts the
// first ones of secretPrefixes: each command line is looked through.
var tokenBytes, tokenStarts = func() (all, starts [256]bool) {
	for c := range len(all) {
		all[c] = !notToken(rune(c))
	}
	for _, p := range secretPrefixes {
		starts[p.prefix[0]] = true
	}
	return all, starts
}()

// tokenRun counts the characters of a token at the start of s.
func tokenRun(s string) int {
	n := 0
	for n < len(s) && tokenBytes[s[n]] {
		n++
	}
	return n
}

// tokenIn is where in a run of token characters the secret part of a token
// begins, -1 if there is none.
func tokenIn(word string) int {
	for i := range len(word) {
		if !tokenStarts[word[i]] || i > 0 && word[i-1] != '-' && word[i-1] != '_' && word[i-1] != '.' {
			continue
		}
		for _, p := range secretPrefixes {
			from := i + len(p.prefix)
			if len(word)-from >= p.least && strings.HasPrefix(word[i:], p.prefix) && mixed(word[from:]) {
				return from
			}
		}
	}
	return -1
}

// mixed tells what was made at random from names in small letters, such as
// npm_config_user_agent or sk-learn-contributors.
func mixed(s string) bool {
	for i := range min(len(s), 64) {
		if c := s[i]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
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
			if n := tokenLen(s[at:]); n >= 12 && mixed(s[at:at+n]) {
				spans = append(spans, span{at, at + n})
			}
		}
	}
	return spans
}

// userinfoSpans finds the password of scheme://user:password@host, and a lone
// token in the place of the user of an HTTP URL.
func userinfoSpans(s string, spans []span) []span {
	for at := 0; ; {
		i := strings.Index(s[at:], "://")
		if i < 0 {
			return spans
		}
		scheme, start := s[:at+i], at+i+len("://")
		at = start
		end := len(s)
		if n := strings.IndexAny(s[start:], "/?# \t\n\"'"); n >= 0 {
			end = start + n
		}
		user := strings.LastIndexByte(s[start:end], '@')
		if user <= 0 {
			continue
		}
		name, password, _ := strings.Cut(s[start:start+user], ":")
		switch {
		case password != "":
			spans = append(spans, span{start + len(name) + 1, start + user})
		case strings.HasSuffix(scheme, "http"), strings.HasSuffix(scheme, "https"):
			spans = append(spans, span{start, start + user})
		}
	}
}
