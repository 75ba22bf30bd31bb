// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"path"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	ps := newPatterns([]string{".git", ".zed", "Mine.*", "conf/autostart", "?und?"})
	for name, want := range map[string]Kind{
		"package.json": Build, "a/b/makefile": Build, "x.mk": Build, "build.rs": Build, ".cargo/config.toml": Build,
		"cargo/config.toml": "", "config.toml": "", "setup.py": Build, ".pip/pip.conf": Build, "a/b.csproj": Build, "package.swift": Build, "deno.json": Build, "src/main.rs": "", "main.go": "",
		"yarn.lock": Build, "requirements-dev.txt": Build, "requirements.md": "", "next.config.mjs": Build, "config.js": "", ".eslintrc.json": Build, ".rprofile": Settings,
		"mise.dev.toml": Settings, "misc.toml": "", "tools/bazel": Build, "bazel": "", ".luarc.json": Settings, ".luarc": "", "readme.md": "", "makefile.txt": "",
		".github/workflows": CI, "workflows": "", "x.github/workflows": "", ".gitlab-ci.yml": CI, "agents.md": Instructions,
		".vscode": Settings, "a/.envrc": Settings, "x.code-workspace": Settings, "mine.toml": Settings, "conf/autostart": Settings,
		"autostart": "", ".git": "", "bundy": Settings, "und": "", "build.yaml": Build, "build": Build, "bin/activate.fish": Build, "activate": "", "x.tf": Build, ".env.local": Settings,
		".config/x/y": "", ".config": Settings, "x.cmd": Executable, ".jj/repo": Settings, "repo": "", ".github/skills": Instructions, ".zuul.yaml": CI,
	} {
		dir, last := path.Split("place/" + name)
		if got := ps.judge(strings.TrimSuffix(dir, "/"), last); got.kind != want {
			t.Errorf("%s is %q, want %q", name, got.kind, want)
		}
	}
}

func TestNamesOfGit(t *testing.T) {
	for name, want := range map[string]Kind{
		"hooks/pre-commit": Git, "hooks/pre-commit.sample": "", "config": Git, "config.worktree": Git, "info/attributes": Git, "info/exclude": Git,
		"rebase-merge/git-rebase-todo": Git, "rebase-merge/done": "", "remotes/origin": Git, "branches/origin": Git, "refs/remotes/origin/main": "",
		"objects/info/alternates": Git, "modules/sub/hooks/x": Git, "modules/a/config": Git, "worktrees/w/gitdir": Git, "commondir": Git,
		"index": "", "head": "", "refs/heads/hooks/x": "", "refs/heads/config": "", "logs/refs/heads/config": "", "objects/ab/cdef": "",
		"modules/a/refs/heads/config": "", "hooks": "", "lazygit.yml": Git,
	} {
		if got := judgeGit(strings.Split(name, "/")); got.kind != want {
			t.Errorf("%s is %q, want %q", name, got.kind, want)
		}
	}
}

func TestScripts(t *testing.T) {
	for text, want := range map[string]bool{
		`{"name": "x", "version": "1", "main": "a.js"}`: false, `{}`: false,
		`{"name": "x", "dependencies": {"a": "file:./a"}}`: true, `{"eslintConfig": {}}`: true,
		`{"scripts": {"test": "x"}}`: true, `{"bin": "x"}`: true, `{"scr\u0069pts": {}}`: true, `{`: true, ``: true, `[]`: true,
	} {
		if got := hasScripts([]byte(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
