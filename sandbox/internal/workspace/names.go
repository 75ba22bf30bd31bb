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
		".lfsconfig", ".env", ".env.*", "mise.*.toml", ".mise.*.toml", ".rtx.toml", ".project", ".classpath", ".settings", ".neoconf.json", ".luarc.json*",
		".bsp", "rust-analyzer.toml", "mcp.json", ".roomodes", ".kilocodemodes", ".claude-plugin", ".codex-plugin", ".cursor-plugin",
		"gemini-extension.json", "hooks/hooks.json", ".lsp.json", ".aider.model.*", ".forge", "forge.yaml", ".serena", ".vimspector.json", ".projections.json",
		".nova", "*.iml", "*.launch", "*.user", "*-gdb.gdb", "*-gdb.py", "nbproject", "omnisharp.json", ".bloop", "hie.yaml", "rust-project.json",
		".rust-project.json", ".solargraph.yml", ".luacheckrc", "latexmkrc", ".latexmkrc", ".formatter.exs", ".jj/repo", ".jj/repo/store/git_target", ".hgsub",
		".hgsubstate", "_darcs/prefs", ".p4config*", "p4config*", ".p4enviro", ".arcconfig", ".arclint", ".fossil-settings",
	}},
	{Settings, "by it a version manager, or a shell that does what one says, chooses which program runs", []string{
		".nvmrc", ".node-version", ".python-version", ".ruby-version", ".ruby-gemset", ".java-version", ".sdkmanrc", ".go-version", ".php-version",
		".perl-version", ".terraform-version", ".opentofu-version", ".terragrunt-version", ".swift-version", ".prototools", ".proto", ".fvmrc", ".fvm",
		".vfox.toml", "vfox.toml", ".pkgx.y*ml", "pkgx.y*ml", ".flox/env", ".direnv/*.rc", "global.json",
	}},
	{Settings, "programs take it for the caller's settings where this is a home", []string{
		".config", ".emacs", ".emacs.d", ".doom.d", ".spacemacs", ".tmux.conf", ".screenrc", ".wezterm.lua", ".gnupg", ".docker/config.json", ".kube", ".aws",
		".terraformrc", "terraform.rc", ".curlrc", ".wgetrc", ".netrc", ".psqlrc", ".sqliterc", ".my.cnf", ".muttrc*", ".mailcap", ".procmailrc", ".zsh_aliases",
		".aliases", "*.desktop", ".gemrc", ".condarc", ".mambarc",
	}},
	{Settings, "an interpreter runs it at its start, or what it names", []string{
		".rprofile", ".renviron", ".pryrc", ".ghci", ".ghcid", ".octaverc", ".iex.exs", ".erlang", ".perldb", ".ocamlinit", ".user.ini", ".pdbrc", ".byebugrc",
		".rdbgrc", ".gdbearlyinit", ".lldbinit-*", "startup.m", "user.clj", "data_readers.clj*", "renv/activate.r", "matplotlibrc", "ipython_config.*",
		"jupyter_*config.*", ".php.ini",
	}},
	{Build, "a package manager runs what it names", []string{
		"package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", ".yarn", ".pnpmfile.*js", ".pnp.*js", "pnpm-workspace.yaml", "lerna.json", "bunfig.toml",
		"gemfile", "gems.rb", "*.gemspec", ".bundle/config", "composer.json", ".gclient", "deps", "conanfile.*", "vcpkg.json", "vcpkg-configuration.json",
		"package.json5", "package.yaml", "pnpmfile.*js", "rush.json", "binding.gyp", "bower.json", ".bowerrc", "import_map.json", "cpanfile", "*.rockspec",
		"shard.yml", "*.nimble", "dub.json", "dub.sdl", "deps.edn", "*.opam", "project.toml", "paket.dependencies", "packages.config",
		"dotnet-tools.json", "puppetfile", "berksfile", "brewfile", "mintfile", "cartfile", "*.podspec", "pip.ini",
	}},
	{Build, "a package manager installs what it names, which can run code", []string{
		"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock", "requirements*.txt",
		"constraints*.txt", "pipfile", "pipfile.lock", "poetry.lock", "poetry.toml", "pdm.lock", "pdm.toml", "uv.lock", "uv.toml", "pixi.toml",
		"pixi.lock", "environment.y*ml", "gemfile.lock", "composer.lock", "flake.lock", "mix.lock", "podfile.lock",
		"cargo.lock", "gems.locked", "rebar.lock", "shard.lock", "pubspec.lock", "package.resolved", "manifest.toml", "renv.lock", "devbox.lock", "conda.y*ml",
	}},
	{Build, "make and its like run what it says", []string{
		"makefile", "gnumakefile", "*.mk", "makefile.am", "makefile.in", "configure.ac", "configure.in", "*.m4", "kbuild", "kconfig", "justfile", ".justfile",
		"taskfile.yml", "taskfile.yaml", "taskfile.dist.y*ml", ".taskrc.y*ml", "rakefile", "rakefile.rb", "*.rake",
		"cmakelists.txt", "cmakepresets.json", "cmakeuserpresets.json", "configure", "meson.build", "meson.options", "*.ninja", "jamroot", "jamfile", "xmake.lua",
		"premake5.lua", ".gn", "build.gn", "*.gni", "*.gyp", "*.gypi", "tupfile", "*.do", "build.xml", "ivy.xml", "ivysettings.xml", "*.gradle", "*.gradle.kts",
		".gradle/init.gradle", "gradle.properties", "gradle/wrapper", "gradle/libs.versions.toml", "gradle/gradle-daemon-jvm.properties", "buildsrc",
		"local.properties", "gradlew", "gradlew.bat", "mvnw", "mvnw.cmd", "pom.xml", ".mvn", ".m2/settings.xml", "workspace", "workspace.bazel",
		"workspace.bzlmod", "module.bazel", "build", "build.bazel", "*.bazelrc", ".bazelversion", ".bazeliskrc", "*.bzl", "tools/bazel", "buck", "targets",
		".buckconfig*", ".plzconfig*", "pants.toml", "pants.ini", ".pants.rc", ".pants.bootstrap", "dockerfile", "dockerfile.*", "*.dockerfile", "containerfile",
		"compose*.y*ml", "docker-compose*.y*ml", "docker-bake*.hcl", "docker-bake*.json", "*.tf", "*.tf.json", "*.hcl", "helmfile*.y*ml", "devspace.yaml",
		"okteto.yml", "garden.yml", "*.garden.yml", "werf.yaml", "dagger.json", ".ddev", ".lando*.yml", ".docksal", "vagrantfile", "flake.nix", "shell.nix", "default.nix", "devenv.nix", "devbox.json", "makefile.toml", "tiltfile", "earthfile",
		"procfile", "procfile.*", ".foreman", ".overmind.env", "mprocs.yaml", "process-compose.y*ml", ".tmuxinator.y*ml", ".tmuxp.*", ".smug.yml", ".teamocil.yml",
		"skaffold.yaml", "magefile.go", "magefiles", ".air.toml", "air.toml", "modd.conf", ".reflex.conf", "buf.gen.yaml", "sqlc.y*ml", "dodo.py",
		"fabfile.py", "tasks.py", "invoke.y*ml", "jakefile*", "cakefile", "snakefile", "nextflow.config", "dvc.yaml", ".dvc/config*",
	}},
	{Build, "a hook manager runs it with git", []string{
		".husky", ".huskyrc*", ".pre-commit-config.yaml", "lefthook*.y*ml", "lefthook*.toml", "lefthook*.json", ".lefthook*", ".githooks",
		".lintstagedrc*", ".overcommit.yml", ".simple-git-hooks*", "simple-git-hooks*", "captainhook.json", "grumphp.yml",
		".git-hooks", "git-hooks", ".hooks", ".cargo-husky", "prek.toml", "hk*.pkl", ".trunk", ".mega-linter.yml", "dangerfile*",
	}},
	{Build, "cargo or go runs it, or what it names", []string{
		"build.rs", ".cargo/config", ".cargo/config.toml", "cargo.toml", "rust-toolchain", "rust-toolchain.toml", "go.work", "go.mod",
		".golangci.*", "nextest.toml", "cross.toml", "trunk.toml", "bacon.toml", ".bacon.toml", "cargo-generate.toml",
	}},
	{Build, "Python runs it, or what it names", []string{
		"setup.py", "setup.cfg", "pyproject.toml", "conftest.py", "tox.ini", "noxfile.py", "pytest.ini", "pyvenv.cfg", "pip.conf", ".flake8",
		"pylintrc", "mypy.ini", ".mypy.ini", ".coveragerc", "hatch.toml", "pdm_build.py",
		".pytest.ini", "pytest.toml", ".pytest.toml", ".pylintrc.toml", "pylintrc.toml", "bin/activate*", "scripts/activate*", "sconscript", "buildout.cfg",
		"conf.py", "mkdocs.y*ml", "gunicorn.conf.py", "uwsgi.ini", "celeryconfig.py", "alembic.ini", "locustfile.py",
	}},
	{Build, "the build of its language runs it, or what it names", []string{
		"*.sbt", ".sbtopts", ".jvmopts", "build.sc", "build.mill", "build.zig", "*.cabal", "*.cmake", "*.csproj", "deno.json", "deno.jsonc",
		"directory.build.props", "directory.build.targets", "dune", "*.fsproj", "mix.exs", "nuget.config", "package.swift", "podfile", "project.clj",
		"pubspec.yaml", "rebar.config", "rebar.config.script", "sconstruct", "setup.hs", "setup.lhs", "stack.yaml", "cabal.project*", "*.vbproj", "wscript",
		"*.vcxproj", "*.props", "*.targets", "*.rsp", "launchsettings.json", "*.pro", "*.qbs", "project.pbxproj", "*.xcscheme", "*.xcconfig", ".xcode.env*",
		"project.swift", "workspace.swift", "tuist", "project.yml", "dune-workspace", "config.nims", "*.nims", "nim.cfg", "makefile.pl", "build.pl", "dist.ini",
		"build.boot", "profiles.clj", "bb.edn", "shadow-cljs.edn", ".sbtrc", ".mill-*", "build.yaml", "melos.yaml",
	}},
	{Build, "a tool of the project runs it as its settings, or loads what it names", []string{
		"*.config.js", "*.config.cjs", "*.config.mjs", "*.config.ts", "*.config.cts", "*.config.mts", "*.conf.js", ".eslintrc*", ".babelrc*",
		"babel.config.json", "jest.config.json", ".prettierrc*", ".stylelintrc*", ".mocharc.*", ".postcssrc*", ".swcrc", ".releaserc*", ".commitlintrc*", "gulpfile*",
		"gruntfile*", "angular.json", "nx.json", ".ripgreprc", ".rubocop.yml", "guardfile", "capfile", "phpunit.xml*", "phpstan.neon*",
		".php-cs-fixer*.php", "cdk.json", "cdktf.json", "wrangler.toml", "wrangler.json*", "ansible.cfg", ".rspec", ".rspec-local", ".simplecov", ".erb-lint.yml",
		".spring.rb", "config.ru", "thorfile", "fastfile", ".proverc", ".perlcriticrc", ".credo.exs", ".scalafix.conf", ".busted", ".ackrc", ".nycrc*", ".c8rc*",
		".taprc", ".ncurc*", ".versionrc*", ".release-it*", ".size-limit*", ".puppeteerrc*", ".graphqlrc*", "codegen.y*ml", "codegen.ts", ".storybook", ".umirc*",
		".fatherrc*", ".dumirc*", ".parcelrc", ".czrc", ".oxlintrc.json", ".changeset/config.json", "nodemon.json", "turbo.json", "project.json",
		"workspace.json", "moon.yml", ".moon", "tsconfig*.json", "jsconfig*.json", ".ember-cli*", "ember-cli-build.js", "gatsby-*.js", "testem.*", "brunch-config.*",
		"vitest.workspace.*", "serverless.*", "pulumi.y*ml", "firebase.json", "samconfig.toml", "electron-builder.*", ".electron-builder.*", ".eleventy.js",
		"_config.yml", "_quarto.yml", "book.toml", "doxyfile", "arara.yaml",
	}},
	{Executable, "Windows runs it, whatever its mode says", []string{"*.bat", "*.cmd", "*.ps1"}},
	{CI, "a CI service runs what it says", []string{
		".github/workflows", ".github/actions", ".gitlab-ci.yml", ".gitlab/ci", "jenkinsfile", ".circleci", ".travis.yml", "azure-pipelines*.yml",
		".buildkite", ".drone.yml", ".woodpecker*", "bitbucket-pipelines.yml", ".forgejo/workflows", ".gitea/workflows", "appveyor.yml", ".cirrus.yml",
		"renovate.json", "codeowners", "action.yml", "action.yaml", "dependabot.yml", ".readthedocs.y*ml", "netlify.toml", "vercel.json",
		".goreleaser.y*ml", "cloudbuild.y*ml", "buildspec.yml", ".azure-pipelines*", ".azuredevops", ".drone.*", ".appveyor.yml", ".cirrus.*", ".semaphore",
		"codefresh.yml", ".codefresh", "wercker.yml", ".tekton", ".teamcity", "bamboo-specs", "screwdriver.yaml", ".harness", "codemagic.yaml", "bitrise.yml",
		".bitrise.yml", ".builds", ".build.yml", ".zuul.*", "zuul.d", "renovate.json5", ".renovaterc*", ".mergify*", "amplify.yml", "appspec.yml", ".ebextensions",
		".platform", "heroku.yml", ".actrc", "ci_scripts",
	}},
	{CI, "a service that makes development environments runs what it says", []string{
		".gitpod*", ".ona", ".codesandbox", ".replit", "replit.nix", ".idx", ".stackblitzrc", "devfile.y*ml", ".devfile.y*ml", "copilot-setup-steps.y*ml",
	}},
	{Instructions, "agents follow what it says", []string{
		"agents.md", "claude.md", "claude.local.md", "gemini.md", ".cursorrules", ".windsurfrules", ".clinerules", "copilot-instructions.md", "skill.md",
		"agents.override.md", "qwen.md", "crush.md", "warp.md", ".roorules*", ".goosehints", ".github/instructions", ".github/prompts", ".github/agents",
		".github/chatmodes", ".github/skills", "agent.md", ".rules", ".augment-guidelines", ".aiassistant", "replit.md", "airules.md", "memory-bank", ".goose",
		".specify", ".bmad-core", ".taskmaster", ".openhands_instructions",
	}},
}

