// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// containmentList is what a user reads before relying on a jail; a test in it that does not exist would be a promise that nothing keeps.
const containmentList = "docs/containment.md"

// check is an entry of the list: what holds, and the tests that try it.
type check struct {
	id, priority, text string
	tests              []string
}

var (
	checkLine = regexp.MustCompile(`^- \*\*([A-R][0-9]{2})\*\* (P[012]): (.*)$`)
	quoted    = regexp.MustCompile("`([^`]*)`")
	sentence  = regexp.MustCompile(`^\S+ \S+.*\.[ ,]*$`)
	notTested = regexp.MustCompile(`^Not tested: \S+ \S+ \S+.*\.$`)
)

// parseChecks reads the entries of the list. Every line that looks like one must be one.
func parseChecks(text string) (checks []check, problems []string) {
	seen := map[string]bool{}
	section, last := "", ""
	for number, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section, _, _ = strings.Cut(name, ".")
		}
		if !strings.HasPrefix(line, "- ") {
			continue
		}
		m := checkLine.FindStringSubmatch(line)
		if m == nil {
			problems = append(problems, fmt.Sprintf("line %d is no entry: %s", number+1, line))
			continue
		}
		c := check{id: m[1], priority: m[2], text: strings.TrimSpace(quoted.ReplaceAllString(m[3], ""))}
		for _, name := range quoted.FindAllStringSubmatch(m[3], -1) {
			c.tests = append(c.tests, name[1])
		}
		switch {
		case seen[c.id]:
			problems = append(problems, c.id+" is there twice")
		case !strings.HasPrefix(c.id, section):
			problems = append(problems, fmt.Sprintf("%s is in section %s", c.id, section))
		case c.id < last:
			problems = append(problems, fmt.Sprintf("%s comes after %s", c.id, last))
		}
		seen[c.id], last = true, c.id
		checks = append(checks, c)
	}
	return checks, problems
}

// judge says what is wrong with an entry, where mentions tells whether a test exists and whether its text has the check's id.
func (c check) judge(mentions func(test, id string) (exists, named bool)) (problems []string) {
	switch {
	case len(c.tests) == 0 && !notTested.MatchString(c.text):
		problems = append(problems, c.id+` has no test: name one, or say "Not tested: " and a reason`)
	case len(c.tests) > 0 && strings.HasPrefix(c.text, "Not tested"):
		problems = append(problems, c.id+" is not tested, and has tests")
	case !sentence.MatchString(c.text):
		problems = append(problems, c.id+" does not say what holds")
	}
	for _, test := range c.tests {
		switch exists, named := mentions(test, c.id); {
		case !exists:
			problems = append(problems, fmt.Sprintf("%s: there is no test %s", c.id, test))
		case !named:
			problems = append(problems, fmt.Sprintf("%s: the text of %s does not name it", c.id, test))
		}
	}
	return problems
}

// TestContainmentList: each check has a test that exists and names it, or the reason why there is none.
func TestContainmentList(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, containmentList))
	if err != nil {
		t.Fatal(err)
	}
	checks, problems := parseChecks(string(text))
	if len(checks) < 200 {
		t.Errorf("only %d entries were found", len(checks))
	}
	mentions := testTexts(t)
	for _, c := range checks {
		problems = append(problems, c.judge(mentions)...)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", containmentList, p)
	}
}

// testTexts finds the scripts and the Go tests of the repository. A Go test's text is its own, with its comment and its name.
func testTexts(t *testing.T) func(test, id string) (exists, named bool) {
	t.Helper()
	texts := map[string]string{}
	scripts, err := filepath.Glob(filepath.Join(top, "integration/testdata/*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		texts[name] = name + "\n" + string(text)
	}
	function := regexp.MustCompile(`(?m)^((?://.*\n)*)func ((?:Test|Fuzz)\w+)\(`)
	sources(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		matches := function.FindAllSubmatchIndex(text, -1)
		for i, m := range matches {
			end := len(text)
			if i+1 < len(matches) {
				end = matches[i+1][0]
			}
			texts[string(text[m[4]:m[5]])] += string(text[m[0]:end])
		}
	})
	return func(test, id string) (exists, named bool) {
		text, exists := texts[test]
		return exists, strings.Contains(text, id)
	}
}

// TestContainmentProblems: the rules find what they are for.
func TestContainmentProblems(t *testing.T) {
	mentions := func(test, id string) (exists, named bool) { return test != "none", test != "other" }
	for entry, want := range map[string]string{
		"- **A01** P0: It holds. `A01-script`, `TestA01`":                  "",
		"- **A01** P1: Not tested: there is no option.":                    "",
		"- **A01** P0: It holds.":                                          "has no test",
		"- **A01** P0: Not tested:":                                        "has no test",
		"- **A01** P0: Not tested: no.":                                    "has no test",
		"- **A01** P0: Later. `A01-script`":                                "does not say what holds",
		"- **A01** P0: `A01-script`":                                       "does not say what holds",
		"- **A01** P0: Not tested: no option. `A01-x`":                     "and has tests",
		"- **A01** P0: It holds. `none`":                                   "no test none",
		"- **A01** P0: It holds. `other`":                                  "does not name it",
		"- **A1** P0: It holds. `A01-script`":                              "is no entry",
		"- **A01** P2: It holds. `A01-script`":                             "",
		"- **A01** P3: It holds. `A01-script`":                             "is no entry",
		"- **B01** P0: It holds. `A01-script`":                             "in section A",
		"- **A01** P0: It holds. `A01-x`\n- **A01** P0: It holds. `A01-x`": "twice",
		"- **A02** P0: It holds. `A01-x`\n- **A01** P0: It holds. `A01-x`": "comes after",
	} {
		checks, problems := parseChecks("## A. Launch\n\n" + entry)
		for _, c := range checks {
			problems = append(problems, c.judge(mentions)...)
		}
		if got := strings.Join(problems, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", entry, got, want)
		}
	}
}
