// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// found is what Protection.Find tells of a path in the place /w/p, where five entries are protected.
type found struct{ at, want string }

func checkFound(t *testing.T, cases []found) {
	t.Helper()
	files := Files{Protect: []string{".git", ".github/hooks", ".vscode", "*.code-workspace", "opencode.json"}}
	for _, c := range cases {
		if got := render(files.Protection(nil, nil).Find("/w/p", c.at)); got != c.want {
			t.Errorf("%s: %q, want %q", c.at, got, c.want)
		}
	}
}

// TestProtectionShortNames: by the short names of FAT and NTFS, too.
func TestProtectionShortNames(t *testing.T) {
	checkFound(t, []found{
		{"/w/p/GIT~1", "whole /w/p/GIT~1"},
		{"/w/p/git~1/hooks/x", "whole /w/p/git~1"},
		{"/w/p/.git/CONFIG~1.WOR", "whole /w/p/.git"},
		{"/w/p/.git/info/ATTRIB~1", "whole /w/p/.git"},
		{"/w/p/.git/objects/info/ALTERN~2", "whole /w/p/.git"},
		{"/w/p/.git/WORKTR~1/t/gitdir", "whole /w/p/.git/WORKTR~1/t"},
		{"/w/p/VSCODE~1/tasks.json", "whole /w/p"},
		{"/w/p/VSCOD~12/tasks.json", "whole /w/p"},
		{"/w/p/VS1A2B~1/tasks.json", "whole /w/p"},
		{"/w/p/GITHUB~1/hooks", "whole /w/p"},
		{"/w/p/OPENCO~1.JSO", "whole /w/p"},
		{"/w/p/MY~1.COD", ""}, // the limit: an entry with a *
		{"/w/p/OPENCO~1", ""},
		{"/w/p/git~", ""},
		{"/w/p/git~1x", ""},
		{"/w/p/file~1.txt", ""},
		{"/w/p/a~1", ""},
	})
}

func TestProtectionFind(t *testing.T) {
	checkFound(t, []found{
		// Names, at any depth, and what lies below.
		{"/w/p/.vscode", "whole /w/p"},
		{"/w/p/.vscode/tasks.json", "whole /w/p"},
		{"/w/p/a/b/.vscode/x/y", "whole /w/p/a/b"},
		{"/w/p/.VsCode/tasks.json", "whole /w/p"},
		{"/w/p/a.code-workspace", "whole /w/p"},
		{"/w/p/a/opencode.json", "whole /w/p/a"},
		{"/w/p/.github", "name /w/p"},
		{"/w/p/.github/hooks", "whole /w/p"},
		{"/w/p/.github/hooks/x.json", "whole /w/p"},
		{"/w/p/.github/workflows/ci.yml", ""},
		{"/w/p/.vscode.json", ""},
		{"/w/p/a.code-workspaces", ""},
		{"/w/p/x.vscode/f", ""},
		{"/w/p/.vscode/a/.vscode/f", "whole /w/p, whole /w/p/.vscode/a"},
		// What package managers unpack.
		{"/w/p/node_modules/a/.vscode/tasks.json", ""},
		{"/w/p/a/vendor/b/opencode.json", ""},
		{"/w/p/.vscode/node_modules/a", "whole /w/p"},
		{"/w/p/node_modules/a/.git/hooks/x", "whole /w/p/node_modules/a/.git"},
		// A repository.
		{"/w/p/.git", "whole /w/p/.git"},
		{"/w/p/.git/hooks", "whole /w/p/.git"},
		{"/w/p/.git/hooks/pre-commit", "whole /w/p/.git"},
		{"/w/p/.git/config", "whole /w/p/.git"},
		{"/w/p/.GIT/Config", "whole /w/p/.GIT"},
		{"/w/p/.git/config.worktree", "whole /w/p/.git"},
		{"/w/p/.git/commondir", "whole /w/p/.git"},
		{"/w/p/.git/info", "name /w/p/.git"},
		{"/w/p/.git/info/attributes", "whole /w/p/.git"},
		{"/w/p/.git/info/exclude", ""},
		{"/w/p/.git/objects", "name /w/p/.git"},
		{"/w/p/.git/objects/info", "name /w/p/.git"},
		{"/w/p/.git/objects/info/alternates", "whole /w/p/.git"},
		{"/w/p/.git/objects/ab/cdef", ""},
		{"/w/p/.git/objects/info/packs", ""},
		{"/w/p/.git/config.lock", ""},
		{"/w/p/.git/index", ""},
		{"/w/p/.git/refs/heads/config", ""},
		{"/w/p/.git/refs/heads/hooks/x", ""},
		{"/w/p/.git/logs/refs/heads/config", ""},
		{"/w/p/a/b/c/.git/hooks/x", "whole /w/p/a/b/c/.git"},
		{"/w/p/x.git/hooks/y", ""},
		// Its worktrees and submodules.
		{"/w/p/.git/worktrees", "name /w/p/.git"},
		{"/w/p/.git/worktrees/t", "dir /w/p/.git/worktrees/t"},
		{"/w/p/.git/worktrees/t/gitdir", "whole /w/p/.git/worktrees/t"},
		{"/w/p/.git/worktrees/t/commondir", "whole /w/p/.git/worktrees/t"},
		{"/w/p/.git/worktrees/t/HEAD", ""},
		{"/w/p/.git/worktrees/config/index", ""},
		{"/w/p/.git/worktrees/t/modules/s/config", "whole /w/p/.git/worktrees/t/modules/s/objects, dir /w/p/.git/worktrees/t/modules/s/config/objects"},
		{"/w/p/.git/modules", "name /w/p/.git"},
		{"/w/p/.git/modules/s", "whole /w/p/.git, dir /w/p/.git/modules/s/objects"},
		{"/w/p/.git/modules/a/b", "dir /w/p/.git/modules/a/b/objects"},
		{"/w/p/.git/modules/a/b/hooks/x", "whole /w/p/.git/modules/a/b/objects, dir /w/p/.git/modules/a/b/hooks/x/objects"},
		{"/w/p/.git/modules/s/config", "whole /w/p/.git/modules/s/objects, dir /w/p/.git/modules/s/config/objects"},
		{"/w/p/.git/modules/s/modules/t/config", "whole /w/p/.git/modules/s/modules/t/objects, dir /w/p/.git/modules/s/modules/t/config/objects"},
		{"/w/p/.git/modules/s/refs/heads/config", "whole /w/p/.git/modules/s/refs/heads/objects, dir /w/p/.git/modules/s/refs/heads/config/objects"},
		{"/w/p/.git/modules/s/objects/ab/cd", "dir /w/p/.git/modules/s/objects/ab/cd/objects"},
		{"/w/p/.git/modules/config/index.d/x", "dir /w/p/.git/modules/config/index.d/x/objects"},
		{"/w/p/.git/modules/src/modules/hooks/x", "dir /w/p/.git/modules/src/modules/hooks/x/objects, whole /w/p/.git/modules/src/modules/objects"},
		{"/w/p/.git/modules/lib/hooks/index.lock", "whole /w/p/.git/modules/lib/objects, dir /w/p/.git/modules/lib/hooks/index.lock/objects"},
		// The place itself.
		{"/w/p", ""},
	})
}

