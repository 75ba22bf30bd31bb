// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// sources calls f for every Go and assembly file of the repository.
func sources(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == ".git" || name == "testdata" || name == "bin" || name == "node_modules") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" && filepath.Ext(name) != ".s" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		f(strings.TrimPrefix(path, top+"/"), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d files were found", files)
	}
}

// TestLicenceHeaders: a file that is copied elsewhere must still say under which terms.
func TestLicenceHeaders(t *testing.T) {
	sources(t, func(path string, text []byte) {
		if !bytes.HasPrefix(text, []byte("// SPDX-License-Identifier: Apache-2.0\n")) {
			t.Errorf("%s does not begin with its licence", path)
		}
	})
}

// TestPackageComments: the package comment is where a reader learns what a package is for, what it refuses and its limits.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		name := filepath.Base(p.ImportPath)
		if len(p.GoFiles) == 0 {
			continue
		}
		if !strings.HasPrefix(p.Doc, "Package "+name) && !strings.HasPrefix(p.Doc, "Command "+name) {
			t.Errorf("%s: its comment begins with %q", rel(p.ImportPath), p.Doc)
		}
	}
}

// Lengths beyond which a function or a file hides what it does; security code must not live in such a tail.
const (
	maxFunction = 90
	maxTest     = 120 // a table of cases is data
	maxFile     = 600
)

func TestLengths(t *testing.T) {
	sources(t, func(path string, text []byte) {
		if lines := bytes.Count(text, []byte("\n")); lines > maxFile && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines, more than %d", path, lines, maxFile)
		}
		if filepath.Ext(path) != ".go" {
			return
		}
		limit := maxFunction
		if strings.HasSuffix(path, "_test.go") {
			limit = maxTest
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				if lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; lines > limit {
					t.Errorf("%s: %s has %d lines, more than %d", set.Position(f.Pos()), f.Name.Name, lines, limit)
				}
			}
		}
	})
}

// forbidden are texts that must not be in the source. They are written in two halves here, so that this file passes.
var forbidden = []struct {
	text   *regexp.Regexp
	tests  bool // in tests too
	reason string
}{
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`), true, "what is not done is in an issue, not in a comment"},
	{regexp.MustCompile(`SECCOMP_USER_NOTIF_FLAG_` + `CONTINUE.*Path`), false, "a decision on memory that the caller can change must not let the call go on"},
	{regexp.MustCompile(`(?i)notif_?add` + `fd|0x4018` + `2103`), false, "no file of agentjail's goes into a process of the run (G15)"},
	{regexp.MustCompile(`InsecureSkip` + `Verify`), false, "no connection of the product goes unverified"},
	{regexp.MustCompile(`exec\.Command\("(sh|bash)"`), false, "no string of the user is evaluated by a shell"},
	{regexp.MustCompile(`\bmath/rand"`), false, "identifiers must not be guessable; crypto/rand is as easy"},
}

// Containment checks: G15, N03.
func TestForbiddenTexts(t *testing.T) {
	sources(t, func(path string, text []byte) {
		isTest := strings.HasSuffix(path, "_test.go") || within("integration", path)
		for i, line := range strings.Split(string(text), "\n") {
			for _, rule := range forbidden {
				if (rule.tests || !isTest) && rule.text.MatchString(line) {
					t.Errorf("%s: %s: %s", fmt.Sprintf("%s:%d", path, i+1), strings.TrimSpace(line), rule.reason)
				}
			}
		}
	})
}

// shortRoot are the entries of the repository's root. It stays as short as this: a newcomer reads it first.
var shortRoot = map[string]bool{
	".ci": true, ".git": true, ".gitattributes": true, ".github": true, ".gitignore": true, ".golangci.yml": true,
	"CHANGELOG.md": true, "CONTRIBUTING.md": true, "LICENSE": true, "Makefile": true, "README.md": true, "SECURITY.md": true,
	"bin": true, "cmd": true, "docs": true, "go.mod": true, "go.sum": true, "integration": true, "internal": true,
	"profiles": true, "sandbox": true, "seccomp": true,
}

func TestRootIsShort(t *testing.T) {
	entries, err := os.ReadDir(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !shortRoot[e.Name()] && !strings.HasSuffix(e.Name(), ".test") && !strings.HasSuffix(e.Name(), ".out") {
			t.Errorf("%s does not belong into the root of the repository", e.Name())
		}
	}
}

// TestDependenciesAreExplained: each module that the source imports has a sentence that says why, and no other has one.
func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile(top + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(top + "/docs/decisions/0000-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^- `([^`]+)`: ").FindAllStringSubmatch(string(text), -1) {
		explained[m[1]] = true
	}
	needed := map[string]bool{"honnef.co/go/tools": true} // the tool line of go.mod
	for _, p := range packages(t) {
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if m := moduleOf(imported, string(mod)); m != "" {
				needed[m] = true
			}
		}
	}
	for m := range needed {
		if !explained[m] {
			t.Errorf("docs/decisions/0000-dependencies.md does not say why %s is needed", m)
		}
	}
	for m := range explained {
		if !needed[m] {
			t.Errorf("docs/decisions/0000-dependencies.md explains %s, which nothing imports", m)
		}
	}
}

// moduleOf finds the module of go.mod that holds a package, "" for one of the standard library or of the project.
func moduleOf(imported, mod string) string {
	found := ""
	for _, line := range strings.Split(mod, "\n") {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && strings.Contains(fields[0], ".") && within(fields[0], imported) && len(fields[0]) > len(found) {
			found = fields[0]
		}
	}
	return found
}
