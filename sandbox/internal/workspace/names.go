// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"path"
	"slices"
	"strings"
)

// Kind says what a finding is about.
type Kind string

// The kinds, most dangerous first.
const (
	Setuid       Kind = "setuid"
	Special      Kind = "special" // FIFO, socket, device
	Hardlink     Kind = "hardlink"
	Repository   Kind = "repository"
	Git          Kind = "git"
	Settings     Kind = "settings"
	Symlink      Kind = "symlink"
	Build        Kind = "build"
	CI           Kind = "ci"
	Instructions Kind = "instructions"
	Executable   Kind = "executable"
	Dependencies Kind = "dependencies"
	Unread       Kind = "unread"    // could not be looked at
	Truncated    Kind = "truncated" // was left out, by a bound
)

var kinds = []Kind{
	Setuid, Special, Hardlink, Repository, Git, Settings, Symlink, Build, CI, Instructions, Executable, Dependencies, Unread, Truncated,
}

// rule says which names are of a kind: one name, or some with slashes between, wherever they lie. What lies below counts too.
type rule struct {
	kind   Kind
	reason string
	names  []string // in lower case, as path.Match has it
}

// rules are the names that programs of the host run or trust, by the documentation of those programs. Settings of agents, editors
// and shells that a policy protects need no entry: newPatterns gets them.
var rules = []rule{
	{Settings, "editors, shells or agents run or trust it when somebody works there", []string{
		".vscode", "*.code-workspace", ".idea", ".zed", ".fleet", ".devcontainer", ".devcontainer.json", ".envrc", ".mise.toml", "mise.toml",
		".tool-versions", ".autoenv", ".claude", ".codex", ".cursor", ".gemini", ".agents", ".kiro", ".continue", ".windsurf", ".mcp.json",
		"opencode.json", "opencode.jsonc", ".opencode", ".agentjail.yaml", ".github/hooks", ".exrc", ".nvim.lua", ".dir-locals.el", ".gdbinit",
		".lldbinit", ".irbrc", ".pylintrc", ".gitmodules", ".gitattributes",
		".lfsconfig", ".env", ".env.local", "mise.*.toml", ".mise.*.toml", ".project", ".classpath", ".settings", ".neoconf.json", ".luarc.json*",
		".bsp", "rust-analyzer.toml", "mcp.json", ".roomodes", ".tmux.conf", ".screenrc", ".emacs", ".config/nvim", ".config/helix",
	}},
	{Settings, "an interpreter runs it at its start, or what it names", []string{
		".rprofile", ".renviron", ".pryrc", ".ghci", ".octaverc", ".iex.exs", ".erlang", ".perldb", ".ocamlinit", ".user.ini",
	}},
	{Build, "a package manager runs what it names", []string{
		"package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", ".yarn", ".pnpmfile.*js", ".pnp.*js", "pnpm-workspace.yaml", "lerna.json", "bunfig.toml",
		"gemfile", "*.gemspec", ".bundle/config", "composer.json", ".gclient", "conanfile.*", "vcpkg.json",
	}},
	{Build, "a package manager installs what it names, which can run code", []string{
		"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock", "requirements*.txt",
		"constraints*.txt", "pipfile", "pipfile.lock", "poetry.lock", "poetry.toml", "pdm.lock", "pdm.toml", "uv.lock", "uv.toml", "pixi.toml",
		"pixi.lock", "environment.y*ml", "gemfile.lock", "composer.lock", "flake.lock", "mix.lock", "podfile.lock",
	}},
	{Build, "make and its like run what it says", []string{
		"makefile", "gnumakefile", "*.mk", "justfile", ".justfile", "taskfile.yml", "taskfile.yaml", "taskfile.dist.y*ml", "rakefile",
		"cmakelists.txt", "cmakepresets.json", "cmakeuserpresets.json", "configure", "meson.build", "build.xml", "build.gradle*", "settings.gradle*",
		"gradle.properties", "gradle/wrapper", "gradlew", "mvnw", "pom.xml", ".mvn", "workspace.bazel", "module.bazel", "build.bazel", ".bazelrc",
		".bazelversion", ".bazeliskrc", "*.bzl", "tools/bazel", ".buckconfig", "pants.toml", "dockerfile", "dockerfile.*", "containerfile", "compose.y*ml",
		"docker-compose*.y*ml", "vagrantfile", "flake.nix", "shell.nix", "default.nix", "devenv.nix", "devbox.json", "makefile.toml", "tiltfile", "earthfile",
		"procfile", "skaffold.yaml", "magefile.go", ".air.toml", "dodo.py", "fabfile.py",
	}},
	{Build, "a hook manager runs it with git", []string{
		".husky", ".huskyrc*", ".pre-commit-config.yaml", "lefthook*.y*ml", "lefthook*.toml", "lefthook*.json", ".lefthook*", ".githooks",
		".lintstagedrc*", ".overcommit.yml", ".simple-git-hooks*", "simple-git-hooks*", "captainhook.json", "grumphp.yml",
	}},
	{Build, "cargo or go runs it, or what it names", []string{
		"build.rs", ".cargo/config", ".cargo/config.toml", "cargo.toml", "rust-toolchain", "rust-toolchain.toml", "go.work", "go.mod",
		".golangci.*",
	}},
	{Build, "Python runs it, or what it names", []string{
		"setup.py", "setup.cfg", "pyproject.toml", "conftest.py", "tox.ini", "noxfile.py", "pytest.ini", "pyvenv.cfg", "pip.conf", ".flake8",
		"pylintrc", "mypy.ini", ".mypy.ini", ".coveragerc", "hatch.toml", "pdm_build.py",
	}},
	{Build, "the build of its language runs it, or what it names", []string{
		"*.sbt", ".sbtopts", ".jvmopts", "build.sc", "build.mill", "build.zig", "*.cabal", "*.cmake", "*.csproj", "deno.json", "deno.jsonc",
		"directory.build.props", "directory.build.targets", "dune", "*.fsproj", "mix.exs", "nuget.config", "package.swift", "podfile", "project.clj",
		"pubspec.yaml", "rebar.config", "sconstruct", "setup.hs", "stack.yaml", "*.vbproj", "wscript",
	}},
	{Build, "a tool of the project runs it as its settings, or loads what it names", []string{
		"*.config.js", "*.config.cjs", "*.config.mjs", "*.config.ts", "*.config.cts", "*.config.mts", "*.conf.js", ".eslintrc*", ".babelrc*",
		"babel.config.json", "jest.config.json", ".prettierrc*", ".stylelintrc*", ".mocharc.*", ".postcssrc*", ".swcrc", ".releaserc*", ".commitlintrc*", "gulpfile*",
		"gruntfile*", "angular.json", "nx.json", ".ripgreprc", ".rubocop.yml", "guardfile", "capfile", "phpunit.xml*", "phpstan.neon*",
		".php-cs-fixer*.php", "cdk.json", "wrangler.toml", "ansible.cfg", ".rspec",
	}},
	{CI, "a CI service runs what it says", []string{
		".github/workflows", ".github/actions", ".gitlab-ci.yml", ".gitlab/ci", "jenkinsfile", ".circleci", ".travis.yml", "azure-pipelines*.yml",
		".buildkite", ".drone.yml", ".woodpecker*", "bitbucket-pipelines.yml", ".forgejo/workflows", ".gitea/workflows", "appveyor.yml", ".cirrus.yml",
		"renovate.json", "codeowners", "action.yml", "action.yaml", "dependabot.yml", ".gitpod.yml", ".readthedocs.y*ml", "netlify.toml", "vercel.json",
		".goreleaser.y*ml", "cloudbuild.y*ml", "buildspec.yml",
	}},
	{Instructions, "agents follow what it says", []string{
		"agents.md", "claude.md", "claude.local.md", "gemini.md", ".cursorrules", ".windsurfrules", ".clinerules", "copilot-instructions.md", "skill.md",
		"agents.override.md", "qwen.md", "crush.md", "warp.md", ".roorules*", ".goosehints", ".github/instructions", ".github/prompts", ".github/agents",
		".github/chatmodes",
	}},
}

