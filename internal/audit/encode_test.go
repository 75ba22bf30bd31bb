// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func fullEvent() Event {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	return Event{
		Seq: 7, Time: at, Mono: 12345, Run: "R", Class: ClassFile, Action: "open-read", Decision: Deny, Target: "/etc/shadow",
		Rule: "not-granted", Reason: "not granted", Severity: SeverityCredential, Errno: "ENOENT",
		Process: Process{PID: 10, PPID: 9, Exe: "/bin/cat", Argv: []string{"cat", "/etc/shadow"}},
		Count:   3, First: &at, Last: &at, Provenance: FromKernel, Truncated: []string{"argv"}, Redacted: 2,
		Detail: json.RawMessage(`{"a":[1,"b"]}`), Prev: firstPrev,
	}
}

func TestEventLine(t *testing.T) {
	const want = `{"seq":7,"time":"2026-03-04T05:06:07.00000089Z","mono":12345,"run":"R","class":"file","action":"open-read",` +
		`"decision":"deny","target":"/etc/shadow","rule":"not-granted","reason":"not granted","severity":"credential",` +
		`"errno":"ENOENT","pid":10,"ppid":9,"exe":"/bin/cat","argv":["cat","/etc/shadow"],"count":3,` +
		`"first":"2026-03-04T05:06:07.00000089Z","last":"2026-03-04T05:06:07.00000089Z","provenance":"kernel",` +
		`"truncated":["argv"],"redacted":2,"detail":{"a":[1,"b"]},` +
		`"prev":"0000000000000000000000000000000000000000000000000000000000000000"}`
	line, err := fullEvent().MarshalJSON()
	if err != nil || string(line) != want {
		t.Fatalf("line is\n%s, want\n%s (%v)", line, want, err)
	}
	got, err := decode(line)
	if err != nil || !reflect.DeepEqual(got, fullEvent()) {
		t.Fatalf("decode gave %+v (%v)", got, err)
	}
}

// TestEventKeepsBytes is about both ways of an event: to the log, and as JSON between processes.
func TestEventKeepsBytes(t *testing.T) {
	for name, s := range hostile {
		t.Run(name, func(t *testing.T) {
			want := fullEvent()
			want.Target, want.Exe, want.Reason, want.Argv = s, s, s, []string{s, "-", s}
			line, err := want.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			assertASCII(t, name, line)
			got, err := decode(line)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("decode gave %+v (%v)", got, err)
			}
			wrapped, err := json.Marshal(map[string]any{"body": want})
			if err != nil {
				t.Fatal(err)
			}
			var back struct{ Body Event }
			if err := json.Unmarshal(wrapped, &back); err != nil || !reflect.DeepEqual(back.Body, want) {
				t.Errorf("between processes: %+v (%v)", back.Body, err)
			}
		})
	}
}

