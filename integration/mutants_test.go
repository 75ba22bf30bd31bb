// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A fileRule is one entry of a policy, and an attempt that goes the other way without it.
type fileRule struct {
	list, entry string
	attempt     string // in shell, may be made again
	aim         string // the path of the event where it is denied
	held        bool   // the attempt succeeds with the rule; if not, without
}

// fileRules are of each kind, for a file and for a directory, in the working directory and outside, and of one in another.
func fileRules(p place) []fileRule {
	read := func(path string) string { return "cat " + path }
	add := func(path string) string { return "echo more >>" + path }
	out := func(path string) string { return filepath.Join(p.root, path) }
	in := func(path string) string { return filepath.Join(p.project, path) }
	return []fileRule{
		{"read", out("shown"), read(out("shown/file")), out("shown/file"), true},
		{"read", out("single"), read(out("single")), out("single"), true},
		{"read", out("place/inner"), add(out("place/inner/file")), out("place/inner/file"), false},
		{"write", out("place"), add(out("place/file")), out("place/file"), true},
		{"write", out("written"), add(out("written")), out("written"), true},
		{"hide", in("secret"), read("secret"), in("secret"), false},
		{"hide", in("secrets"), read("secrets/file"), in("secrets/file"), false},
		{"hide", out("shown/hidden"), read(out("shown/hidden")), out("shown/hidden"), false},
		{"protect", "settled", add("settled"), in("settled"), false},
		{"protect", "kept", add("kept/file"), in("kept/file"), false},
		{"protect", "absent", "mkdir absent && rmdir absent", in("absent"), false},
		{"protect", "deep.conf", add("a/b/deep.conf"), in("a/b/deep.conf"), false},
	}
}

// TestC01Mutants: of a policy with a rule of each kind, each rule is left out in turn: what it allowed is refused and on record then, what
// it refused is done, and all the rest is as before. So none of the attempts would succeed, or fail, anyway.
// Containment checks: A14, B01, B05, B17.
func TestC01Mutants(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, file := range []string{"../shown/file", "../shown/hidden", "../single", "../place/inner/file", "../written", "secret", "secrets/file", "settled", "kept/file", "a/b/deep.conf"} {
		p.write(t, file, "text\n")
	}
	rules := fileRules(p)
	var script strings.Builder
	for i, r := range rules {
		fmt.Fprintf(&script, "if (%s) >/dev/null 2>&1; then echo %d done; else echo %d not; fi\n", r.attempt, i, i)
	}
	p.write(t, "try.sh", script.String())
	for without := -1; without < len(rules); without++ {
		name := "all"
		if without >= 0 {
			name = "without " + rules[without].list + " " + filepath.Base(rules[without].entry)
		}
		p.write(t, "policy.yaml", policyWithout(rules, without))
		stdout := p.must(t, "agentjail", "run", "--quiet", "--policy", "policy.yaml", "--", "sh", "try.sh")
		events := p.ended(t)
		for i, r := range rules {
			succeeds := r.held != (i == without)
			// What the place no longer holds cannot be reached through the rule in it, either.
			if without >= 0 && rules[without].entry == p.root+"/shown" && r.entry == p.root+"/shown/hidden" {
				succeeds = false
			}
			if want := fmt.Sprintf("%d %s\n", i, map[bool]string{true: "done", false: "not"}[succeeds]); !strings.Contains(stdout, want) {
				t.Errorf("%s: %s: want %q of\n%s", name, r.attempt, want, stdout)
			}
			if denied(events, r.aim) == succeeds {
				t.Errorf("%s: %s: on record as denied: %v\n%s", name, r.attempt, !succeeds, listing(events))
			}
		}
	}
}

func policyWithout(rules []fileRule, without int) string {
	lists := map[string][]string{}
	for i, r := range rules {
		if i != without {
			lists[r.list] = append(lists[r.list], fmt.Sprintf("%q", r.entry))
		}
	}
	text := "version: 1\nfilesystem:\n"
	for _, list := range []string{"read", "write", "hide", "protect"} {
		text += "  " + list + ": [" + strings.Join(lists[list], ", ") + "]\n"
	}
	return text
}

func denied(events []event, path string) bool {
	for _, e := range events {
		if e.Decision == "deny" && e.Target == path {
			return true
		}
	}
	return false
}
