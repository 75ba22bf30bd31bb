// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quote turns any bytes into UTF-8 text, from which unquote gets them back: a byte that is not UTF-8 becomes \xNN, and
// backslashes are doubled where they stand before such a form or before text that looks like one.
func quote(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		run := backslashes(s[i:])
		b.WriteString(s[i : i+run])
		i += run
		size, invalid := runeAt(s[i:])
		if invalid || escaped(s[i:]) {
			b.WriteString(s[i-run : i])
		}
		if invalid {
			b.WriteString(hexByte(s[i]))
		} else {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// unquote undoes quote.
func unquote(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		run := backslashes(s[i:])
		next := i + run
		switch {
		case run == 0:
			b.WriteByte(s[i])
			i++
		case !escaped(s[next:]):
			b.WriteString(s[i:next])
			i = next
		default:
			b.WriteString(s[i : i+run/2])
			i = next
			if run%2 == 1 {
				n, _ := strconv.ParseUint(s[next+1:next+3], 16, 8) // escaped has seen two digits
				b.WriteByte(byte(n))
				i = next + 3
			}
		}
	}
	return b.String()
}

func backslashes(s string) int { return len(s) - len(strings.TrimLeft(s, `\`)) }

// escaped tells whether s goes on as an escaped byte does after its backslash. Bytes below 0x80 are always UTF-8.
func escaped(s string) bool {
	return len(s) >= 3 && s[0] == 'x' && strings.IndexByte("89abcdef", s[1]) >= 0 && strings.IndexByte("0123456789abcdef", s[2]) >= 0
}

func runeAt(s string) (size int, invalid bool) {
	r, size := utf8.DecodeRuneInString(s)
	return size, r == utf8.RuneError && size == 1
}

const hexDigits = "0123456789abcdef"

func hexByte(b byte) string { return string([]byte{'\\', 'x', hexDigits[b>>4], hexDigits[b&15]}) }

// asciiJSON appends JSON text as printable ASCII. What is not stands within strings, where an escape means the same.
func asciiJSON(dst, src []byte) []byte {
	for len(src) > 0 {
		r, size := utf8.DecodeRune(src)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, '\\'), hexByte(src[0])...)
		case r >= ' ' && r < 0x7f:
			dst = append(dst, src[0])
		case r > 0xffff:
			r -= 0x10000
			dst = appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
		default:
			dst = appendUnit(dst, r)
		}
		src = src[size:]
	}
	return dst
}

// appendUnit appends one \uNNNN.
func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

// Printable renders bytes from anywhere for a terminal: letters, digits, marks of punctuation and spaces stay; control and
// format characters, text that runs from right to left, invisible characters and bytes that are not UTF-8 are escaped as in
// a Go string. A backslash is doubled, so that an escape cannot be faked.
func Printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(hexByte(s[0]))
		case r == '\\':
			b.WriteString(`\\`)
		case harmless(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// harmless tells whether a terminal shows a rune as itself, where it stands.
func harmless(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r < 0x7f
	}
	if rightToLeft(r) || unicode.In(r, unicode.Mn, unicode.Me, unicode.Other_Default_Ignorable_Code_Point) {
		return false
	}
	return strconv.IsPrint(r) && r != '\u2800' // a braille pattern without dots is a space that is none
}

// rightToLeft tells whether a rune is of the blocks that Unicode sets aside for right-to-left scripts (UAX 9, section 3.1;
// DerivedBidiClass.txt lists them).
func rightToLeft(r rune) bool {
	return r >= 0x0590 && r <= 0x08ff || r >= 0xfb1d && r <= 0xfdff || r >= 0xfe70 && r <= 0xfeff ||
		r >= 0x10800 && r <= 0x10fff || r >= 0x1e800 && r <= 0x1efff
}
