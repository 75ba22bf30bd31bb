// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentjail/agentjail/profiles"
)

// toolFiles is what managers of tools leave below a home.
var toolFiles = map[string]string{
	".nvm/versions/node/v20.1.0/bin/node": "", ".nvm/versions/node/v20.1.0/etc/npmrc": "data", ".nvm/alias/default": "data", ".nvm/.git/config": "data", ".nvm/nvm.sh": "data",
	".local/share/fnm/node-versions/v22/installation/bin/node": "", ".local/state/fnm_multishells/1": "-> /home/ann/.local/share/fnm/node-versions/v22/installation",
	".volta/bin/node": "", ".volta/tools/image/node/20.1.0/bin/node": "", ".volta/tmp/x": "data",
	".rustup/toolchains/stable/bin/cargo": "", ".rustup/settings.toml": "data", ".rustup/tmp/x": "data",
	".cargo/bin/cargo": "", ".cargo/credentials.toml": "data", ".cargo/config.toml": "data", ".cargo/registry/x": "data",
	".pyenv/versions/3.12.1/bin/python3": "", ".pyenv/versions/3.12.1/pip.conf": "data", ".pyenv/shims/python3": "", ".pyenv/.git/config": "data",
	".local/share/uv/python/cpython-3.12.1/bin/python3.12": "", ".local/share/uv/credentials/credentials.toml": "data",
	".local/share/uv/tools/ruff/bin/ruff": "", ".local/bin/ruff": "-> /home/ann/.local/share/uv/tools/ruff/bin/ruff",
	".local/bin/uv": "", ".local/bin/mine": "data", ".local/bin/key": "-> /home/ann/.ssh/id",
	"sdk/go1.23.1/bin/go": "", "sdk/other/x": "data", "go/bin/gopls": "", "go/pkg/mod/x": "data",
	".sdkman/candidates/java/21/bin/java": "", ".sdkman/candidates/java/current": "-> 21", ".sdkman/candidates/maven/3.9/bin/mvn": "",
	".sdkman/candidates/maven/3.9/conf/settings.xml": "data", ".sdkman/candidates/maven/current": "-> 3.9",
	".rbenv/versions/3.3.0/bin/ruby": "", ".bun/bin/bun": "", ".bun/install/cache/x": "data", ".deno/bin/deno": "",
	".asdf/shims/node": "", ".asdf/installs/nodejs/20/etc/npmrc": "data", ".tool-versions": "data",
	".local/share/mise/installs/node/20/bin/node": "", ".local/share/mise/shims/node": "-> ../../../bin/mise", ".local/bin/mise": "",
	".m2/settings.xml": "data", ".npmrc": "data", ".netrc": "data", ".config/mise/config.toml": "data",
}

// toolHost is a host with tools below its home, and more variables.
func toolHost(environ ...string) Host {
	host := fakeHost()
	files := host.Files.(fakeFiles)
	for path, content := range toolFiles {
		files["/home/ann/"+path] = content
	}
	host.Environ = append(environ, host.Environ...)
	return host
}

func withTools(t *testing.T, p profiles.Policy, names ...string) profiles.Policy {
	return with(t, p, func(p profiles.Policy) (profiles.Policy, error) { return p.WithToolchains(names...) })
}