// unpacked are directories that package managers fill as a whole, with whatever the packages brought along.
var unpacked = []string{"node_modules", "site-packages", "vendor"}

// reasonDependencies is of all that lies in one of those.
const reasonDependencies = "packages were added or changed in it; what uses them runs their code"

// verdict is what a name says of a file. The zero value: nothing.
type verdict struct {
	kind   Kind
	reason string
	whole  string // the directory that is reported for all in it
}

// patterns are rules, by the last name of each.
type patterns struct {
	exact   map[string][]pattern
	globs   []pattern
	leading map[string]verdict // by the names of directories in which one has a name that means something
}

type pattern struct {
	verdict        verdict
	above          []string // names that come before
	last           string
	prefix, suffix string // of last, before and after its wildcards
}

// wildcards are what makes a pattern of a name (path.Match).
const wildcards = `*?[\`

// newPatterns are the rules, with the names of settings that a policy protects.
func newPatterns(protected []string) patterns {
	own := rule{Settings, "the policy protects this name, and did not here", nil}
	for _, name := range protected {
		if name != ".git" {
			own.names = append(own.names, strings.ToLower(name))
		}
	}
	ps := patterns{exact: map[string][]pattern{}, leading: map[string]verdict{}}
	for _, r := range append(slices.Clone(rules), own) {
		for _, name := range r.names {
			names := strings.Split(name, "/")
			last := names[len(names)-1]
			p := pattern{verdict: verdict{kind: r.kind, reason: r.reason}, above: names[:len(names)-1], last: last}
			for _, dir := range p.above {
				ps.leading[dir] = p.verdict
			}
			if i := strings.IndexAny(last, wildcards); i >= 0 {
				p.prefix, p.suffix = last[:i], last[strings.LastIndexAny(last, wildcards+"]")+1:]
				ps.globs = append(ps.globs, p)
			} else {
				ps.exact[last] = append(ps.exact[last], p)
			}
		}
	}
	return ps
}

// judge says what a name of a directory is. Both are in lower case; the directory begins with the name of its place.
func (ps patterns) judge(dir, name string) verdict {
	for _, p := range ps.exact[name] {
		if p.follows(dir) {
			return p.verdict
		}
	}
	for _, p := range ps.globs {
		if p.matches(name) && p.follows(dir) {
			return p.verdict
		}
	}
	return verdict{}
}

// matches is path.Match, which is slow to find out that a name neither begins nor ends as the pattern does.
func (p pattern) matches(name string) bool {
	if !strings.HasPrefix(name, p.prefix) || !strings.HasSuffix(name, p.suffix) {
		return false
	}
	ok, err := path.Match(p.last, name)
	return err == nil && ok
}

// follows tells whether a directory ends with the names that come before.
func (p pattern) follows(dir string) bool {
	if len(p.above) == 0 {
		return true
	}
	names := strings.Split(dir, "/")
	if len(names) < len(p.above) {
		return false
	}
	for i, name := range names[len(names)-len(p.above):] {
		if ok, err := path.Match(p.above[i], name); err != nil || !ok {
			return false
		}
	}
	return true
}

// judgePython says whether Python runs a file at each of its starts (site in the Python library's reference).
func judgePython(name string) verdict {
	if strings.HasSuffix(name, ".pth") || name == "sitecustomize.py" || name == "usercustomize.py" {
		return verdict{kind: Build, reason: "Python runs it at each of its starts"}
	}
	return verdict{}
}

// sample ends the names of the hooks that git puts into each repository as examples, and never runs.
const sample = ".sample"

// judgeGit judges a path below a git directory (gitrepository-layout(5), githooks(5)).
func judgeGit(names []string) verdict {
	last := len(names) - 1
	if slices.Contains(names[:last], "refs") || names[0] == "logs" {
		return verdict{}
	}
	if last == 1 && (names[0] == "remotes" || names[0] == "branches") {
		return verdict{kind: Git, reason: "git takes from it where it fetches from"}
	}
	if slices.Contains(names[:last], "hooks") && !strings.HasSuffix(names[last], sample) {
		return verdict{kind: Git, reason: "git runs it as a hook"}
	}
	switch names[last] {
	case "config", "config.worktree":
		return verdict{kind: Git, reason: "git takes from it which programs it runs"}
	case "commondir", "gitdir", "alternates":
		return verdict{kind: Git, reason: "git follows it to another directory"}
	case "attributes":
		return verdict{kind: Git, reason: "git takes from it which filters it runs"}
	case "git-rebase-todo":
		return verdict{kind: Git, reason: "git runs its exec lines when the rebase goes on"}
	case "exclude":
		return verdict{kind: Git, reason: "git does not show what it names"}
	}
	return verdict{}
}
