// SPDX-License-Identifier: Apache-2.0

package ttyfilter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// filtered is what passes of a text that comes in pieces of some size, and the kinds of what does not.
func filtered(text string, size int) (string, []string) {
	var out []byte
	var kinds []string
	f := Filter{Dropped: func(kind string) { kinds = append(kinds, kind) }}
	for piece := range slices.Chunk([]byte(text), size) {
		out = f.Append(out, piece)
	}
	return string(out), kinds
}

func TestPasses(t *testing.T) {
	for _, text := range []string{
		"", "plain\r\n\ttext\a\b", "zwölf Boxkämpfer €uro 😀 日本", "latin \xe4\xf6\xfc text", "\x1b[1;31mred\x1b[0m", "\x1b[38;2;1;2;3m\x1b[4:3m",
		"\x1b[?1049h\x1b[?2004h\x1b[?1006h\x1b[2J\x1b[10;20H", "\x1b[6n\x1b[c\x1b[>c\x1b[>q\x1b[?u", "\x1b[18t\x1b[22;0t\x1b[23;0t\x1b[8;24;80t\x1b[t", "\x1b[?25l\x1b[?12;25h\x1b[?1000;1006h\x1b[38h", "\x1b(B\x1b)0\x1b=\x1b>\x1b7\x1b8\x1bM\x1bc\x1b%G",
		"\x1b#8\x1b[!p\x1b[2 q\x1b[1$z", "\x1b]0;a title – with ; in it\x1b\\", "\x1b]11;?\x1b\\", "\x1b]4;1;rgb:00/00/00\x1b\\", "\x1b]133;A\x1b\\",
		"\x1b]8;;https://example.com/x?y=z\x1b\\link\x1b]8;;\x1b\\", "\x1b]8;id=1;mailto:a@b.test\x1b\\", "\x1b]9;4;1;50\x1b\\",
		"\x1bPq#0;2;0;0;0~~@@\n\x1b\\", "\x1bP0;1;0q\"1;1;10;10~\x1b\\after", "\x1bP=1s\x1b\\\x1bP=2s\x1b\\",
	} {
		for size := 1; size < 9; size++ {
			if got, kinds := filtered(text, size); got != text || kinds != nil {
				t.Errorf("in pieces of %d, of %q there is %q; dropped: %q", size, text, got, kinds)
			}
		}
	}
	if got, _ := filtered("\x1b]0;title\aafter", 3); got != "\x1b]0;title\x1b\\after" {
		t.Errorf("a title that a bell ends: %q", got)
	}
}

// Containment check: M05.
func TestDropped(t *testing.T) {
	for text, kind := range map[string]string{
		"\x1b]52;c;cm0gLXJmIC8=\a": "OSC 52", "\x1b]52;c;?\x1b\\": "OSC 52", "\x1b]052;c;?\x1b\\": "OSC 52", "\x1b]50;?\a": "OSC 50", "\x1b]3;X=y\a": "OSC 3",
		"\x1b]1337;File=inline=1:AAAA\a": "OSC 1337", "\x1b]5113;x\a": "OSC 5113", "\x1b]51;E(x)\a": "OSC 51", "\x1b]633;E;x\a": "OSC 633", "\x1b]7;file:///x\a": "OSC 7",
		"\x1b]777;notify;a;b\a": "OSC 777", "\x1b]9;7;cmd\a": "OSC 9", "\x1b]9;message\a": "OSC 9", "\x1b]Lname\x1b\\": "OSC", "\x1b]99999999999999999999;x\a": "OSC",
		"\x1b]8;;file:///etc/passwd\a": "OSC 8", "\x1b]8;;ssh://x\a": "OSC 8", "\x1b]8;;javascript:x\a": "OSC 8",
		"\x1b]0;a\nb\a": "OSC 0", "\x1b]0;a\xc2\x9bb\a": "OSC 0", "\x1b]0;a\x9bb\a": "OSC 0", "\x1b]0;\xff\a": "OSC 0", "\x1b]0;" + strings.Repeat("x", maxString) + "\a": "OSC 0",
		"\x1b[21t": "CSI 21 t", "\x1b[20t": "CSI 20 t", "\x1b[021;1t": "CSI 21 t", "\x1b[21:1t": "CSI t", "\x1b[65557t": "CSI t",
		"\x1b[?38h": "CSI ? 38 h", "\x1b[?25;038h": "CSI ? 38 h", "\x1b[?46h": "CSI ? 46 h", "\x1b[5i": "CSI i", "\x1b[?5i": "CSI i", "\x1b[1;1;1;1;2;2*y": "CSI * y",
		"\x1b[" + strings.Repeat("1;", maxSequence) + "m": "CSI", "\x1b" + strings.Repeat(" ", maxSequence) + "F": "ESC",
		"\x1bP$qm\x1b\\": "DCS", "\x1bP+q544e\x1b\\": "DCS", "\x1bPtmux;\x1b\x1b]52;c;?\a\x1b\\": "DCS", "\x1bP1$r0m\x1b\\": "DCS", "\x1bP0;0|17/6c73\x1b\\": "DCS", "\x1bP\x1b\\": "DCS", "\x1bP\xff\x1b\\": "DCS",
		"\x1b_Gt=t,f=100;L2V0Yy9wYXNzd2Q=\x1b\\": "APC", "\x1b^x\x1b\\": "PM", "\x1bXx\x1b\\": "SOS", "\x1bktitle\x1b\\": "ESC k",
		"\x1b%@\xe2\x9d\x9d52;c;?\a": "ESC %", "\x1b%\b@": "ESC %", "\x1b%/B": "ESC %", "\x1b%8": "ESC %",
		"\x05": "ENQ", "\x9b21t": "C1", "\xc2\x9b21t": "C1", "\x9d52;c;?\x9c": "C1", "\xe2\x9bx": "C1", "\xf0\x90\x9b\x1b[0m": "C1",
	} {
		for size := 1; size < 9; size++ {
			got, kinds := filtered("before"+text+"after", size)
			if len(kinds) == 0 || kinds[0] != kind || !strings.HasPrefix(got, "before") || !strings.HasSuffix(got, "after") {
				t.Errorf("in pieces of %d, of %q there is %q; dropped: %q, want %s", size, text, got, kinds, kind)
			}
			if harms(got) {
				t.Errorf("of %q passes %q", text, got)
			}
		}
	}
}

