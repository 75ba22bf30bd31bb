// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

func TestGitSettings(t *testing.T) {
	for _, c := range []struct {
		text string
		want []setting
	}{
		{"", nil},
		{"[core]\n\thooksPath = .husky\n", []setting{{"core", "hookspath", ".husky"}}},
		{"[core][filter \"a]\\\"]b\"] clean = a\n[core]\n", []setting{{"filter", "clean", "a"}}},
		{"[Filter.x]\nclean = a\n[filter \"x.y\"]\nclean = b\n", []setting{{"filter", "clean", "a"}, {"filter", "clean", "b"}}},
		{"[CORE]\r\n\tHooksPath=a b  \r\n", []setting{{"core", "hookspath", "a b"}}},
		{"[core] hooksPath = x # why\n[include]\npath = \"a # b\" ; c\n", []setting{{"core", "hookspath", "x"}, {"include", "path", "a # b"}}},
		{"[includeIf\t\"gitdir:~/w/\"]\n path = x\n", []setting{{"includeif", "path", "x"}}},
		{"[includeIf \"gitdir:~/w/\"]\n path = \"~/in\\\"ner\"\n", []setting{{"includeif", "path", `~/in"ner`}}},
		{"[core]\n hooksPath = a\\\nb\n", []setting{{"core", "hookspath", "ab"}}},
		{"[core]\n x = \"a \" \n y = a\\tb\\\\c\n", []setting{{"core", "x", "a "}, {"core", "y", "a\tb\\c"}}},
		{"[core]\n# a \\\nhooksPath = b\n", []setting{{"core", "hookspath", "b"}}},
		{"[core]\nx = a\\\\\nhooksPath = b\n", []setting{{"core", "x", `a\`}, {"core", "hookspath", "b"}}},
		{"[core]\nx = a # c \\\nhooksPath = \"b;\\\nc\" ; \\\ny = d\n", []setting{{"core", "x", "a"}, {"core", "hookspath", "b;c"}, {"core", "y", "d"}}},
		{"[core]\n# hooksPath = a\n; hooksPath = b\n bare\n = c\n", nil},
		{"hooksPath = a\n", []setting{{"", "hookspath", "a"}}},
		{"[core]\nhooksPath = \"open\n", []setting{{"core", "hookspath", "open"}}},
		{"[core\nhooksPath = a\\", []setting{{"core", "hookspath", `a\`}}},
	} {
		if got := slices.Collect(gitSettings(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// A run reads what an earlier one may have written.
// Containment checks: P01.
func FuzzGitSettings(f *testing.F) {
	for _, seed := range []string{"[core]\n\thooksPath = .husky\n", "[a \"b\\\"]\"]\nx = \"#\\\n;\"", "\\", "[", "=\"\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for s := range gitSettings(text) {
			if s.key == "" || strings.ContainsAny(s.key, "=\n") || len(s.value) > len(text) {
				t.Errorf("%q: %q", text, s)
			}
		}
	})
}

func TestGitIdentity(t *testing.T) {
	for _, c := range []struct {
		files fakeFiles
		want  string
	}{
		{nil, ""},
		{fakeFiles{"/home/ann/.gitconfig": "[user]\n\tname = Ann\n"}, ""},
		{fakeFiles{"/home/ann/.gitconfig": "[user]\n\tname = Ann\n\temail = ann@example.com\n\tsigningkey = X\n[credential]\n\thelper = store\n"},
			"[user]\n\tname = \"Ann\"\n\temail = \"ann@example.com\"\n"},
		{fakeFiles{"/home/ann/.gitconfig": "[include]\npath = me\n[user]\nemail = a@b\n[includeIf \"x\"]\npath = work\n", "/home/ann/me": "[user]\nname = A\nemail = c@d\n[include]\npath = .gitconfig\n",
			"/home/ann/work": "[user]\nemail = w@x\n"}, "[user]\n\tname = \"A\"\n\temail = \"a@b\"\n"},
		{fakeFiles{"/home/ann/.gitconfig": "[user]\nemail = a@b\n", "/home/ann/.config/git/config": "[user]\nname = \"A \\\"B\\\" # \\\\\"\n"},
			"[user]\n\tname = \"A \\\"B\\\" # \\\\\"\n\temail = \"a@b\"\n"},
	} {
		host := fakeHost()
		maps.Copy(host.Files.(fakeFiles), c.files)
		plan, err := Compile(base(t), host, []string{"true"})
		if err != nil || plan.Home.Git != c.want {
			t.Errorf("%q: %q %v, want %q", c.files, plan.Home.Git, err, c.want)
		}
		if c.want != "" { // git reads back what was meant
			got := slices.Collect(gitSettings(c.want))
			if len(got) != 2 || c.files["/home/ann/.config/git/config"] != "" && got[0].value != `A "B" # \` {
				t.Errorf("read back: %q", got)
			}
		}
	}
}

// TestProtectedPaths: where a repository's settings send git is protected, whether it is there or not.
func TestProtectedPaths(t *testing.T) {
	const app = "/home/ann/src/app"
	for _, c := range []struct {
		name  string
		files fakeFiles
		want  []string
	}{
		{"none", fakeFiles{app + "/.git/config": "[core]\n\tbare = false\n"}, nil},
		{"hooks", fakeFiles{app + "/.git/config": "[core]\n\thooksPath = .husky\n"}, []string{app + "/.husky"}},
		{"settings", fakeFiles{app + "/.git/config": "[include]\n\tpath = ../conf/git\n[includeIf \"x\"]\n\tpath = y\n"}, []string{app + "/conf/git", app + "/.git/y"}},
		{"settings in settings, and in themselves", fakeFiles{app + "/.git/config": "[include]\n\tpath = a\n\tpath = config\n", app + "/.git/a": "[core]\n\thooksPath = h\n[include]\n\tpath = config\n"},
			[]string{app + "/.git/a", app + "/h", app + "/.git/config"}},
		{"of one worktree", fakeFiles{app + "/.git/config.worktree": "[core]\n\thooksPath = h\n", app + "/.git/config": ""}, []string{app + "/h"}},
		{"outside", fakeFiles{app + "/.git/config": "[core]\n\thooksPath = /etc/hooks\n[include]\n\tpath = ~/more\n"}, nil},
		{"the working directory itself", fakeFiles{app + "/.git/config": "[core]\n\thooksPath = .\n"}, nil},
		{"of the repository around", fakeFiles{"/home/ann/src/.git/config": "[core]\n\thooksPath = app/h\n"}, []string{app + "/h"}},
		{"the caller's own", fakeFiles{app + "/.git/config": "", "/home/ann/.gitconfig": "[core]\n\thooksPath = .hooks\n[include]\n\tpath = x\n"}, []string{app + "/.hooks"}},
		{"the caller's own, included", fakeFiles{app + "/.git/config": "", "/home/ann/.gitconfig": "[includeIf \"x\"]\n\tpath = ~/work\n", "/home/ann/work": "[core]\n\thooksPath = .hooks\n"}, []string{app + "/.hooks"}},
		{"what the caller's own include", fakeFiles{"/home/ann/.gitconfig": "[include]\n\tpath = src/app/conf\n"}, []string{app + "/conf"}},
		{"the caller's own, by another file", fakeFiles{app + "/.git/config": "", "/home/ann/.config/git/config": "[core]\n\thooksPath = .hooks\n"}, []string{app + "/.hooks"}},
		{"files of commands", fakeFiles{
			app + "/.git/config": "[core]\n\tfsmonitor = ./tools/mon\n\tattributesFile = attrs\n[filter \"x\"]\n\tclean = python3 \\\"clean.py\\\" %f\n" +
				"\tsmudge = none.py\n[alias]\n\tst = !sh -c 'tools/st'\n\tdoc = doc\n[blame]\n\tignoreRevsFile = revs\n" +
				"[diff.y]\n\ttextconv = ./none/conv none/arg\n[submodule \"z\"]\n\tupdate = !tools/up\n",
			app + "/tools/mon": "", app + "/attrs": "", app + "/clean.py": "", app + "/tools/st": "", app + "/doc": "", app + "/revs": "",
		}, []string{app + "/tools/mon", app + "/attrs", app + "/clean.py", app + "/tools/st", app + "/none/conv", app + "/tools/up"}},
		{"of submodules, and of theirs", fakeFiles{
			app + "/.git/config": "", app + "/.gitmodules": "[submodule \"a\"]\n\tpath = lib/a\n[submodule \"up\"]\n\tpath = .\n",
			app + "/lib/a/.git": "gitdir: ../../.git/modules/a\n", app + "/.git/modules/a/config": "[core]\n\thooksPath = .husky\n",
			app + "/lib/a/.gitmodules": "[submodule \"b\"]\n\tpath = b\n", app + "/lib/a/b/.git/config": "[core]\n\thooksPath = h\n",
		}, []string{app + "/lib/a/.husky", app + "/lib/a/b/h"}},
		{"no repository", fakeFiles{"/home/ann/.gitconfig": "[core]\n\thooksPath = .hooks\n"}, nil},
		{"without a working tree", fakeFiles{app + "/HEAD": "", app + "/refs/x": "", app + "/objects/x": "", app + "/config": "[core]\n\thooksPath = h\n"}, []string{app + "/h"}},
	} {
		host := fakeHost()
		maps.Copy(host.Files.(fakeFiles), c.files)
		plan, err := Compile(base(t), host, []string{"true"})
		if err != nil || !slices.Equal(plan.Protected.Paths, c.want) {
			t.Errorf("%s: %q %v, want %q", c.name, plan.Protected.Paths, err, c.want)
		}
	}
	// More than is looked at starts nothing, unless it is not protected.
	host := fakeHost()
	for i := range 100 {
		host.Files.(fakeFiles)[fmt.Sprintf("%s/.git/c%d", app, i)] = fmt.Sprintf("[include]\npath = c%d\n[alias]\nx = !%s\n", i+1, strings.Repeat("a ", 1000))
	}
	host.Files.(fakeFiles)[app+"/.git/config"] = "[include]\npath = c0\n"
	if _, err := Compile(base(t), host, []string{"true"}); err == nil || !strings.Contains(err.Error(), "--unprotect .git") {
		t.Errorf("too many settings: %v", err)
	}
	open := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithUnprotect(profiles.RepositoryName) })
	long := fakeHost()
	long.Files.(fakeFiles)[app+"/.git/config"] = strings.Repeat("#", maxSettings) + "\n[core]\nhooksPath = h\n"
	if _, err := Compile(base(t), long, []string{"true"}); err == nil || !strings.Contains(err.Error(), "--unprotect .git") {
		t.Errorf("settings that are too long: %v", err)
	}
	// Of many submodules the last is one as the first.
	many := fakeHost()
	many.Files.(fakeFiles)[app+"/.git/config"] = ""
	for i := range 1000 {
		many.Files.(fakeFiles)[app+"/.gitmodules"] += fmt.Sprintf("[submodule \"m%d\"]\npath = m%d\n", i, i)
		many.Files.(fakeFiles)[fmt.Sprintf("%s/m%d/.git/config", app, i)] = "[core]\nhooksPath = h\n"
	}
	if plan, err := Compile(base(t), many, []string{"true"}); err != nil || !slices.Contains(plan.Protected.Paths, app+"/m999/h") {
		t.Errorf("a thousand submodules: %d paths, %v", len(plan.Protected.Paths), err)
	}
	if _, err := Compile(open, host, []string{"true"}); err != nil {
		t.Errorf("not protected: %v", err)
	}
	p := Protected{Names: []string{profiles.RepositoryName}, Places: []string{app}, Paths: []string{app + "/conf/hooks"}}
	refuses := p.refuses()
	for _, c := range []struct {
		action, path string
		want         bool
	}{
		{"create", app + "/conf/hooks/pre-commit", true},
		{"mkdir", app + "/conf/hooks", true},
		{"mkdir", app + "/conf", false},
		{"symlink", app + "/conf", true},
		{"rename", app + "/conf", true},
		{"create", app + "/conf/other", false},
		{"create", app + "/conf/hooksmore", false},
	} {
		if got := refuses(c.action, c.path) != nil; got != c.want {
			t.Errorf("%s %s: %v", c.action, c.path, got)
		}
	}
}
