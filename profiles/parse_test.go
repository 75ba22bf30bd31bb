// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// parse fails the test if the document is not accepted.
func parse(t *testing.T, text string) Policy {
	t.Helper()
	p, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseEverything(t *testing.T) {
	p := parse(t, `
version: 1
filesystem:
  workdir: ro
  home: ephemeral
  read: [~/.nvm, /opt/tools, "/srv/a b"]
  write: [/srv/out]
  hide: [/srv/out/.env]
  protect: [Makefile, .git, "*.pth"]
  unprotect: [.vscode]
  private: [~/.tool]
  noise: [/sys/fs/cgroup, /opt/*/probe]
network:
  allow:
    - host: API.Example.com.
    - {host: "*.githubusercontent.com", ports: [443, "8000-8100", 80]}
    - {cidr: 10.20.0.0/16, ports: [5432]}
    - cidr: 2001:db8::1
  loopback: [5432, 80]
  publish: [3000, 80, 3000]
  sockets: [~/agent.sock, /run/x.sock]
environment: {pass: [TERM, LC_*], set: {CI: "1", MSG: "a\nb"}}
limits: {memory: 4GiB, pids: 512, cpus: 1.5, ttl: 30m}
`)
	wantFiles := Files{
		Workdir: "ro", Home: "ephemeral",
		Read:    []string{"/opt/tools", "/srv/a b", "~/.nvm"},
		Write:   []string{"/srv/out"},
		Hide:    []string{"/srv/out/.env"},
		Protect: []string{"*.pth", ".git", "Makefile"}, Unprotect: []string{".vscode"},
		Private: []string{"~/.tool"},
		Noise:   []string{"/opt/*/probe", "/sys/fs/cgroup"},
	}
	if got := p.Files(); !reflect.DeepEqual(got, wantFiles) {
		t.Errorf("files: got %+v, want %+v", got, wantFiles)
	}
	var rules []string
	for _, r := range p.Rules() {
		rules = append(rules, r.String())
	}
	wantRules := []string{
		"10.20.0.0/16:5432",
		"[2001:db8::1/128]:443",
		"api.example.com:443",
		"*.githubusercontent.com:80,443,8000-8100",
	}
	if !reflect.DeepEqual(rules, wantRules) {
		t.Errorf("rules: got %q, want %q", rules, wantRules)
	}
	if got := p.Loopback(); !reflect.DeepEqual(got, []uint16{80, 5432}) {
		t.Errorf("loopback: got %v", got)
	}
	if got := p.Sockets(); !slices.Equal(got, []string{"/run/x.sock", "~/agent.sock"}) {
		t.Errorf("sockets: got %q", got)
	}
	if got := p.Publish(); !slices.Equal(got, []uint16{80, 3000}) {
		t.Errorf("publish: got %v", got)
	}
	wantEnv := Environment{Pass: []string{"LC_*", "TERM"}, Set: map[string]string{"CI": "1", "MSG": "a\nb"}}
	if got := p.Environment(); !reflect.DeepEqual(got, wantEnv) {
		t.Errorf("environment: got %+v", got)
	}
	wantLimits := Limits{Memory: 4 << 30, Pids: 512, CPUs: 1.5, TTL: 30 * time.Minute}
	if got := p.Limits(); got != wantLimits {
		t.Errorf("limits: got %+v", got)
	}
	sources := p.Sources()
	if len(sources) != 1 || sources[0].Name != "test.yaml" || !strings.HasPrefix(sources[0].Digest, "sha256:") {
		t.Errorf("sources: got %+v", sources)
	}
}

// Absent, null and empty lists all grant nothing (CVE-2025-66479 was an empty
// list that granted everything).
func TestNothingGrantsNothing(t *testing.T) {
	zero := Policy{}
	for _, text := range []string{
		"version: 1",
		"version: 1\nnetwork:",
		"version: 1\nnetwork: null",
		"version: 1\nnetwork: {}",
		"version: 1\nnetwork:\n  allow:",
		"version: 1\nnetwork: {allow: []}",
		"version: 1\nnetwork: {allow: null, loopback: ~}",
		"version: 1\nfilesystem: {read: [], write: , hide: null}",
		"version: 1\nsyscalls: {allow: []}\nenvironment: {pass: [], set: {}}\nlimits: {}",
		"version: 1\nextends: []",
		"---\nversion: 1\n...\n",
		"# a comment\nversion: 1 # and one more\n",
	} {
		p := parse(t, text)
		if len(p.Rules()) != 0 || len(p.Loopback()) != 0 {
			t.Errorf("%q grants network: %v %v", text, p.Rules(), p.Loopback())
		}
		if p.Digest() != zero.Digest() {
			t.Errorf("%q is not the zero policy:\n%s", text, p.YAML())
		}
	}
	if f := zero.Files(); f.Workdir != "" || len(f.Read)+len(f.Write) != 0 {
		t.Errorf("the zero policy grants files: %+v", f)
	}
	if kept, withheld := zero.Environment().Select([]string{"PATH=/bin"}); len(kept) != 0 || len(withheld) != 1 {
		t.Errorf("the zero policy passes variables: %q", kept)
	}
}

// head begins the documents of parseErrors.
const head = "version: 1\n"

// parseErrors are documents, each with one mistake, and the whole message.
var parseErrors = []struct{ name, text, want string }{
	{"empty", "", "p.yaml: empty: a policy needs at least version: 1"},
	{"comment only", "# nothing\n", "p.yaml: empty: a policy needs at least version: 1"},
	{"null", "null\n", "p.yaml: empty: a policy needs at least version: 1"},
	{"header only", "---\n", "p.yaml: empty: a policy needs at least version: 1"},
	{"list", "- version: 1\n", "p.yaml:1:1: a policy must be a mapping of keys to values, not a list"},
	{"word", "version\n", "p.yaml:1:1: a policy must be a mapping of keys to values, not a string"},
	{"no version", "extends: [base]\n", "p.yaml:1:1: version is missing: a policy needs version: 1"},
	{"later version", "version: 2\n", `p.yaml:1:10: version "2" is not known: this program reads version 1`},
	{"version in words", "version: \"1\"\n", "p.yaml:1:10: version must be the number 1, not a string"},
	{"version null", "version:\nextends: []\n", "p.yaml:1:9: version must be the number 1, not nothing"},
	{"version octal", "version: 01\n", `p.yaml:1:10: version "01" is not known: this program reads version 1`},
	{"two documents", head + "---\nversion: 1\n", "p.yaml:2:1: a second document: a policy is one"},

	{"unknown key", head + "filesytem: {}\n", `p.yaml:2:1: unknown key "filesytem": a policy has version, extends, filesystem, network, syscalls, environment, limits, log`},
	{"log size above", head + "log: {max_size: 1025TiB}\n", `p.yaml:2:17: a file of a log of 1025TiB is out of range: up to 1024TiB`},
	{"log size", head + "log: {max_size: 1KiB}\n", `p.yaml:2:17: a file of a log must have room for its lines: 1MiB at least`},
	{"log", head + "log: {on_error: ignore}\n", `p.yaml:2:17: on_error is "ignore": it must be stop or continue`},
	{"unknown nested key", head + "filesystem:\n  reads: [/x]\n", `p.yaml:3:3: unknown key "reads": filesystem has workdir, home, secrets, read, write, hide, protect, unprotect, private, noise, with, provide`},
	{"key of a later version", head + "network: {listen: [80]}\n", `p.yaml:2:11: unknown key "listen": network has allow, deny, loopback, publish, sockets, upstream, proxy, max_upload, max_upload_per_host, max_connections`},
	{"key of embedded profiles", head + "description: mine\n", `p.yaml:2:1: unknown key "description": a policy has version, extends, filesystem, network, syscalls, environment, limits, log`},
	{"duplicate key", head + "limits: {pids: 1}\nlimits: {pids: 2}\n", `p.yaml:3:1: not valid YAML: mapping key "limits" already defined at [2:1]`},
	{"duplicate key quoted", head + "limits: {pids: 1, \"pids\": 2}\n", `p.yaml:2:19: not valid YAML: mapping key "pids" already defined at [2:10]`},
	{"key is a number", head + "1: 2\n", "p.yaml:2:1: a string is needed here, not a number: quote it if the text is meant"},

	{"anchor", head + "filesystem: &a {}\n", "p.yaml:2:13: anchors, aliases and merge keys are not accepted: write the values out"},
	{"alias", head + "filesystem: *a\n", "p.yaml:2:13: anchors, aliases and merge keys are not accepted: write the values out"},
	{"merge key", head + "filesystem: {<<: {}}\n", "p.yaml:2:14: anchors, aliases and merge keys are not accepted: write the values out"},
	{"tag", head + "filesystem: !!map {}\n", "p.yaml:2:13: tags, directives and ? keys are not accepted"},
	{"block text", head + "environment:\n  set:\n    A: |\n      x\n", "p.yaml:4:8: block text (| and >) is not accepted: use a quoted string"},
	{"syntax", head + "filesystem: [\n", "p.yaml:2:13: not valid YAML: sequence end token ']' not found"},
	{"escape character", head + "# \x1b[2J\n", "p.yaml:2:3: a control character, or not UTF-8"},
	{"not UTF-8", head + "# \xff\n", "p.yaml:2:3: a control character, or not UTF-8"},
	{"a line within a comment", head + "# base\rfilesystem: {}\n", "p.yaml:2:7: a control character, or not UTF-8"},
	{"a line end without its half", head + "extends: []\r", "p.yaml:2:12: a control character, or not UTF-8"},
	{"byte order mark", "\ufeff" + head, "p.yaml:1:1: a control character, or not UTF-8"},
	{"list in list", head + "extends:\n- - base\n", "p.yaml:3:3: an empty list entry, or a list in a list"},

	{"unknown profile", head + "extends: [base, nodejs]\n", `p.yaml:2:17: profile "nodejs" is unknown: there are base, ci, claude-code, codex, gemini-cli, opencode`},
	{"profile is a path", head + "extends: [../base]\n", `p.yaml:2:11: profile "../base" is unknown: there are base, ci, claude-code, codex, gemini-cli, opencode`},
	{"extends a string", head + "extends: base\n", "p.yaml:2:10: extends must be a list, not a string"},

	{"list for a word", head + "filesystem: {workdir: [rw]}\n", "p.yaml:2:23: a string is needed here, not a list"},
	{"other word", head + "filesystem: {workdir: none}\n", `p.yaml:2:23: workdir is "none": it must be rw or ro`},
	{"word left empty", head + "filesystem: {home: }\n", "p.yaml:2:19: a string is needed here, not nothing"},
	{"string for a list", head + "filesystem: {read: /usr}\n", "p.yaml:2:20: read must be a list, not a string"},
	{"number for a path", head + "filesystem: {read: [/usr, 7]}\n", "p.yaml:2:27: a string is needed here, not a number: quote it if the text is meant"},
	{"null for a path", head + "filesystem:\n  read:\n    -\n", "p.yaml:4:7: a string is needed here, not nothing"},
	{"map for a path", head + "filesystem: {read: [{a: b}]}\n", "p.yaml:2:21: a string is needed here, not a mapping"},
	{"trailing slash", head + "filesystem:\n  hide:\n    - /a\n    - ~/.ssh/\n", `p.yaml:5:7: path "~/.ssh/" ends in a slash and would match nothing: write "~/.ssh"`},
	{"glob", head + "filesystem: {hide: [\"/home/*/.ssh\"]}\n", `p.yaml:2:21: path "/home/*/.ssh": wildcards are not known here and would match nothing: name the directory`},
	{"provided elsewhere", head + "filesystem: {provide: {/srv/x: text}}\n", `p.yaml:2:24: path "/srv/x": only files below /etc can be provided`},
	{"provided without a text", head + "filesystem: {provide: {/etc/x: 1}}\n", "p.yaml:2:32: a string is needed here, not a number: quote it if the text is meant"},
	{"provided and hidden", head + "filesystem: {provide: {/etc/x: text}, hide: [/etc/x]}\n", `p.yaml:2:13: path "/etc/x" is both granted and hidden: hide wins, so leave out one`},
	{"provided with NUL", head + "filesystem: {provide: {/etc/x: \"\\0\"}}\n", `p.yaml:2:32: the text of "/etc/x" has a NUL byte, is not UTF-8 or longer than 65536 bytes`},
	{"contradiction", head + "filesystem: {read: [/a/b], hide: [/a/b]}\n", `p.yaml:2:13: path "/a/b" is both granted and hidden: hide wins, so leave out one`},
	{"private system path", head + "filesystem: {private: [/opt/x]}\n", `p.yaml:2:24: path "/opt/x": only what is below the home (~/...) can be private`},
	{"private start file", head + "filesystem: {private: [~/.ssh/x]}\n", `p.yaml:2:24: path "~/.ssh/x" is refused in every private home: other programs run or trust it`},
	{"noise of everything", head + "filesystem: {noise: [\"/*\"]}\n", `p.yaml:2:22: path "/*": a pattern cannot begin with *: it would match everything`},

	{"rule is a string", head + "network: {allow: [example.com]}\n", "p.yaml:2:19: a rule of network.allow must be a mapping of keys to values, not a string"},
	{"rule is null", head + "network: {allow: [null]}\n", "p.yaml:2:19: a rule of network.allow needs host or cidr, and not both"},
	{"rule with both", head + "network:\n  allow:\n    - {host: a.example, cidr: 10.0.0.0/8}\n", "p.yaml:4:7: a rule of network.allow needs host or cidr, and not both"},
	{"rule without target", head + "network:\n  allow:\n    - ports: [1]\n", "p.yaml:4:7: a rule of network.allow needs host or cidr, and not both"},
	{"rule with a key of later", head + "network:\n  allow:\n    - {host: a.example, alpn: h2}\n", `p.yaml:4:25: unknown key "alpn": a rule of network.allow has host, cidr, ports, tls, methods, paths, max_upload`},
	{"bad host", head + "network:\n  allow:\n    - host: https://a.example\n", `p.yaml:4:13: host "https://a.example": write the name alone, without a scheme`},
	{"bad cidr", head + "network: {allow: [{cidr: 10.0.0.1/8}]}\n", "p.yaml:2:26: 10.0.0.1/8 has address bits behind the prefix: write 10.0.0.0/8"},
	{"ports a number", head + "network: {allow: [{host: a.example, ports: 80}]}\n", "p.yaml:2:44: ports must be a list, not a number"},
	{"ports empty", head + "network: {allow: [{host: a.example, ports: []}]}\n", "p.yaml:2:44: ports is empty and would match nothing: leave it out"},
	{"port 0", head + "network: {allow: [{host: a.example, ports: [0]}]}\n", `p.yaml:2:45: "0" is not a port: write a number from 1 to 65535, or a range such as 8000-8100`},
	{"port octal", head + "network: {allow: [{host: a.example, ports: [0443]}]}\n", `p.yaml:2:45: "0443" is not a port: write a number from 1 to 65535, or a range such as 8000-8100`},
	{"port hex", head + "network: {allow: [{host: a.example, ports: [0x1bb]}]}\n", `p.yaml:2:45: "0x1bb" is not a port: write a number from 1 to 65535, or a range such as 8000-8100`},
	{"port grouped", head + "network: {loopback: [1_000]}\n", `p.yaml:2:22: "1_000" is not a port: write a number from 1 to 65535`},
	{"loopback range", head + "network: {loopback: [\"1-2\"]}\n", `p.yaml:2:22: "1-2" is not a port: write a number from 1 to 65535`},
	{"loopback null", head + "network: {loopback: [null]}\n", "p.yaml:2:22: a number is needed here, not nothing"},

	{"syscall group", head + "syscalls: {allow: [nestd]}\n", `p.yaml:2:20: system call group "nestd" is unknown: there are debug, nested, packaging, perf`},
	{"variable wildcard", head + "environment: {pass: [\"*\"]}\n", "p.yaml:2:22: variable * would pass the whole environment: name what is needed"},
	{"variable name", head + "environment: {pass: [A-B]}\n", `p.yaml:2:22: "A-B" is not the name of a variable: letters, digits and underscores, with a * at most at the end`},
	{"variable with value", head + "environment: {pass: [A=B]}\n", `p.yaml:2:22: "A=B" is not the name of a variable: letters, digits and underscores, with a * at most at the end`},
	{"set a number", head + "environment: {set: {CI: 1}}\n", "p.yaml:2:25: a string is needed here, not a number: quote it if the text is meant"},
	{"set a boolean", head + "environment: {set: {CI: true}}\n", "p.yaml:2:25: a string is needed here, not a boolean: quote it if the text is meant"},
	{"set a pattern", head + "environment: {set: {\"LC_*\": x}}\n", `p.yaml:2:21: "LC_*" is not the name of a variable: letters, digits and underscores`},
	{"set NUL", head + "environment: {set: {A: \"\\0secret\"}}\n", "p.yaml:2:24: the value of A has a NUL byte or is not UTF-8"},
	{"set and pass", head + "environment: {pass: [A], set: {A: b}}\n", "p.yaml:2:14: variable A is both passed and set: leave out one"},

	{"memory", head + "limits: {memory: 4 gigs}\n", `p.yaml:2:18: "4 gigs" is not a size: write a whole number and a unit, as in 512MiB or 4GiB`},
	{"memory too small", head + "limits: {memory: 4}\n", "p.yaml:2:18: memory of 4 bytes is out of range: from 1MiB to 1024TiB"},
	{"pids", head + "limits: {pids: -1}\n", `p.yaml:2:16: "-1" is not a number of processes: write a whole number from 1`},
	{"cpus", head + "limits: {cpus: 1e3}\n", `p.yaml:2:16: "1e3" is not a number of processors: write one such as 2 or 0.5`},
	{"ttl", head + "limits: {ttl: 30}\n", `p.yaml:2:15: "30" is not a duration: write one such as 90s, 30m or 2h`},
	{"limit null", head + "limits: {ttl: }\n", "p.yaml:2:14: a number is needed here, not nothing"},
}

func TestParseErrors(t *testing.T) {
	for _, tc := range parseErrors {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(tc.text))
			if err == nil {
				t.Fatalf("accepted:\n%s", tc.text)
			}
			if err.Error() != tc.want {
				t.Errorf("got:  %s\nwant: %s", err, tc.want)
			}
			var typed *Error
			if !errors.As(err, &typed) || typed.Source != "p.yaml" {
				t.Errorf("not an *Error of the document: %#v", err)
			}
		})
	}
}

