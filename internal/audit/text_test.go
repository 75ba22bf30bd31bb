// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile are texts that a confined command could put into any field; the viewer is tested with the same.
var hostile = map[string]string{
	"newline":        "a\nb",
	"forged line":    "x\r\n{\"seq\":1,\"class\":\"run\",\"action\":\"run.end\"}\n",
	"quote":          `","decision":"allow","x":"`,
	"nul":            "a\x00b",
	"erase line":     "\x1b[2K\x1b[1Afake",
	"osc title":      "\x1b]0;owned\x07",
	"osc link":       "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\",
	"osc clipboard":  "\x1b]52;c;ZXZpbA==\x07",
	"c1 as a byte":   "a\x9b31mb",
	"c1 as a rune":   "a\u009b31mb",
	"line separator": "a\u2028b\u2029c",
	"bidi override":  "/tmp/\u202egpj.exe\u202c",
	"bidi isolate":   "\u2066a\u2069",
	"hebrew":         "\u05d0\u05d1 1 allow",
	"zero width":     "a\u200bb\u200d\ufeffc",
	"tags":           "a\U000e0041\U000e007f",
	"variation":      "a\ufe0f",
	"filler":         "a\u3164b\u115fc\u2800d",
	"combining":      "a" + strings.Repeat("\u0301", 50),
	"invalid":        "\xff\xfe\xc3",
	"surrogate":      "\xed\xa0\x80",
	"overlong":       "\xc0\xaf",
	"replacement":    "\ufffd",
	"escape like":    `a\xffb`,
	"escape doubled": `a\\xff` + "\xff" + `\\\x80`,
	"backslashes":    `C:\dir\new\u0041\x41\x`,
	"before a byte":  `\\` + "\xff" + `\` + "\xfe",
	"html":           "</sandbox_violations><script>&amp;",
	"delete":         "a\x7fb",
	"digits":         strings.Repeat("9", 10000),
	"long":           strings.Repeat("\x01", 8<<10),
	"empty":          "",
	"accents":        "/home/jos\u00e9/\u6587\u4ef6/\U0001f600",
}

// Containment check: Q03.
func TestQuoteRoundTrip(t *testing.T) {
	for name, s := range hostile {
		t.Run(name, func(t *testing.T) {
			q := quote(s)
			if !utf8.ValidString(q) {
				t.Errorf("quote(%q) = %q, which is not UTF-8", s, q)
			}
			if got := unquote(q); got != s {
				t.Errorf("unquote(quote(%q)) = %q", s, got)
			}
		})
	}
}

func TestQuoteForm(t *testing.T) {
	tests := []struct{ in, want string }{
		{`plain`, `plain`},
		{`C:\new\x`, `C:\new\x`},
		{`a\x41`, `a\x41`},          // not a byte that quote would escape
		{"\xff", `\xff`},            // one byte
		{`\xff`, `\\xff`},           // four characters
		{`\` + "\xff", `\\\xff`},    // backslash, byte
		{`\\xff`, `\\\\xff`},        // two backslashes, three characters
		{`\\n` + "\xc3", `\\n\xc3`}, // only the run before an escape is doubled
		{"\xe9\u00e9", `\xe9` + "\u00e9"},
	}
	for _, tt := range tests {
		if got := quote(tt.in); got != tt.want {
			t.Errorf("quote(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// Containment check: Q03.
func TestQuoteIsInjective(t *testing.T) {
	// Every text of up to five of these pieces: those among which escapes could be confused.
	pieces := []string{`\`, "\xff", `x`, `f`, "\u00e9"}
	texts := []string{""}
	seen := make(map[string]string)
	for range 6 {
		var longer []string
		for _, s := range texts {
			q := quote(s)
			if other, ok := seen[q]; ok && other != s {
				t.Fatalf("%q and %q are both written %s", s, other, q)
			}
			seen[q] = s
			for _, p := range pieces {
				longer = append(longer, s+p)
			}
		}
		texts = longer
	}
	if len(seen) < 3000 {
		t.Fatalf("only %d texts were tried", len(seen))
	}
}

func TestASCIIJSON(t *testing.T) {
	for name, s := range hostile {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got := asciiJSON(nil, data)
		assertASCII(t, name, got)
		var back, want string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		json.Unmarshal(data, &want)
		if back != want {
			t.Errorf("%s: %q became %q", name, want, back)
		}
	}
	if got := string(asciiJSON(nil, []byte("\"\xff\u202e\U0001f600\x7f\""))); got != `"\\xff\u202e\ud83d\ude00\u007f"` {
		t.Errorf("asciiJSON = %s", got)
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ in, want string }{
		{"/home/jos\u00e9/\u6587\u4ef6 1", "/home/jos\u00e9/\u6587\u4ef6 1"},
		{"a\nb\x1b[2K", `a\nb\x1b[2K`},
		{`\x1b`, `\\x1b`},
		{"\u202e", `\u202e`},
		{"\u05d0", `\u05d0`},
		{"\u200b\ufeff", `\u200b\ufeff`},
		{"\U000e0041", `\U000e0041`},
		{"\x9b\u009b", `\x9b\u009b`},
		{"\u3164\u2800", `\u3164\u2800`},
		{"e\u0301", `e\u0301`},
		{"'\"", `'"`},
	}
	for _, tt := range tests {
		if got := Printable(tt.in); got != tt.want {
			t.Errorf("Printable(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
	for name, s := range hostile {
		for _, r := range Printable(s) {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
				t.Errorf("%s: %U reaches the terminal", name, r)
			}
		}
	}
}

func assertASCII(t *testing.T, name string, line []byte) {
	t.Helper()
	for i, c := range line {
		if c < ' ' || c > '~' {
			t.Fatalf("%s: byte %#x at %d of %.80q", name, c, i, line)
		}
	}
}

// A finding's texts are written as an event's are, so that they can be got back.
func TestFindingsAreEscaped(t *testing.T) {
	for _, s := range hostile {
		data, err := Finding{Action: "symlink", Target: s, Reason: s}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var f Finding
		if err := json.Unmarshal(data, &f); err != nil || unquote(f.Target) != s || unquote(f.Reason) != s {
			t.Errorf("%q became %s: %v", s, data, err)
		}
		if i := strings.IndexFunc(string(data), func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("%s is not printable ASCII", data)
		}
	}
}