// TestToolsGolden: what each set shows, hides and links of a home that has all of them.
func TestToolsGolden(t *testing.T) {
	var b strings.Builder
	for _, name := range profiles.ToolchainNames() {
		host := toolHost("PATH=/home/ann/.local/state/fnm_multishells/1/bin:/home/ann/.local/bin:relative:/usr/bin")
		plan, err := Compile(withTools(t, base(t), name), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", name)
		for _, m := range plan.Mounts {
			if m.Origin == originTools+name {
				fmt.Fprintf(&b, "  %s %s %s\n", m.Kind, access(m), m.Target)
			}
		}
		var links []string
		for at, to := range plan.Symlinks {
			if within("/home/ann", at) {
				links = append(links, "  link "+at+" -> "+to+"\n")
			}
		}
		slices.Sort(links)
		b.WriteString(strings.Join(links, ""))
	}
	wantGolden(t, "tools", b.String())
}

// TestToolVariables: where the caller's variables say that the tools are elsewhere, that is where they are.
func TestToolVariables(t *testing.T) {
	host := toolHost("NVM_DIR=/srv/nvm", "CARGO_HOME=/srv/cargo", "RUSTUP_HOME=relative", "GOPATH=/srv/a:/srv/b", "JAVA_HOME=/home/ann/.ssh")
	files := host.Files.(fakeFiles)
	for _, path := range []string{"/srv/nvm/versions/node/v1/bin/node", "/srv/cargo/bin/cargo", "/srv/a/bin/x", "/srv/b/bin/y"} {
		files[path] = ""
	}
	plan, err := Compile(withTools(t, base(t), "node", "rust", "go", "java"), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	for path, shown := range map[string]bool{
		"/srv/nvm/versions": true, "/home/ann/.nvm/versions": false, "/srv/cargo/bin": true, "/home/ann/.cargo/bin": false,
		"/home/ann/.rustup/toolchains": true, "/srv/a/bin": true, "/srv/b/bin": true, "/home/ann/.ssh": false,
	} {
		if m, ok := plan.mount(path); ok != shown || m.Writable {
			t.Errorf("%s: mounted %t, writable %t", path, ok, m.Writable)
		}
	}
	for v, enters := range map[string]bool{"NVM_DIR=/srv/nvm": true, "CARGO_HOME=/srv/cargo": false, "GOPATH=/srv/a:/srv/b": false} {
		if slices.Contains(plan.Env, v) != enters {
			t.Errorf("%s: enters %t", v, !enters)
		}
	}
}

// TestToolsAndPolicy: what the policy says itself goes before what a set says.
func TestToolsAndPolicy(t *testing.T) {
	const npmrc = "/home/ann/.nvm/versions/node/v20.1.0/etc/npmrc"
	for _, c := range []struct {
		name string
		say  func(profiles.Policy) (profiles.Policy, error)
		path string
		want Access
	}{
		{"as it is", nil, npmrc, AccessHidden},
		{"as it is", nil, "/home/ann/.nvm/versions/node/v20.1.0/bin/node", AccessReadOnly},
		{"read above", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("~/.nvm") }, npmrc, AccessHidden},
		{"read of it", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(npmrc) }, npmrc, AccessReadOnly},
		{"written", func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("~/.nvm/versions") }, "/home/ann/.nvm/versions/x", AccessReadWrite},
		{"hidden", func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("~/.nvm") }, "/home/ann/.nvm/versions/node/v20.1.0/bin/node", AccessHidden},
	} {
		host := toolHost()
		p := withTools(t, base(t), "node")
		if c.say != nil {
			p = with(t, p, c.say)
		}
		plan, err := Compile(p, host, []string{"true"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		e, err := plan.Explain(host.Files, c.path)
		if err != nil || e.Access != c.want {
			t.Errorf("%s: %s is %s, want %s (%v)", c.name, c.path, e.Access, c.want, err)
		}
	}
}

// TestToolsExplained: an answer names the set, and what is hidden beside tools is told of as a credential.
func TestToolsExplained(t *testing.T) {
	host := toolHost()
	plan, err := Compile(withTools(t, base(t), "node"), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := plan.Explain(host.Files, "/home/ann/.nvm/versions/node/v20.1.0/bin/node")
	if err != nil || !slices.Equal(e.From, []string{"with: node (--with)"}) {
		t.Errorf("from %q, %v", e.From, err)
	}
	e, err = plan.Explain(host.Files, "/home/ann/.nvm/versions/node/v20.1.0/etc/npmrc")
	if err != nil || !slices.Equal(e.From, []string{"with: node (--with)"}) || e.Read.Severity != "credential" || e.Changes[0] != "--ro /home/ann/.nvm/versions/node/v20.1.0/etc/npmrc or read: lets it be read" {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestToolsMissing: a set of which nothing is installed grants nothing, and the plan says where it was looked for.
func TestToolsMissing(t *testing.T) {
	plan, err := Compile(withTools(t, base(t), "rust"), fakeHost(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Tools{{Name: "rust", Asked: true, Places: []string{"/home/ann/.rustup", "/home/ann/.cargo"}}}
	if diff := cmp.Diff(want, plan.Tools); diff != "" || !strings.Contains(plan.String(), "tools, where they are installed\n  rust   none\n") {
		t.Errorf("-want +got:\n%s\n%s", diff, plan)
	}
	policy, err := profiles.Named("codex")
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = Compile(policy, fakeHost(), []string{"true"}); err != nil || plan.Tools[0].Name != "node" || plan.Tools[0].Asked {
		t.Errorf("%v, %v", plan.Tools, err)
	}
}

// TestToolsRefused: a variable of the caller's, or a link of an earlier run's, does not make a set grant what no entry of a policy may.
func TestToolsRefused(t *testing.T) {
	for _, c := range []struct {
		name, variable, link, want string
	}{
		{name: "a link out of the project", variable: "NVM_DIR=/home/ann/src/app/nvm", link: "/home/ann/src/app/nvm", want: "a symbolic link where the command may write"},
		{name: "the state", variable: "NVM_DIR=/srv/nvm", link: "/srv/nvm/versions", want: "agentjail's own state"},
	} {
		host := toolHost(c.variable)
		host.Files.(fakeFiles)[c.link] = map[bool]string{true: "-> /home/ann/.nvm", false: "-> /home/ann/.local/state"}[strings.HasPrefix(c.link, "/home")]
		if _, err := Compile(withTools(t, base(t), "node"), host, []string{"true"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