// TestProtectionPlaces is what a grant takes out: what lies above it, or is it.
func TestProtectionPlaces(t *testing.T) {
	files := Files{Protect: []string{".git", ".vscode"}}
	for _, c := range []struct{ place, at, want string }{
		{"/h/.vscode/ext/mine", "/h/.vscode/ext/mine/main.js", ""},
		{"/h/.vscode/ext/mine", "/h/.vscode/ext/mine/.vscode/tasks.json", "whole /h/.vscode/ext/mine"},
		{"/w/p/.git/config", "/w/p/.git/config", ""},
		{"/w/p/.git/hooks", "/w/p/.git/hooks/x", ""},
		{"/main/.git", "/main/.git/hooks/x", "whole /main/.git"},
		{"/main/.git", "/main/.git/objects/ab", ""},
		{"/main/.git/modules/s", "/main/.git/modules/s/config", "whole /main/.git/modules/s/objects, dir /main/.git/modules/s/config/objects"},
		{"/srv/bare", "/srv/bare/hooks/x", "whole /srv/bare"},
		{"/srv/bare", "/srv/bare/hooksx", ""},
		{"/srv/bare", "/srv/bare/refs/heads/config", ""},
	} {
		if got := render(files.Protection([]string{"/srv/bare"}, nil).Find(c.place, c.at)); got != c.want {
			t.Errorf("%s in %s: %q, want %q", c.at, c.place, got, c.want)
		}
	}
	if got := render((Files{}).Protection([]string{"/srv/bare"}, nil).Find("/srv/bare", "/srv/bare/hooks/x")); got != "" {
		t.Errorf("nothing is protected, but %q", got)
	}
	if got := render(Files{Protect: []string{".vscode"}}.Protection(nil, nil).Find("/w", "/w/.git/hooks/x")); got != "" {
		t.Errorf("repositories are not protected, but %q", got)
	}
}

// TestProtectionLong: a path of the command's making takes no longer than its length.
func TestProtectionLong(t *testing.T) {
	files := Files{Protect: []string{".git", ".vscode", "*.x"}}
	at := "/w/.git" + strings.Repeat("/modules/a/hooks", 200)
	if got := len(files.Protection(nil, nil).Find("/w", at)); got == 0 || got > 10_000 {
		t.Errorf("%d guards", got)
	}
}