// harms tells whether a text has what no filtered one may have, in any terminal that takes UTF-8.
func harms(text string) bool {
	for _, bad := range []string{"\x05", "\x1b_", "\x1b^", "\x1bX", "\x1bk", "\x1b]52", "\x1b]052", "\x1bPt", "\x1bP$", "\x1bP+", "\xc2\x9b", "\x1b[21t", "\x1b[?38h", "\x1b[?46h", "\x1b%@", "\x1b%/"} {
		if strings.Contains(text, bad) {
			return true
		}
	}
	return slices.ContainsFunc([]rune(text), isC1)
}

// TestStringsDoNotHide: what ends a string early is no way to have its rest taken for text, or the next sequence for its rest.
// Containment check: M05.
func TestStringsDoNotHide(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b]52;c;x\x1b[31mred":              "\x1b[31mred",
		"\x1b]0;t\x1b]52;c;?\aafter":          "after",
		"\x1b]52;c;x\x18after":                "after",
		"\x1bc\x1b]Rafter":                    "\x1bcafter",
		"\x1b]P0a0A0a0after":                  "after",
		"\x1b]P0a0\x1b\\after":                "after",
		"\x1b]P0a0zafter":                     "after",
		"\x1b_G\x1b_G\x1b\\after":             "after",
		"\x1bPq~~\x1b]52;c;?\aafter":          "\x1bPq~~\x1b\\after",
		"\x1bPq~\x05\x9b~\x1b\\after":         "\x1bPq~~\x1b\\after",
		"\x1b[3\x1b]52;c;?\aafter":            "after",
		"\x1b\x1b]52;c;?\aafter":              "after",
		"\x1b[3\x05" + "1mred":                "\x1b[31mred",
		"\x1bk" + strings.Repeat("x", 300):    strings.Repeat("x", 300-maxTitle-1),
		"\xe2\x1b]52;c;?\aafter":              "\xe2after",
		"\x1b[\x9b1mx":                        "1mx",
		"\x1b[1;\n2H":                         "\n\x1b[1;2H",
		"\x1b[31\x18m":                        "\x18m",
		"\x1b]0;" + strings.Repeat("x", 9000): "",
	} {
		for size := 1; size < 9; size++ {
			if got, _ := filtered(text, size); got != want {
				t.Errorf("in pieces of %d, of %q there is %q, want %q", size, text, got, want)
			}
		}
	}
}

// FuzzFilter: what passes passes again, whole; it does not depend on the pieces; and it cannot harm.
// Containment check: M05.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"\x1b]0;a\x07\x1b[31mx", "\x1bPq~\x1b\\\x1b_G\x1b\\", "\xe2\x9b\x9b\x1b]52;c;?\x07", "\x1bPtmux;\x1b\x1b]0;\x07\x1b\\"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size < 1 || size > 1<<10 {
			return
		}
		once, _ := filtered(text, size)
		if whole, _ := filtered(text, len(text)+1); whole != once {
			t.Fatalf("in pieces of %d %q, whole %q", size, once, whole)
		}
		again, kinds := filtered(once, len(once)+1)
		// What was cut off at the end is not there the second time; nothing else may differ.
		if !strings.HasPrefix(once, again) || kinds != nil {
			t.Fatalf("%q passes as %q, which passes as %q; dropped %q", text, once, again, kinds)
		}
		if harms(once) {
			t.Fatalf("%q passes as %q", text, once)
		}
	})
}

// TestBounded: what never ends takes no memory.
func TestBounded(t *testing.T) {
	for _, begin := range []string{"\x1b]0;", "\x1bP", "\x1b_", "\x1b[", "\x1b "} {
		var f Filter
		f.Append(nil, append([]byte(begin), bytes.Repeat([]byte("1"), 1<<20)...))
		if cap(f.held) > 4*maxString {
			t.Errorf("%q: %d bytes are held", begin, cap(f.held))
		}
	}
}

func BenchmarkText(b *testing.B) {
	text := []byte(strings.Repeat(fmt.Sprintln("\x1b[1mline\x1b[0m of text, with größe"), 100))
	b.SetBytes(int64(len(text)))
	var f Filter
	var out []byte
	for b.Loop() {
		out = f.Append(out[:0], text)
	}
}