func TestMarshalLeavesArgvAlone(t *testing.T) {
	argv := []string{"\xff"}
	e := fullEvent()
	e.Argv = argv
	if _, err := e.MarshalJSON(); err != nil || argv[0] != "\xff" {
		t.Fatalf("argv of the caller is now %q (%v)", argv, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	line, err := fullEvent().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	good := string(line)
	tests := map[string]string{
		"nothing":           ``,
		"not JSON":          `hello`,
		"not an object":     `[1]`,
		"two objects":       good + good,
		"space":             strings.Replace(good, `"seq":7`, `"seq": 7`, 1),
		"space at the end":  good + ` `,
		"another key":       strings.Replace(good, `{"seq"`, `{"x":1,"seq"`, 1),
		"a key twice":       strings.Replace(good, `"errno":"ENOENT"`, `"errno":"EACCES","errno":"ENOENT"`, 1),
		"a key's case":      strings.Replace(good, `"seq"`, `"Seq"`, 1),
		"another order":     strings.Replace(good, `"seq":7,"time":"2026-03-04T05:06:07.00000089Z"`, `"time":"2026-03-04T05:06:07.00000089Z","seq":7`, 1),
		"an empty field":    strings.Replace(good, `"target":"/etc/shadow"`, `"target":""`, 1),
		"needless escape":   strings.Replace(good, `cat`, `\u0063at`, 1),
		"raw byte":          strings.Replace(good, `cat`, "\xff", 1),
		"raw bidi":          strings.Replace(good, `cat`, "\u202e", 1),
		"lone surrogate":    strings.Replace(good, `cat`, `\ud800`, 1),
		"needless \\x":      strings.Replace(good, `cat`, `\\xc3\\xa9`, 1),
		"time zone":         strings.Replace(good, `00000089Z","mono"`, `00000089+00:00","mono"`, 1),
		"seq as text":       strings.Replace(good, `"seq":7`, `"seq":"7"`, 1),
		"seq with exponent": strings.Replace(good, `"seq":7`, `"seq":7e0`, 1),
	}
	for name, line := range tests {
		if line == good {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if e, err := decode([]byte(line)); err == nil {
			t.Errorf("%s: decoded to %+v", name, e)
		}
	}
}

func TestCapped(t *testing.T) {
	e := fullEvent()
	e.Target = strings.Repeat("\u00e9", MaxTarget)
	e.Reason = strings.Repeat("r", MaxText+1)
	e.Rule = strings.Repeat("r", MaxText)
	e.Argv = make([]string, MaxArgs+1)
	got := capped(e)
	if want := []string{"target", "reason", "argv"}; !slices.Equal(got.Truncated, want) {
		t.Errorf("truncated %q, want %q", got.Truncated, want)
	}
	if len(got.Target) != MaxTarget || !utf8.ValidString(got.Target) || len(got.Reason) != MaxText || len(got.Rule) != MaxText || len(got.Argv) != MaxArgs {
		t.Errorf("lengths %d %d %d %d", len(got.Target), len(got.Reason), len(got.Rule), len(got.Argv))
	}
	if got.Seq != 0 || got.Run != "" || got.Prev != "" || got.Mono != 0 {
		t.Error("an event brought its own place in the log")
	}
	if got := capped(fullEvent()); got.Truncated != nil || got.Target != fullEvent().Target || string(got.Detail) != string(fullEvent().Detail) {
		t.Errorf("an event within the bounds was changed: %+v", got)
	}
}

func TestCappedArgv(t *testing.T) {
	long := strings.Repeat("a", MaxArgv-3)
	tests := []struct {
		name     string
		in, want []string
		whole    bool
	}{
		{"fits", []string{"cat", long}, []string{"cat", long}, true},
		{"one byte over", []string{"cat!", long}, []string{"cat!", long[1:]}, false},
		{"no room for the next", []string{"cat", long, "x", "y"}, []string{"cat", long}, false},
		{"one long", []string{long + long}, []string{(long + long)[:MaxArgv]}, false},
	}
	for _, tt := range tests {
		e := capped(Event{Process: Process{Argv: tt.in}})
		if !slices.Equal(e.Argv, tt.want) || (e.Truncated == nil) != tt.whole {
			t.Errorf("%s: got %d entries, truncated %v", tt.name, len(e.Argv), e.Truncated)
		}
	}
}

func TestCappedDetail(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"compacted", "{ \"a\" :\n1 }", `{"a":1}`},
		{"ASCII", "{\"\u202e\":\"<\xff\"}", `{"\u202e":"\u003c\\xff"}`},
		{"not JSON", `{"a":`, ``},
		{"two values", `{} {}`, ``},
		{"too long", `"` + strings.Repeat("a", MaxDetail) + `"`, ``},
		{"too long once escaped", `"` + strings.Repeat("\u00e9", MaxDetail/3) + `"`, ``},
	}
	for _, tt := range tests {
		e := capped(Event{Detail: json.RawMessage(tt.in)})
		if string(e.Detail) != tt.want || slices.Contains(e.Truncated, "detail") != (tt.want == "") {
			t.Errorf("%s: detail %.50s, truncated %v", tt.name, e.Detail, e.Truncated)
		}
	}
}

// TestLongestLine fills every field with what takes most room when it is escaped.
// Containment check: Q03.
func TestLongestLine(t *testing.T) {
	worst := strings.Repeat("\x01", MaxDetail)
	e := fullEvent()
	for _, f := range e.texts() {
		*f.text = worst
	}
	e.Argv = slices.Repeat([]string{worst[:MaxArgv/MaxArgs]}, MaxArgs)
	e.Detail = json.RawMessage(`"` + strings.Repeat("d", MaxDetail-2) + `"`)
	e = capped(e)
	e.Run = strings.Repeat("r", maxWord)
	line := newChain(e.Run).append(nil, e)
	if len(line) > MaxLine {
		t.Fatalf("the longest line has %d bytes", len(line))
	}
	if _, err := decode(line[:len(line)-1]); err != nil {
		t.Fatal(err)
	}
}