// A document that would cost much time or stack is refused before it is parsed.
func TestParseBounds(t *testing.T) {
	var keys strings.Builder
	for range maxKeys + 1 {
		keys.WriteString("a: 1\n")
	}
	for _, tc := range []struct{ name, text, want string }{
		{"size", "version: 1\n" + strings.Repeat("#", maxDocument), "larger than 1 MiB"},
		{"tokens", "a: [" + strings.Repeat("x,", maxTokens), "too long"},
		{"keys", keys.String(), "more than 4096 keys"},
		{"brackets", strings.Repeat("[", 60_000), "nested too deeply"},
		{"braces", strings.Repeat("{a: ", 2_000), "nested too deeply"},
		{"dashes", strings.Repeat("- ", 60_000), "a list in a list"},
		{"question marks", strings.Repeat("? ", 60_000), "? keys are not accepted"},
		{"anchors", strings.Repeat("&a ", 20_000), "anchors"},
		{"colons", strings.Repeat("a: ", maxKeys-1), "not valid YAML"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestExtends(t *testing.T) {
	p := parse(t, "version: 1\nextends: [base, claude-code]\nnetwork: {allow: [{host: x.example}]}\n")
	agent, err := Named("claude-code")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "claude-code" {
		t.Errorf("name is %q, not that of the last profile", p.Name())
	}
	if got, want := len(p.Rules()), len(agent.Rules())+1; got != want {
		t.Errorf("%d rules, want those of claude-code and one: %d", got, want)
	}
	var names []string
	for _, s := range p.Sources() {
		names = append(names, s.Name)
	}
	if want := []string{"profile:base", "profile:claude-code", "test.yaml"}; !reflect.DeepEqual(names, want) {
		t.Errorf("sources %q, want %q", names, want)
	}
}

func TestSyscallGroups(t *testing.T) {
	p := parse(t, "version: 1\nsyscalls: {allow: [perf, debug, perf]}\n")
	if got := p.Syscalls(); !reflect.DeepEqual(got, []string{"debug", "perf"}) {
		t.Errorf("got %q", got)
	}
	if again := parse(t, string(p.YAML())); again.Digest() != p.Digest() {
		t.Errorf("the canonical form reads back as:\n%s", again.YAML())
	}
	_, err := Parse("p.yaml", []byte("version: 1\nsyscalls: {allow: [ptrace]}\n"))
	if want := `p.yaml:2:20: system call group "ptrace" is unknown: there are debug, nested, packaging, perf`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestLineEnds: the line ends of Windows are line ends.
func TestLineEnds(t *testing.T) {
	const text = "version: 1\nextends: [base] # all\nfilesystem:\n  workdir: ro\n"
	want, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("p.yaml", []byte(strings.ReplaceAll(text, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != want.Digest() || got.Files().Workdir != "ro" {
		t.Errorf("with carriage returns:\n%s\nwithout:\n%s", got.YAML(), want.YAML())
	}
}