// unpacked are directories that package managers fill as a whole, with whatever the packages brought along.
var unpacked = []string{"node_modules", "site-packages", "vendor"}

// plain are names that mean something of a file, and nothing of a directory.
var plain = []string{"buck", "build", "deps", "repo", "targets", "workspace"}

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
	first   map[byte][]pattern // those with wildcards, by the byte that they begin with
	last    map[byte][]pattern // or else end with
	neither []pattern
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
	ps := patterns{
		exact: map[string][]pattern{}, first: map[byte][]pattern{}, last: map[byte][]pattern{}, leading: map[string]verdict{},
	}
	for _, r := range append(slices.Clone(rules), own) {
		for _, name := range r.names {
			names := strings.Split(name, "/")
			last := names[len(names)-1]
			p := pattern{verdict: verdict{kind: r.kind, reason: r.reason}, above: names[:len(names)-1], last: last}
			for _, dir := range p.above {
				ps.leading[dir] = p.verdict
			}
			ps.add(p)
		}
	}
	return ps
}

// add puts a pattern where judge looks for it.
func (ps *patterns) add(p pattern) {
	i := strings.IndexAny(p.last, wildcards)
	if i < 0 {
		ps.exact[p.last] = append(ps.exact[p.last], p)
		return
	}
	p.prefix, p.suffix = p.last[:i], p.last[strings.LastIndexAny(p.last, wildcards+"]")+1:]
	switch {
	case p.prefix != "":
		ps.first[p.prefix[0]] = append(ps.first[p.prefix[0]], p)
	case p.suffix != "":
		end := p.suffix[len(p.suffix)-1]
		ps.last[end] = append(ps.last[end], p)
	default:
		ps.neither = append(ps.neither, p)
	}
}

// leads tells whether what lies in a directory can mean something by the name of that, in lower case, of which the verdict is given.
func (ps patterns) leads(v verdict, name string) bool {
	_, above := ps.leading[name]
	return v.kind != "" && v.kind != Dependencies || above
}

// judge says what a name of a directory is. Both are in lower case; the directory begins with the name of its place.
func (ps patterns) judge(dir, name string) verdict {
	for _, p := range ps.exact[name] {
		if p.follows(dir) {
			return p.verdict
		}
	}
	for _, globs := range [][]pattern{ps.first[name[0]], ps.last[name[len(name)-1]], ps.neither} {
		for _, p := range globs {
			if p.matches(name) && p.follows(dir) {
				return p.verdict
			}
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
	case "lazygit.yml":
		return verdict{kind: Git, reason: "lazygit takes from it which programs it runs"}
	case "git-rebase-todo":
		return verdict{kind: Git, reason: "git runs its exec lines when the rebase goes on"}
	case "exclude":
		return verdict{kind: Git, reason: "git does not show what it names"}
	}
	return verdict{}
}
