// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryProtectedNameIsTried: without any one of the names that every profile protects, the script that tries to write what programs
// of the host run would succeed with one of its files.
// Containment checks: C01, C12, C13, C14, C16, C17.
func TestEveryProtectedNameIsTried(t *testing.T) {
	script, err := os.ReadFile("../integration/testdata/C01-C17-matrix.txtar")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)LIST = """(.*?)"""`).FindSubmatch(script)
	if m == nil {
		t.Fatal("the script has no LIST")
	}
	tried := strings.Fields(string(m[1]))
	p, err := Named("base")
	if err != nil {
		t.Fatal(err)
	}
	open := func(f Files) (paths []string) {
		protection := f.Protection(nil, nil)
		for _, name := range tried {
			if !slices.ContainsFunc(protection.Find("/w", "/w/"+name), func(g Guard) bool { return g.Hold == HoldWhole }) {
				paths = append(paths, name)
			}
		}
		return paths
	}
	files := p.Files()
	if paths := open(files); len(paths) > 0 {
		t.Errorf("not protected: %q", paths)
	}
	for i, name := range files.Protect {
		without := files
		without.Protect = slices.Delete(slices.Clone(files.Protect), i, i+1)
		if len(open(without)) == 0 {
			t.Errorf("%s is not tried", name)
		}
	}
	all := RepositoryFiles
	defer func() { RepositoryFiles = all }()
	for i, name := range all {
		RepositoryFiles = slices.Delete(slices.Clone(all), i, i+1)
		if len(open(files)) == 0 {
			t.Errorf("%s of a repository is not tried", name)
		}
	}
}