// TestProtectionPaths is what is protected by its path, of any age.
func TestProtectionPaths(t *testing.T) {
	p := Files{Protect: []string{".git"}}.Protection(nil, []string{"/w/p/conf/Hooks"})
	for at, want := range map[string]string{
		"/w/p/conf/Hooks": "whole /", "/w/p/conf/hooks/pre-commit": "whole /", "/w/p/conf": "name /", "/w/p/CONF": "name /", "/w/p/conf/x": "", "/w/p/confx": "",
		"/w/p/conf/hooksx": "", "/w/p": "",
	} {
		if got := render(p.Find("/w/p", at)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// TestFold: what some file system takes for one name is one (B27).
func TestFold(t *testing.T) {
	for _, same := range [][]string{
		{"/w/.git/hooks", "/w/.GIT/Hooks", "/w/.git./hooks", "/w/.git. ./hooks ", "/w/.g\u200cit/hooks", "/w/.git\ufeff/hoo\u212as", "/w/.git/hooks\ufe0f"},
		{"/w/.git/config", "/w/.g\u0131t/con\ufb01g", "/w/.g\u034fit/CON\ufb01G", "/w/.git\u3164/co\u115fnfig\u2065", "/w/.git/c\U000e0fffonfig"},
		{"/w/.ssh/offline/afflux/first", "/w/.\u00dfh/o\ufb04ine/a\ufb04ux/\ufb01r\ufb06", "/w/.\u1e9eh/o\ufb00line/a\ufb00lux/fir\ufb05", "/w/.s\u017fh/of\ufb02ine/af\ufb02ux/first"},
		{"/w/.vscode", "/w/.v\u017fcode", "/w/.VSCODE..."},
		{"/w/\u03c3", "/w/\u03a3", "/w/\u03c2"},
	} {
		for _, path := range same {
			if fold(path) != fold(same[0]) {
				t.Errorf("%q and %q: %q and %q", path, same[0], fold(path), fold(same[0]))
			}
		}
	}
	for _, path := range []string{"/w/.git/hooks", "/w/a.b/c d/e", "/w/..git"} {
		if fold(path) != path {
			t.Errorf("%q: %q", path, fold(path))
		}
	}
}

func render(guards []Guard) string {
	holds := map[Hold]string{HoldWhole: "whole", HoldName: "name", HoldDir: "dir"}
	var out []string
	for _, g := range guards {
		if s := fmt.Sprintf("%s %s", holds[g.Hold], g.Since); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func TestCheckProtect(t *testing.T) {
	for _, name := range []string{".git", ".vscode", "*.code-workspace", ".github/hooks", "a b", "Makefile.?"} {
		if err := checkProtect(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "/etc", "~/.ssh", "~", ".", "..", "../x", "a/../b", "a/", "a//b", ".git/hooks", ".Git/x", "*", "a/*", "??", "[a", "a\nb", "\xff",
		strings.Repeat("a", maxPath+1),
	} {
		if checkProtect(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

// The names of a path are the command's.
func FuzzProtectionFind(f *testing.F) {
	for _, seed := range []string{"/w/.git/hooks/x", "/w/.GIT./modules/a/modules/hooks", "/w/.v\u017fcode", "/w/a/../b", "/\xff/ . /", "/w/.git/worktrees/t/modules"} {
		f.Add("/w", seed)
	}
	p := Files{Protect: []string{".git", ".vscode", "*.x", ".github/hooks"}}.Protection([]string{"/w/bare"}, []string{"/w/Hooks"})
	f.Fuzz(func(t *testing.T, place, at string) {
		place, at = path.Clean("/"+place), path.Clean("/"+at)
		for _, g := range p.Find(place, at) {
			if g.Since == "" || g.Since[0] != '/' || len(g.Since) > len(at)+len("/objects") {
				t.Errorf("%q in %q: %+v", at, place, g)
			}
		}
	})
}

// What is found quickly is what is found.
func TestMatches(t *testing.T) {
	for _, pattern := range []string{"*.code-workspace", "Makefile.?", "a*", "*a", "[ab]", "x[ab]c", `\*a`, `a\b`, "a", "*.x*"} {
		for _, name := range []string{"", "a", "b", "ab", "*a", "xac", ".code-workspace", "x.code-workspace", "x.code-workspace~", "Makefile.1", "Makefile.", "y.xz"} {
			if want, err := path.Match(pattern, name); err != nil || matches(pattern, name) != want {
				t.Errorf("%q and %q: %v, want %v %v", pattern, name, !want, want, err)
			}
		}
	}
}
