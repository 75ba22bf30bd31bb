// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestFlag: what is offered to be typed is one word to a shell, and what it shows.
func TestFlag(t *testing.T) {
	for value, want := range map[string]string{
		"/home/ann/x":                   "--ro /home/ann/x",
		"example.com:443":               "--ro example.com:443",
		"[::1]:80":                      "--ro '[::1]:80'", // a pattern that matches a file 1:80
		"/home/ann/.ss[h]":              "--ro '/home/ann/.ss[h]'",
		"/*":                            "--ro '/*'",
		"~/x":                           "--ro '~/x'",
		"/!!":                           "",
		"/home/ann/a b":                 "--ro '/home/ann/a b'",
		"/x; rm -r y":                   "--ro '/x; rm -r y'",
		"/x$(id)`id`":                   "--ro '/x$(id)`id`'",
		"/caf\u00e9":                    "--ro '/caf\u00e9'",
		"":                              "",
		"/it's":                         "",
		"/a\nb":                         "",
		"/\x1b[2K":                      "",
		"/a\u202eb":                     "",
		"/\xff":                         "",
		`/a\b`:                          "",
		"/" + strings.Repeat("a", 1000): "",
	} {
		if got := Flag("--ro", value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// TestFix: an ordinary denial has the flag that is its own, or else that which is found; what is a credential, noise or no denial has none.
func TestFix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	r, err := Open(Options{Path: path, Run: "01J", Fix: func(e Event) string { return "--found " + e.Target }})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Event{
		{Class: ClassFile, Action: "stat", Decision: Deny, Target: "a"},
		{Class: ClassNet, Action: "tcp.connect", Decision: Deny, Target: "b", Fix: "--own b"},
		{Class: ClassFile, Action: "stat", Decision: Deny, Target: "c", Severity: SeverityCredential, Fix: "--own c"},
		{Class: ClassFile, Action: "stat", Decision: Deny, Target: "d", Severity: SeverityNoise},
		{Class: ClassNet, Action: "tcp.connect", Decision: Allow, Target: "e", Fix: "--own e"},
	} {
		r.Emit(e)
	}
	s, events := closed(t, r, path)
	want := map[string]string{"a": "--found a", "b": "--own b"}
	for _, e := range events {
		if e.Fix != want[e.Target] {
			t.Errorf("event about %s: fix %q", e.Target, e.Fix)
		}
	}
	if len(s.Top) != 3 {
		t.Fatalf("the summary has %+v", s.Top)
	}
	for _, d := range s.Top {
		if d.Fix != want[d.Target] {
			t.Errorf("summary of %s: fix %q", d.Target, d.Fix)
		}
	}
}
