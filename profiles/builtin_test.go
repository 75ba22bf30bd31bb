// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The effective policy of every embedded profile is a file, so that a change
// of what a profile grants shows in review.
func TestBuiltinGolden(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			p := named(t, name)
			got := "# " + p.Digest() + "\n" + string(p.YAML())
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s (-update writes it anew):\n%s", file, got)
			}
		})
	}
	golden, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(golden) != len(Names()) {
		t.Errorf("%d golden files for %d profiles, %v", len(golden), len(Names()), err)
	}
}

func TestNames(t *testing.T) {
	want := []string{"base", "ci", "claude-code", "codex", "gemini-cli", "opencode"}
	if got := Names(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range Names() {
		p, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != name || p.Policy.Name() != name {
			t.Errorf("%s calls itself %s and %s", name, p.Name, p.Policy.Name())
		}
		if p.Description == "" || len(p.Description) > 70 || strings.ContainsAny(p.Description, "\n") {
			t.Errorf("%s: the description is not one line of at most 70 characters: %q", name, p.Description)
		}
	}
	if _, err := Named("nosuch"); err == nil || !strings.Contains(err.Error(), "there are base, ci,") {
		t.Errorf("unknown profile: %v", err)
	}
	if p, err := Named(""); err == nil || p.Digest() != (Policy{}).Digest() {
		t.Errorf("empty name: %v", err)
	}
}

func TestForCommand(t *testing.T) {
	for argv0, want := range map[string]string{
		"claude": "claude-code", "/usr/local/bin/claude": "claude-code", "./codex": "codex",
		"gemini": "gemini-cli", "opencode": "opencode",
		"bash": "base", "": "base", "/": "base", "claude-x": "base", "laude": "base", "Claude": "base",
		"[": "base", "]": "base", "claude]": "base", "codex/": "codex",
	} {
		if got := ForCommand(argv0); got != want {
			t.Errorf("%q: got %s, want %s", argv0, got, want)
		}
	}
	chosen := map[string]string{}
	for _, name := range Names() {
		p, err := Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Commands {
			if other, twice := chosen[c]; twice {
				t.Errorf("%s chooses %s and %s", c, other, name)
			}
			chosen[c] = name
			if got := ForCommand(c); got != name {
				t.Errorf("%s is listed by %s and chooses %s", c, name, got)
			}
		}
	}
}

// What a profile must not grant, whatever else changes in it.
func TestBuiltinGrantsAreHarmless(t *testing.T) {
	private := []string{
		"/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private",
		"/etc/npmrc", "/etc/pip.conf", "/etc/krb5.keytab", "/etc/machine-id", "/etc/docker", "/etc/kubernetes",
		"/etc/letsencrypt", "/etc/NetworkManager", "/etc/wireguard", "/etc/environment", "/etc/passwd", "/etc/hosts",
		"/root/x", "/home/x", "/run/docker.sock", "/var/log", "/var/lib/docker", "/mnt/x", "/media/x", "/boot/x",
		"~/.ssh/id_rsa", "~/.aws/credentials", "~/.config/gh/hosts.yml", "~/.npmrc", "~/.netrc", "~/.git-credentials",
		"~/.gnupg", "~/.docker/config.json", "~/.kube/config", "~/.cargo/credentials.toml", "~/.claude/.credentials.json",
		"~/.codex/auth.json", "~/.gemini/oauth_creds.json", "~/.local/share/opencode/auth.json", "~/.local/share/keyrings",
		"~/.bash_history", "~/.nvm/.git", "~/.gitconfig",
		"~/.nvm/versions/node/v20.1.0/etc/npmrc", "~/.npm-global/etc/npmrc",
	}
	for _, name := range Names() {
		p := named(t, name)
		f := p.Files()
		if len(f.Write) != 0 || f.Workdir != "rw" || f.Home == "" {
			t.Errorf("%s: writes %q, working directory %q, home %q", name, f.Write, f.Workdir, f.Home)
		}
		for _, secret := range private {
			if covered(secret, setOf(f.Read)) {
				t.Errorf("%s grants %s", name, secret)
			}
			for _, tools := range f.With {
				if set, _ := LookupToolchain(tools); set.shows(secret) {
					t.Errorf("%s grants %s with %s", name, secret, tools)
				}
			}
		}
		for _, path := range []string{"/etc", "/var", "/home", "/root", "/run", "/opt"} {
			if slices.Contains(f.Read, path) {
				t.Errorf("%s grants all of %s", name, path)
			}
		}
		if len(p.Loopback())+len(p.Syscalls()) != 0 || p.Limits() != (Limits{}) {
			t.Errorf("%s has loopback ports, system calls or limits", name)
		}
		for _, r := range p.Rules() {
			if r.Suffix || r.Prefix.IsValid() || !reflect.DeepEqual(r.Ports, []PortRange{{443, 443}}) {
				t.Errorf("%s grants more than one host by HTTPS: %s", name, r)
			}
		}
	}
	for _, name := range []string{"base", "ci"} {
		if rules := named(t, name).Rules(); len(rules) != 0 {
			t.Errorf("%s grants network: %v", name, rules)
		}
	}
}

// A variable that looks like a credential enters only with the agent that it
// belongs to.
func TestBuiltinCredentials(t *testing.T) {
	want := map[string][]string{
		"claude-code": {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"},
		"codex":       {"CODEX_API_KEY", "OPENAI_API_KEY"},
		"gemini-cli":  {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
		"opencode":    {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENCODE_API_KEY"},
	}
	for _, name := range Names() {
		env := named(t, name).Environment()
		var got []string
		for _, v := range env.Pass {
			if LooksSecret(v, "x") && !strings.HasSuffix(v, "_TOKENS") {
				got = append(got, v)
			}
		}
		if !slices.Equal(got, want[name]) {
			t.Errorf("%s passes %q, want %q", name, got, want[name])
		}
		// Variables that make a program run other code, or lead to sockets and
		// proxies of the machine.
		for _, v := range []string{
			"LD_PRELOAD=x", "LD_LIBRARY_PATH=x", "BASH_ENV=x", "ENV=x", "NODE_OPTIONS=x", "PYTHONPATH=x", "GIT_SSH_COMMAND=x",
			"HTTP_PROXY=x", "https_proxy=x", "SSH_AUTH_SOCK=x", "DBUS_SESSION_BUS_ADDRESS=x", "XDG_RUNTIME_DIR=x",
			"DISPLAY=x", "DOCKER_HOST=x", "GOPROXY=x", "NPM_TOKEN=x", "AWS_PROFILE=x", "GITHUB_TOKEN=x", "DATABASE_URL=x",
			"ACTIONS_ID_TOKEN_REQUEST_TOKEN=x", "GITHUB_ENV=x", "GITHUB_PATH=x", "CI_JOB_TOKEN=x", "CI_REPOSITORY_URL=x",
		} {
			if kept, _ := env.Select([]string{v}); slices.Contains(kept, v) {
				t.Errorf("%s passes %s", name, v)
			}
		}
	}
}

// An error in an embedded profile names it, and one that cannot be read grants
// nothing.
func TestEmbeddedDecoder(t *testing.T) {
	d := decoder{reader: reader{source: "profile:x"}, embedded: true}
	err := d.document([]byte("version: 1\ncommands: [a/b]\n"))
	if want := `profile:x:2:12: "a/b" is not the name of a command`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := load("base", maxExtends+1); err != nil && !strings.HasPrefix(err.Error(), "bug: ") {
		t.Errorf("depth: %v", err)
	}
}
