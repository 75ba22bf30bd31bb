// SPDX-License-Identifier: Apache-2.0

// Package ttyfilter keeps from a terminal what a program can make it do beyond showing text: read or write the clipboard, open
// files, print, run what it is configured to run, or send back text that the next program would take for typing.
//
// The grammar is that of ECMA-48 5th edition, section 5, and of xterm's "Control Sequences". Text, colours, the cursor, the
// alternate screen, the mouse, titles, hyperlinks to the web and sixel images pass. Of control strings (OSC, DCS, APC, PM, SOS) only
// those that are known to be harmless do, since each terminal has its own; a control sequence (CSI) passes unless it is known to
// do harm. A sequence passes whole or not at all.
//
// # Limits
//
// The terminal must take UTF-8, in which a byte from 0x80 to 0x9f alone is no character: where it takes Latin-1, such a byte in the
// middle of a character is a control (C1). The sequences that switch a terminal to another code do not pass. Answers that hold no
// text of the program's choice (the cursor's position, colours, what the terminal is) can still be asked for. A hyperlink can show
// another address than its own, and text can look like anything.
package ttyfilter

import (
	"unicode/utf8"
)

// Bounds of what is kept until it is known whether it passes; what is longer is dropped.
const (
	maxSequence = 256
	maxString   = 4096
	maxTitle    = 256 // of ESC k, which is no control string but to some terminals
)

const (
	enq = 0x05
	bel = 0x07
	can = 0x18
	sub = 0x1a
	esc = 0x1b
	del = 0x7f
)

// Filter filters one stream. The zero Filter is ready.
type Filter struct {
	// Dropped, if set, is called for each sequence that is kept back, with a short name of its kind, such as "OSC 52".
	Dropped func(kind string)

	state func(f *Filter, out []byte, b byte) []byte // nil is ground
	held  []byte                                     // of what has begun
	kind  string                                     // of the string that is read
	long  bool                                       // what is read is longer than is kept
}

// Append appends to out what passes of text, and returns it. What has begun and not ended is kept for the next call.
func (f *Filter) Append(out, text []byte) []byte {
	for len(text) > 0 {
		n := 0
		if f.state == nil {
			n = plain(text)
		}
		if out, text = append(out, text[:n]...), text[n:]; len(text) > 0 {
			out, text = f.step(out, text[0]), text[1:]
		}
	}
	return out
}

// plain is how many bytes a text begins with that mean themselves: most of most texts.
func plain(text []byte) int {
	for i, b := range text {
		if (b < 0x20 || b >= del) && b != '\n' && b != '\r' {
			return i
		}
	}
	return len(text)
}

func (f *Filter) step(out []byte, b byte) []byte {
	if f.state == nil {
		return ground(f, out, b)
	}
	return f.state(f, out, b)
}

// begin starts something that b is the first byte of.
func (f *Filter) begin(state func(*Filter, []byte, byte) []byte, b ...byte) {
	f.state, f.held, f.long = state, append(f.held[:0], b...), false
}

// pass ends what is held, which passes.
func (f *Filter) pass(out []byte) []byte {
	f.state = nil
	return append(out, f.held...)
}

// drop ends what is held, which does not pass.
func (f *Filter) drop(out []byte, kind string) []byte {
	f.state = nil
	f.tell(kind)
	return out
}

func (f *Filter) tell(kind string) {
	if f.Dropped != nil {
		f.Dropped(kind)
	}
}

// hold keeps a byte, if it is not one too many.
func (f *Filter) hold(b byte, most int) {
	if len(f.held) < most {
		f.held = append(f.held, b)
	} else {
		f.long = true
	}
}

// ground is for text and controls.
func ground(f *Filter, out []byte, b byte) []byte {
	switch {
	case b == esc:
		f.begin(escape, b)
		return out
	case b == enq: // has the terminal send its answerback, which some let a program set
		return f.drop(out, "ENQ")
	case b < utf8.RuneSelf:
		return append(out, b)
	case b >= 0xc2 && b <= 0xf4: // the first byte of a character of more than one (RFC 3629, section 4)
		f.begin(character, b)
		return out
	case b < 0xa0:
		return f.drop(out, "C1")
	}
	return append(out, b)
}

// character collects a character of UTF-8. One that is malformed passes without the bytes that could be controls.
func character(f *Filter, out []byte, b byte) []byte {
	if b&0xc0 == 0x80 {
		f.held = append(f.held, b)
		if !utf8.FullRune(f.held) {
			return out
		}
		if r, size := utf8.DecodeRune(f.held); size == len(f.held) {
			if isC1(r) {
				return f.drop(out, "C1")
			}
			return f.pass(out)
		}
	}
	f.state = nil
	for _, held := range f.held {
		if held >= 0xa0 {
			out = append(out, held)
		} else {
			out = f.drop(out, "C1")
		}
	}
	if b&0xc0 == 0x80 {
		return out // it was held
	}
	return f.step(out, b)
}

// isC1 tells a control of ISO/IEC 6429 that has a character of its own.
func isC1(r rune) bool { return r >= 0x80 && r < 0xa0 }

// interrupts handles the bytes that mean the same in the middle of a sequence: the end of it, the beginning of another, or a control
// that is carried out meanwhile. It reports whether b was one.
func (f *Filter) interrupts(out []byte, b byte) ([]byte, bool) {
	switch {
	case b == can || b == sub:
		f.state = nil
		return append(out, b), true
	case b == esc || b >= 0x80:
		f.state = nil
		return f.step(out, b), true
	case b == enq:
		f.tell("ENQ") // and what has begun goes on
		return out, true
	case b < 0x20 || b == del:
		return append(out, b), true
	}
	return out, false
}

// escape is for what follows ESC.
func escape(f *Filter, out []byte, b byte) []byte {
	out, done := f.interrupts(out, b)
	if done {
		return out
	}
	f.hold(b, maxSequence)
	switch b {
	case '[':
		f.state = control
		return out
	case ']':
		f.begin(osc)
		return out
	case 'P':
		f.begin(device)
		return out
	case '_', '^', 'X', 'k': // k names a window of screen's
		f.kind = map[byte]string{'_': "APC", '^': "PM", 'X': "SOS", 'k': "ESC k"}[b]
		f.begin(ignored)
		return out
	}
	if b < 0x30 { // an intermediate byte; the final one follows
		return out
	}
	switch {
	case f.long:
		return f.drop(out, "ESC")
	case f.held[1] == '%' && string(f.held[2:]) != "G": // DOCS of ECMA-35, section 15.4: out of UTF-8, see Limits
		return f.drop(out, "ESC %")
	}
	return f.pass(out)
}
