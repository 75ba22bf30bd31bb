// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"
)

// leastSecret is how long a value is at least that only its name tells;
// leastKey is that of names which often mean something else.
const (
	leastSecret = 4
	leastKey    = 8
)

// flagValue finds the secret of an argument that is the value of the flag
// before it.
func flagValue(flag, arg string) []span {
	if !strings.HasPrefix(flag, "-") || strings.HasPrefix(arg, "-") {
		return nil
	}
	switch flag {
	case "-u", "-U", "--user", "--proxy-user": // of curl and others: user:password
		user, password, _ := strings.Cut(arg, ":")
		if !strings.HasPrefix(password, "//") && strings.Trim(password, "0123456789") != "" && len(password) >= leastSecret {
			return []span{{len(user) + 1, len(arg)}}
		}
	default:
		if isSecretName(flag) && isSecretValue(flag, arg) && !isPath(arg) {
			return []span{{0, len(arg)}}
		}
	}
	return nil
}

// namedSpans finds the values of NAME=VALUE, of a header and of a field of
// JSON, and in the text of a script of --NAME VALUE.
func namedSpans(s string, spans []span) []span {
	words := strings.ContainsAny(s, " \t\n")
	query := strings.IndexAny(s, "?&")
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c != '=' && c != ':' && c != ' ' {
			continue
		}
		name, quoted := nameBefore(s[:i])
		switch {
		case name == "", c == ' ' && (name[0] != '-' || quoted), !isSecretName(name), c == ':' && !quoted && !isHeader(name):
			continue
		}
		from, ends := valueAt(s, i, quoted)
		switch {
		case ends != "": // it says so itself
		case c == '=' && query >= 0 && query < i:
			ends = bare + "#"
		case c == ' ' || words:
			ends = bare
		}
		value := upTo(s[from:min(len(s), from+maxJudged)], ends)
		if !isSecretValue(name, value) || c != ':' && isPath(value) {
			continue
		}
		if len(value) == maxJudged {
			value = upTo(s[from:], ends)
		}
		spans = append(spans, span{from, from + len(value)})
		i = from + len(value) - 1
	}
	return spans
}

// maxJudged is how much of a value says whether it is a secret: an end that is far would be looked for again and again.
const maxJudged = 64

// upTo is a text up to the first of some characters.
func upTo(s, ends string) string {
	if n := strings.IndexAny(s, ends); n >= 0 {
		return s[:n]
	}
	return s
}

const (
	quotes = "\"'\\"
	bare   = " \t\n;|&)" + quotes // what ends a word of a shell
)

// nameBefore is the name that ends a text, and whether it ends with a quote.
func nameBefore(s string) (name string, quoted bool) {
	plain := strings.TrimRight(s, quotes)
	before := strings.TrimRightFunc(plain, func(r rune) bool { return !notToken(r) })
	return plain[len(before):], len(plain) < len(s)
}

// valueAt is where the value begins whose name ends at a separator, and what
// ends it, where the value or its separator says so.
func valueAt(s string, separator int, quoted bool) (from int, ends string) {
	from = separator + 1
	if s[separator] != '=' {
		from += len(s[from:]) - len(strings.TrimLeft(s[from:], " \t"))
	}
	opening := len(s[from:]) - len(strings.TrimLeft(s[from:], quotes))
	switch {
	case opening > 0:
		ends = quotes
	case s[separator] == ':' && quoted: // a number, say
		ends = bare + ",}"
	case s[separator] == ':':
		ends = "\n" + quotes
	}
	return from + opening, ends
}

// isHeader tells the names of HTTP headers that hold credentials from what
// else stands before a colon.
func isHeader(name string) bool {
	upper := strings.ToUpper(name)
	return strings.Contains(name, "-") || strings.HasSuffix(upper, "COOKIE") || hasSecretEnd(upper)
}

// weakWords are those of names that often mean something else.
var weakWords = []string{"AUTH", "COOKIE", "DSN", "KEY", "KEYS", "PAT", "PRIVATE"}

// signWords end the names of parameters by which an address is signed.
var signWords = []string{"SIG", "SIGNATURE"}

// lastWord is the last word of a name, in capitals.
func lastWord(name string) string {
	name = strings.TrimRight(name, "_-.")
	return strings.ToUpper(name[strings.LastIndexAny(name, "_-.")+1:])
}

// isSecretName judges a name by its last word: PASSWORD_FILE is none.
func isSecretName(name string) bool {
	last := lastWord(name)
	return slices.Contains(signWords, last) || isSecretWord(last, "")
}

// isSecretValue judges the value of such a name. What is a variable of a shell
// is another name.
func isSecretValue(name, value string) bool {
	name = strings.TrimLeft(name, "-")
	if len(value) < leastSecret || value[0] == '$' || value[0] == '%' {
		return false
	}
	last := lastWord(name)
	switch {
	case slices.Contains(weakWords, last):
		return len(value) >= leastKey && (len(last) < len(name) || mixed(value))
	case slices.Contains(signWords, last):
		return mixed(value)
	}
	return secretName(name, value)
}

// isPath tells the path of a file, which is no secret.
func isPath(s string) bool {
	return strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || strings.HasPrefix(s, "~/") ||
		strings.HasPrefix(s, "/") && strings.Count(s, "/") > 1
}
