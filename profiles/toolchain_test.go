// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestToolchainNames(t *testing.T) {
	want := []string{"asdf", "bun", "deno", "go", "java", "mise", "node", "python", "ruby", "rust"}
	if got := ToolchainNames(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range ToolchainNames() {
		set, err := LookupToolchain(name)
		if err != nil {
			t.Fatal(err)
		}
		if set.Name != name || slices.Contains(Names(), name) || !strings.HasPrefix(set.Digest, "sha256:") {
			t.Errorf("%s: calls itself %q, digest %q", name, set.Name, set.Digest)
		}
		if set.Description == "" || len(set.Description) > 80 || len(set.Places) == 0 {
			t.Errorf("%s: %d places, description %q", name, len(set.Places), set.Description)
		}
		for _, v := range set.Pass {
			if LooksSecret(v, "x") {
				t.Errorf("%s passes %s", name, v)
			}
		}
	}
	if _, err := LookupToolchain("../builtin/base"); err == nil || !strings.Contains(err.Error(), "there are asdf, bun,") {
		t.Errorf("unknown set: %v", err)
	}
}

// What tools write as they work is the run's own: a variable that leads to the caller's place for it would make that fail.
func TestToolchainsPassNoWrittenPlace(t *testing.T) {
	for _, name := range ToolchainNames() {
		set, _ := LookupToolchain(name)
		for _, v := range []string{"CARGO_HOME", "GOPATH", "GOBIN", "GOCACHE", "GOMODCACHE", "BUN_INSTALL", "DENO_DIR", "DENO_INSTALL", "PNPM_HOME", "PIPX_HOME", "GEM_HOME", "GRADLE_USER_HOME", "UV_CACHE_DIR"} {
			if slices.Contains(set.Pass, v) {
				t.Errorf("%s passes %s", name, v)
			}
		}
	}
}

// shows tells whether a set shows a path below the home.
func (t Toolchain) shows(file string) bool {
	below := func(at string, patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			for p := file; p != "." && p != "/" && p != "~"; p = path.Dir(p) {
				if ok, _ := path.Match(path.Join(at, pattern), p); ok {
					return true
				}
			}
			return false
		})
	}
	return slices.ContainsFunc(t.Places, func(p ToolPlace) bool {
		read := p.Read
		if len(read) == 0 {
			read = []string{""}
		}
		return p.At != "" && below(p.At, read) && !below(p.At, p.Hide)
	})
}

func TestToolchainsShowTools(t *testing.T) {
	for _, c := range []struct {
		set    string
		shown  []string
		hidden []string
	}{
		{"node", []string{"~/.nvm/versions/node/v20.1.0/bin/node", "~/.nvm/nvm.sh", "~/.volta/bin/node", "~/.local/share/fnm/node-versions/v20/installation/bin/node", "~/.nodenv/shims/node", "~/.local/share/pnpm/pnpm"},
			[]string{"~/.nvm/versions/node/v20.1.0/etc/npmrc", "~/.volta/tools/image/node/20.1.0/etc/npmrc", "~/.nvm/.git/config", "~/.local/share/pnpm/store", "~/n/etc/npmrc"}},
		{"python", []string{"~/.pyenv/versions/3.12.1/bin/python3", "~/.local/share/uv/python/cpython-3.12.1-linux/bin/python3", "~/.local/bin/uv",
			"~/.local/share/uv/tools/x/bin/x", "~/.local/share/pipx/venvs/x/pyvenv.cfg", "~/.pyenv/plugins/x/bin/pyenv-x"},
			[]string{"~/.pyenv/versions/3.12.1/pip.conf", "~/.local/share/uv/credentials/credentials.toml", "~/.local/share/uv/python/cpython-3.12.1-linux/pip.conf", "~/.local/bin/mine", "~/.local/share/uv/tools/x/pip.conf",
				"~/.local/share/uv/tools/x/uv-receipt.toml", "~/.local/share/pipx/venvs/x/pipx_metadata.json", "~/.pyenv/versions/miniconda3/.condarc",
				"~/.pyenv/versions/miniconda3/envs/x/.condarc", "~/.pyenv/plugins/x/.git/config"}},
		{"rust", []string{"~/.cargo/bin/cargo", "~/.rustup/toolchains/stable/bin/rustc"}, []string{"~/.cargo/config.toml", "~/.cargo/registry"}},
		{"go", []string{"~/sdk/go1.23.1/bin/go", "~/go/bin/gopls"}, []string{"~/go/pkg/mod", "~/.config/go/env"}},
		{"java", []string{"~/.sdkman/candidates/java/21/bin/java", "~/.sdkman/candidates/maven/3.9/bin/mvn", "~/.jdks/openjdk-21/bin/java"},
			[]string{"~/.sdkman/candidates/maven/3.9/conf/settings.xml", "~/.sdkman/candidates/gradle/8/init.d/x.gradle", "~/.sdkman/candidates/java/21/conf/management/jmxremote.password", "~/.sdkman/etc/config",
				"~/.sdkman/candidates/java/8/jre/lib/management/jmxremote.password", "~/.jdks/corretto-8/jre/lib/management/jmxremote.password"}},
		{"ruby", []string{"~/.rbenv/versions/3.3.0/bin/ruby", "~/.rubies/ruby-3.3/bin/ruby"}, []string{"~/.rbenv/versions/3.3.0/etc/gemrc"}},
		{"bun", []string{"~/.bun/bin/bun"}, []string{"~/.bun/install/cache"}},
		{"deno", []string{"~/.deno/bin/deno"}, []string{"~/.cache/deno"}},
		{"asdf", []string{"~/.asdf/shims/node", "~/.asdf/installs/nodejs/20/bin/node", "~/.asdf/plugins/corp/bin/exec-path", "~/.tool-versions"},
			[]string{"~/.asdf/installs/nodejs/20/etc/npmrc", "~/.asdf/installs/maven/3.9/conf/settings.xml", "~/.asdf/installs/python/3.12/pip.conf",
				"~/.asdf/installs/java/8/jre/lib/management/jmxremote.password", "~/.asdf/installs/python/miniconda3/.condarc", "~/.asdf/plugins/corp/.git/config"}},
		{"mise", []string{"~/.local/share/mise/installs/node/20/bin/node", "~/.local/bin/mise"},
			[]string{"~/.config/mise/config.toml", "~/.local/share/mise/installs/ruby/3.3/etc/gemrc", "~/.local/state/mise/trusted-configs"}},
	} {
		set, err := LookupToolchain(c.set)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range c.shown {
			if !set.shows(file) {
				t.Errorf("%s does not show %s", c.set, file)
			}
		}
		secrets := append(c.hidden, "~/.npmrc", "~/.bunfig.toml", "~/.netrc", "~/.cargo/credentials.toml", "~/.cargo/credentials", "~/.m2/settings.xml",
			"~/.gem/credentials", "~/.pypirc", "~/.config/pip/pip.conf", "~/.config/uv/uv.toml", "~/.gradle/gradle.properties", "~/.yarnrc.yml", "~/.gemrc",
			"~/.bundle/config", "~/.ssh/id_rsa", "~/.bashrc", "~/.config/gh/hosts.yml", "~/.docker/config.json")
		for _, file := range secrets {
			if set.shows(file) {
				t.Errorf("%s shows %s", c.set, file)
			}
		}
	}
}

func TestToolchainRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"places: [{at: ~/.x, read: [..]}]", `pattern ".." must name something below its place`},
		{"places: [{at: ~/.x, read: [../y]}]", `must name something below its place`},
		{"places: [{at: ~/.x, read: ['*']}]", `cannot begin with *`},
		{"places: [{at: ~/.x, read: ['[']}]", `syntax error in pattern`},
		{"places: [{at: ~/.x, hide: [/y]}]", `must name something below its place`},
		{"places: [{at: '~'}]", `cannot be granted`},
		{"places: [{read: [x]}]", `needs at or variable`},
		{"places: [{variable: X}]", `needs at or variable`},
		{"places: [{variable: X-Y, read: [x]}]", `is not the name of a variable`},
		{"pass: [X*]", `is not the name of a variable`},
		{"nosuch: 1", `unknown key`},
	} {
		if _, err := parseToolchain("with:x", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "with:x:1:") {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
}

// A policy names its sets, and its digest changes with what they are.
func TestPolicyWithToolchains(t *testing.T) {
	p, err := Parse("p.yaml", []byte("version: 1\nfilesystem: {with: [rust, node]}\nenvironment: {set: {NVM_DIR: /x}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithToolchains("go", "node"); err != nil {
		t.Fatal(err)
	}
	if got := p.Files().With; !slices.Equal(got, []string{"go", "node", "rust"}) {
		t.Errorf("with %q", got)
	}
	node, _ := LookupToolchain("node")
	if !strings.Contains(string(p.YAML()), `- "node" # `+node.Digest+"\n") {
		t.Errorf("the digest is not of what the set is:\n%s", p.YAML())
	}
	again, err := Parse("again", p.YAML())
	if err != nil || again.Digest() != p.Digest() {
		t.Errorf("not read back: %v\n%s", err, p.YAML())
	}
	kept, withheld := p.Environment().Select([]string{"RUSTUP_HOME=/r", "NVM_DIR=/n", "CARGO_HOME=/c", "PYENV_ROOT=/p"})
	if !slices.Equal(kept, []string{"NVM_DIR=/x", "RUSTUP_HOME=/r"}) || !slices.Equal(withheld, []string{"CARGO_HOME", "PYENV_ROOT"}) {
		t.Errorf("kept %q, withheld %q", kept, withheld)
	}
	if o := p.Origins("with", "node"); len(o) != 2 || o[0].String() != "p.yaml:2:27" || o[1].Source != "" {
		t.Errorf("from %v", o)
	}
	for _, err := range []error{
		func() error { _, err := p.WithToolchains("nosuch"); return err }(),
		func() error { _, err := Parse("p", []byte("version: 1\nfilesystem: {with: [nosuch]}\n")); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), `the set of tools "nosuch" is unknown: there are asdf,`) {
			t.Errorf("unknown set: %v", err)
		}
	}
}
