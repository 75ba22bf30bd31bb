// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"
)

func TestQuotePath(t *testing.T) {
	for in, want := range map[string]string{
		"/home/ünï/x":     "/home/ünï/x",
		"with space":      `"with space"`,
		`with"quote\`:     `"with\"quote\\"`,
		"/a\x1b[2K\nb":    `"/a\x1b[2K\nb"`,
		"/a\xff":          `"/a\xff"`,
		"/a\u009b\u202eb": `"/a\u009b\u202eb"`,
		// Letters that a terminal shows elsewhere, on top of others, or not at all.
		"/a\u05d0\u05d1.txt":   `"/a\u05d0\u05d1.txt"`,
		"/a\u0301":             `"/a\u0301"`,
		"/a\u3164\u2800\u00a0": `"/a\u3164\u2800\u00a0"`,
	} {
		if got := quotePath(in); got != want {
			t.Errorf("%q: %s, not %s", in, got, want)
		}
	}
}

// TestPlanShowsNoControlByte: names of variables, and of files that the host chose, are quoted too.
func TestPlanShowsNoControlByte(t *testing.T) {
	const bad = "/a\x1b[2K\nb\u202e\u05d0"
	p := Plan{Workdir: bad, Command: []string{bad}, Withheld: []string{bad}, Env: []string{bad + "=x"}, Symlinks: map[string]string{bad: bad}}
	p.Identity.Home, p.Home.Private = bad, bad
	p.Mounts = []Mount{{Kind: Bind, Target: bad, Source: bad + "x"}}
	text := p.String()
	if n := strings.Count(text, `\x1b[2K\nb\u202e\u05d0`); n != 10 {
		t.Errorf("%d names of 10 are quoted:\n%q", n, text)
	}
	if i := strings.IndexAny(text, "\x1b\u202e\u05d0"); i >= 0 || strings.Contains(text, "\nb") {
		t.Errorf("a name is shown as it is:\n%q", text)
	}
}

// TestPlanShowsLog: what a policy says of the log is in the plan.
func TestPlanShowsLog(t *testing.T) {
	for want, p := range map[string]Plan{
		"\nlog\n  goes on in another file at 2MiB\n": {LogMaxSize: 2 << 20},
		"\nlog\n  where it cannot be written, the command goes on, and what it is denied meanwhile is only counted\n  goes on in another file at 1GiB\n": {GoesOn: true, LogMaxSize: 1 << 30},
	} {
		if got := p.String(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := (Plan{}).String(); strings.Contains(got, "\nlog\n") {
		t.Errorf("of a policy that says nothing:\n%s", got)
	}
}
