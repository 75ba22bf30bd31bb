// SPDX-License-Identifier: Apache-2.0

package ttyfilter

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// control is for the inside of a control sequence, CSI.
func control(f *Filter, out []byte, b byte) []byte {
	out, done := f.interrupts(out, b)
	if done {
		return out
	}
	f.hold(b, maxSequence)
	if b < 0x40 {
		return out
	}
	if kind := harmful(f.held[2:]); kind != "" {
		return f.drop(out, kind)
	}
	if f.long {
		return f.drop(out, "CSI")
	}
	return f.pass(out)
}

// harmful names a control sequence that does harm, by what follows CSI; "" for any other.
func harmful(sequence []byte) string {
	final := sequence[len(sequence)-1]
	first, _, _ := strings.Cut(string(sequence[:len(sequence)-1]), ";")
	switch {
	case final == 't' && titleReport(first): // sends the title back, as if it was typed
		if n := number(first); n >= 0 {
			return "CSI " + strconv.Itoa(n) + " t"
		}
		return "CSI t"
	case final == 'h' && sequence[0] == '?': // xterm's DECSET 38 is a Tektronix screen, which can make files; 46 writes one of all that is shown
		for _, mode := range strings.Split(string(sequence[1:len(sequence)-1]), ";") {
			if n := number(mode); n == 38 || n == 46 {
				return "CSI ? " + strconv.Itoa(n) + " h"
			}
		}
	case final == 'y' && bytes.IndexByte(sequence, '*') >= 0: // DECRQCRA: sends back what is on the screen, as sums
		return "CSI * y"
	case final == 'i': // prints
		return "CSI i"
	}
	return ""
}

// titleReport tells the parameters by which a terminal sends its titles back. One with parts of its own, or that is too large, may be read as
// one of them: terminals differ.
func titleReport(parameter string) bool {
	n := number(parameter)
	return n == 20 || n == 21 || n < 0 && strings.Trim(parameter, "0123456789:") == "" && parameter != ""
}

// number is a parameter, -1 if it is none. Leading zeros mean nothing.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// inString handles what ends a control string without its terminator. It reports whether b did.
func (f *Filter) inString(out []byte, b byte) ([]byte, bool) {
	if b == can || b == sub {
		return f.drop(out, f.kind), true
	}
	return out, false
}

// terminated is the state between ESC and the backslash that ends a control string.
func terminated(end func(f *Filter, out []byte) []byte) func(*Filter, []byte, byte) []byte {
	return func(f *Filter, out []byte, b byte) []byte {
		if b == '\\' {
			return end(f, out)
		}
		// ESC ends the string, and begins what follows.
		out = f.drop(out, f.kind)
		f.begin(escape, esc)
		return f.step(out, b)
	}
}

// osc collects an operating system command.
func osc(f *Filter, out []byte, b byte) []byte {
	f.kind = "OSC"
	out, done := f.inString(out, b)
	switch {
	case done:
		return out
	case b == bel:
		return command(f, out)
	case b == esc:
		f.state = terminated(command)
		return out
	}
	f.hold(b, maxString)
	if palette(f.held) {
		return f.drop(out, "OSC "+string(f.held[:1]))
	}
	return out
}

// palette tells a command of the Linux console, which has no terminator: R, and P with seven hexadecimal digits (console_codes(4)).
// Read as others are, it would take what is written after it along.
func palette(command []byte) bool {
	return command[0] == 'R' || command[0] == 'P' && (len(command) == 8 || !isHex(command[len(command)-1]) && len(command) > 1)
}

func isHex(b byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", b) >= 0 }

// command ends an operating system command.
func command(f *Filter, out []byte) []byte {
	text := string(f.held)
	name, rest, _ := strings.Cut(text, ";")
	n := number(name)
	if n >= 0 {
		f.kind = "OSC " + strconv.Itoa(n)
	}
	if f.long || !isText(text) || !harmless(n, rest) {
		return f.drop(out, f.kind)
	}
	f.state = nil
	out = append(out, esc, ']')
	return append(append(out, text...), esc, '\\')
}

// isText tells whether a string has no controls, of which terminals make what they will.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == del || isC1(r) })
}

// harmless tells whether an operating system command does nothing but show something: titles, colours and where a prompt is. Others
// reach the clipboard (52), files (1337 of iTerm2, 5113 of kitty), fonts (50), the X server (3), or the program that the terminal
// is part of (51 of Emacs and Vim, 633 of Visual Studio Code).
func harmless(n int, rest string) bool {
	switch {
	case n >= 0 && n <= 2, n == 4, n == 5, n >= 10 && n <= 19, n == 22, n == 104, n == 105, n >= 110 && n <= 119, n == 133:
		return true
	case n == 8: // parameters ; address
		_, address, _ := strings.Cut(rest, ";")
		lower := strings.ToLower(address)
		return address == "" || strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "mailto:")
	case n == 9: // progress; all else of it is a message, or worse
		return strings.HasPrefix(rest, "4;")
	}
	return false
}

// device collects the beginning of a device control string, DCS, up to its final byte.
func device(f *Filter, out []byte, b byte) []byte {
	f.kind = "DCS"
	out, done := f.inString(out, b)
	switch {
	case done:
		return out
	case b == esc:
		f.state = terminated(dropped)
		return out
	case b < 0x20 || b >= del:
		f.begin(ignored)
		return ignored(f, out, b)
	}
	f.hold(b, maxSequence)
	if b < 0x40 {
		return out
	}
	header := string(f.held)
	if f.long || !isImage(header) && header != "=1s" && header != "=2s" { // the last two hold drawing back, and let it go
		f.begin(ignored)
		return out
	}
	f.state = image
	return append(append(out, esc, 'P'), header...)
}

// isImage tells the beginning of a sixel image.
func isImage(header string) bool { return strings.Trim(header, "0123456789;") == "q" }

// image passes an image on, which is long. It holds printable characters alone; the end is made up where it does not come.
func image(f *Filter, out []byte, b byte) []byte {
	switch {
	case b == can || b == sub || b == bel:
		f.state = nil
		return append(out, esc, '\\')
	case b == esc:
		f.state = imageEnd
		return append(out, esc, '\\')
	case b >= 0x20 && b < del, b == '\n', b == '\r':
		return append(out, b)
	}
	return out
}

// imageEnd is the state after ESC in an image, whose end has been written.
func imageEnd(f *Filter, out []byte, b byte) []byte {
	f.state = nil
	if b == '\\' {
		return out
	}
	f.begin(escape, esc)
	return f.step(out, b)
}

// ignored reads a control string that does not pass, whatever it holds.
func ignored(f *Filter, out []byte, b byte) []byte {
	out, done := f.inString(out, b)
	switch {
	case done:
		return out
	case b == esc:
		f.state = terminated(dropped)
		return out
	}
	if f.hold(b, maxTitle); f.long && f.kind == "ESC k" {
		return f.drop(out, f.kind) // it is none to this terminal, which shows what follows
	}
	return out
}

func dropped(f *Filter, out []byte) []byte { return f.drop(out, f.kind) }
