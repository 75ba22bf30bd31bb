// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/seccomp"
)

var update = flag.Bool("update", false, "write the golden files")

// wantGolden compares a text with a golden file.
func wantGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s, which -update writes anew (-want +got):\n%s", golden, diff)
	}
}

// fakeFiles is a host's file system: a path ending in / is a directory, "-> x" a link, "data" a file that is no
// program, anything else the content of a file.
type fakeFiles map[string]string

type fakeInfo struct {
	name string
	mode fs.FileMode
	text string
}

func (i fakeInfo) Name() string       { return i.name }
func (i fakeInfo) Size() int64        { return 0 }
func (i fakeInfo) Mode() fs.FileMode  { return i.mode }
func (i fakeInfo) ModTime() time.Time { return time.Time{} }
func (i fakeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fakeInfo) Sys() any           { return fakeStat(i.text) }

func (f fakeFiles) Lstat(path string) (fs.FileInfo, error) {
	if v, ok := f[path]; ok {
		mode := fs.FileMode(0o755)
		if strings.HasPrefix(v, "-> ") {
			mode = fs.ModeSymlink
		} else if v == "socket" {
			mode = fs.ModeSocket
		} else if v == "data" {
			mode = 0o600
		}
		return fakeInfo{filepath.Base(path), mode, v}, nil
	}
	prefix := strings.TrimSuffix(path, "/") + "/"
	for p := range f {
		if strings.HasPrefix(p, prefix) {
			return fakeInfo{filepath.Base(path), fs.ModeDir | 0o755, ""}, nil
		}
	}
	return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
}

func (f fakeFiles) Readlink(path string) (string, error) {
	if to, ok := strings.CutPrefix(f[path], "-> "); ok {
		return to, nil
	}
	return "", errors.New("not a link")
}

func (f fakeFiles) ReadFile(path string, _ int) ([]byte, error) {
	v, ok := f[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(v), nil
}

func (f fakeFiles) ReadDir(path string) (entries []fs.DirEntry, err error) {
	var names []string
	for p := range f {
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(path, "/")+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		info, err := f.Lstat(filepath.Join(path, name))
		if err != nil {
			return nil, err
		}
		entries = append(entries, fs.FileInfoToDirEntry(info))
	}
	return entries, nil
}

func (f fakeFiles) Mounts() ([]*mountinfo.Info, error) {
	return mountinfo.GetMountsFromReader(strings.NewReader(f["/proc/self/mountinfo"]), nil)
}

func fakeHost() Host {
	return Host{
		Identity: Identity{UID: 1000, GID: 1000, User: "ann", Group: "ann", Home: "/home/ann"},
		Environ: []string{
			"PATH=/home/ann/.nvm/bin:./evil:/usr/bin", "TERM=xterm", "HOME=/elsewhere", "GITHUB_TOKEN=ghp_x", "EDITOR=vi",
			"FOO=bar", "OLDPWD=/root",
		},
		Workdir: "/home/ann/src/app", Current: "/home/ann/src/app", Homes: []string{"/home/ann", "/home/real"}, State: "/home/ann/.local/state/agentjail", Umask: 0o22,
		Files: fakeFiles{
			"/usr/bin/env": "", "/usr/bin/true": "", "/usr/lib/x": "", "/bin": "-> usr/bin", "/lib": "-> usr/lib",
			"/etc/ssl/certs/ca.pem": "", "/etc/localtime": "-> ../usr/lib/x", "/etc/shadow": "", "/home/ann/.ssh/id": "",
			"/home/ann/src/app/main.go": "", "/home/ann/src/other/x": "", "/home/ann/link": "-> src/app", "/home/ann/lib": "-> src/other", "/home/ann/data/x": "",
			"/home/ann/.nvm/bin/node":                         "",
			"/home/ann/.nvm/bin/agent":                        "-> ../lib/node_modules/@a/agent/cli.js",
			"/home/ann/.nvm/lib/node_modules/@a/agent/cli.js": "#!/usr/bin/env node\n",
			"/home/ann/src/app/evil/agent":                    "", "/sys/devices/system/cpu/online": "", "/sys/kernel/mm/transparent_hugepage/enabled": "", "/srv/loop": "-> loop",
			"/home/ann/sock": "socket", "/home/ann/.local/state/agentjail/runs/x": "", "/home/ann/.local/state/agentjail/homes/base/x": "", "/proc/self/x": "", "/dev/shm/app/x": "",
			"/home/ann/src/app/.env": "", "/dev/null": "", "/home/real/x": "",
		},
	}
}

func base(t *testing.T) profiles.Policy {
	t.Helper()
	p, err := profiles.Named("base")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func with(t *testing.T, p profiles.Policy, steps ...func(profiles.Policy) (profiles.Policy, error)) profiles.Policy {
	t.Helper()
	for _, step := range steps {
		var err error
		if p, err = step(p); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func reading(t *testing.T, path string) profiles.Policy {
	return with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(path) })
}

func writing(t *testing.T, path string) profiles.Policy {
	return with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite(path) })
}

func TestPlanGolden(t *testing.T) {
	rule, err := profiles.ParseRule("*.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	host := fakeHost()
	policy := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/lib") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("/home/ann/data") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/app/.env") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithAllow(rule) })
	plan, err := Compile(policy, host, []string{"agent", "--flag", "two words"})
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "plan", plan.String())
}

func TestWorkdirs(t *testing.T) {
	for dir, want := range map[string]string{
		"/": "more than a project", "/home/ann": "home directory", "/home/real": "home directory", "/home": "more than a project", "/usr": "more than a project",
		"/proc/self": "kernel", "/dev/shm": "more than a project", "/gone": "does not exist", "/home/ann/src/app/main.go": "", "/srv/loop": "too many symbolic links",
		"/home/ann/.local/state/agentjail/runs": "own state", "/home/ann/.local": "own state",
	} {
		host := fakeHost()
		host.Workdir = dir
		_, err := Compile(base(t), host, []string{"true"})
		var refused *RequestError
		if dir == "/home/ann/src/app/main.go" {
			want = "not a directory"
			host.Files.(fakeFiles)[dir] = "x"
		}
		if !errors.As(err, &refused) && want != "not a directory" || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	host := fakeHost()
	host.Workdir = "/home/ann/link"
	plan, err := Compile(base(t), host, []string{"true"})
	if err != nil || plan.Workdir != "/home/ann/src/app" || plan.Symlinks["/home/ann/link"] != "src/app" {
		t.Errorf("a linked working directory: %q %v, %v", plan.Workdir, plan.Symlinks, err)
	}
}

// TestBusyDirs: a cache of the private home is mounted natively, except where the host's directory is granted, or something in
// it is.
func TestBusyDirs(t *testing.T) {
	for path, native := range map[string]bool{
		"/home/ann/src/other": true, "/home/ann/go": false, "/home/ann/go/pkg": false, "/home/ann/go/pkg/mod": false,
	} {
		host := fakeHost()
		host.Files.(fakeFiles)["/home/ann/go/pkg/mod/x"] = ""
		plan, err := Compile(writing(t, path), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		private := Mount{
			Kind: Bind, Target: "/home/ann/go/pkg", Source: "/home/ann/.local/state/agentjail/caches/base/" + projectKey(host.Workdir) + "/go/pkg",
			Dir: true, Writable: true, Origin: originHome,
		}
		granted := Mount{Kind: Bind, Target: path, Source: path, Dir: true, Writable: true, Origin: "policy"}
		if slices.Contains(plan.Mounts, private) != native || slices.Contains(plan.Home.Dirs, "go/pkg") != native {
			t.Errorf("--rw %s: the private go/pkg is mounted: %v, want %v", path, !native, native)
		}
		if !slices.Contains(plan.Mounts, granted) {
			t.Errorf("--rw %s: not in the plan: %v", path, plan.Mounts)
		}
	}
}

// TestCaches: each working directory has its caches for itself, and each profile, while the rest of a home is the profile's.
func TestCaches(t *testing.T) {
	caches := map[string]string{}
	for _, dir := range []string{"/srv/a/app", "/srv/b/app", "/srv/a/app/sub", "/srv/ünï \x1b\n" + strings.Repeat("x", 200)} {
		for _, profile := range []string{"base", "codex"} {
			host := fakeHost()
			host.Workdir, host.Current = dir, dir
			host.Files.(fakeFiles)[dir+"/x"] = ""
			policy, err := profiles.Named(profile)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := Compile(policy, host, []string{"true"})
			if err != nil {
				t.Fatal(err)
			}
			if other, taken := caches[plan.Home.Caches]; taken {
				t.Errorf("%s of %s has the caches of %s", dir, profile, other)
			}
			caches[plan.Home.Caches] = dir
			name := filepath.Base(plan.Home.Caches)
			if filepath.Dir(plan.Home.Caches) != host.State+"/caches/"+profile || len(name) > 50 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
				t.Errorf("caches of %q in %q", dir, plan.Home.Caches)
			}
			if plan.Home.Private != host.State+"/homes/"+profile {
				t.Errorf("home in %s", plan.Home.Private)
			}
			for _, m := range plan.Mounts {
				if m.Origin == originHome && !within(plan.Home.Caches, m.Source) {
					t.Errorf("%s is mounted from %s", m.Target, m.Source)
				}
			}
		}
	}
}

// TestHomeInTmp: a home in a directory that is the run's own is mounted as a whole, and what is granted below it is too.
func TestHomeInTmp(t *testing.T) {
	host := fakeHost()
	host.Identity.Home, host.Workdir, host.State = "/tmp/ann", "/tmp/ann/app", "/tmp/ann/.local/state/agentjail"
	host.Files.(fakeFiles)["/tmp/ann/app/x"] = ""
	plan, err := Compile(base(t), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	home := Mount{
		Kind: Bind, Target: "/tmp/ann", Source: "/tmp/ann/.local/state/agentjail/homes/base", Dir: true, Writable: true, Origin: originHome,
	}
	work := Mount{Kind: Bind, Target: "/tmp/ann/app", Source: "/tmp/ann/app", Dir: true, Writable: true, Origin: "working directory"}
	cache, _ := plan.mount("/tmp/ann/.cache")
	if !plan.Home.Mounted || !slices.Contains(plan.Mounts, home) || !slices.Contains(plan.Mounts, work) || cache.Source != plan.Home.Caches+"/.cache" {
		t.Errorf("home %+v, mounts %v", plan.Home, plan.Mounts)
	}
	if c := denyfsConfig(plan, nil, nil); c.Home.Path != "" {
		t.Errorf("the root serves %s, which is mounted over", c.Home.Path)
	}
	plan, err = Compile(base(t), fakeHost(), []string{"true"})
	if err != nil || plan.Home.Mounted || denyfsConfig(plan, nil, nil).Home.Path != "/home/ann" {
		t.Errorf("a home elsewhere: %+v, %v", plan.Home, err)
	}
}

func TestHomesRefused(t *testing.T) {
	for home, refused := range map[string]bool{"/": true, "/tmp": true, "/usr": true, "/dev/null": true, "/root": false, "/home/ann": false} {
		host := fakeHost()
		host.Identity.Home, host.Workdir, host.State = home, "/srv/app", "/srv/state/agentjail"
		host.Files.(fakeFiles)["/srv/app/x"], host.Files.(fakeFiles)["/root/x"] = "", ""
		_, err := Compile(base(t), host, []string{"true"})
		if refused != (err != nil && strings.Contains(err.Error(), "one of the system")) {
			t.Errorf("home %s: %v", home, err)
		}
	}
}

// TestHidePrivate: nothing of the host's is seen in a private directory, so that there is nothing to hide.
func TestHidePrivate(t *testing.T) {
	hiding := func(path string) []Mount {
		host := fakeHost()
		host.Files.(fakeFiles)["/home/ann/.cache/x"] = ""
		plan, err := Compile(with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(path) }), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Mounts
	}
	hidden := func(m Mount) bool { return m.Kind == Hidden }
	if slices.ContainsFunc(hiding("/home/ann/.cache/x"), hidden) {
		t.Error("--hide makes a mount in a private directory")
	}
	if !slices.ContainsFunc(hiding("/home/ann/src/app/.env"), hidden) {
		t.Error("--hide makes no mount in the working directory")
	}
}

func TestGrantsRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/home/ann": "everything below", "/home": "everything below", "/home/real": "everything below",
		"/home/ann/sock": "only files and directories", "/home/ann/.local/state": "own state",
		"/home/ann/.local/state/agentjail/homes/base": "own state",
	} {
		if _, err := Compile(reading(t, path), fakeHost(), []string{"true"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read %s: %v, want %q", path, err, want)
		}
	}
	for _, path := range []string{"/usr", "/etc", "/home/ann", "/tmp"} {
		host := fakeHost()
		host.Files.(fakeFiles)["/tmp/x"] = ""
		if _, err := Compile(writing(t, path), host, []string{"true"}); err == nil || !strings.Contains(err.Error(), "write access") {
			t.Errorf("write %s: %v", path, err)
		}
	}
	if _, err := Compile(reading(t, "/home/ann/src/other"), fakeHost(), []string{"true"}); err != nil {
		t.Error(err)
	}
	if _, err := Compile(reading(t, "/home/ann/src/otehr"), fakeHost(), []string{"true"}); err == nil {
		t.Error("a misspelt path was accepted")
	}
}

// A command is looked up on PATH, but never in the working directory.
func TestCommandLookup(t *testing.T) {
	plan, err := Compile(base(t), fakeHost(), []string{"agent"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/home/ann/.nvm/lib/node_modules", "/home/ann/.nvm/bin/node"} {
		if m, ok := plan.mount(want); !ok || m.Writable || m.Origin != "command" {
			t.Errorf("%s: %+v, %v", want, m, ok)
		}
	}
	host := fakeHost()
	host.Environ = []string{"PATH=.:evil:"}
	plan, err = Compile(base(t), host, []string{"agent"})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range plan.Mounts {
		if m.Origin == "command" {
			t.Errorf("granted for a command of the working directory: %+v", m)
		}
	}
}

// The first line of a script that the command can have written grants nothing but a program of the caller's PATH.
func TestScriptOfTheWorkdir(t *testing.T) {
	for line, want := range map[string]string{
		"#!/home/ann/.ssh/id":                            "",
		"#!/usr/bin/env /home/ann/.ssh/id":               "",
		"#!/usr/bin/env -S -u /home/ann/.ssh/id /bin/sh": "",
		"#!/home/ann/src/app/evil/env /home/ann/.ssh/id": "",
		"#!/home/ann/src/app/link":                       "",
		"#!/usr/bin/env agent":                           "",
		"#!/usr/bin/env node":                            "/home/ann/.nvm/bin/node",
		"#!/home/ann/.nvm/bin/node":                      "/home/ann/.nvm/bin/node",
	} {
		host := fakeHost()
		host.Environ[0] = "PATH=/home/ann/src/app/bin:/home/ann/.nvm/bin:/usr/bin"
		files := host.Files.(fakeFiles)
		files["/home/ann/src/app/run.sh"] = line + "\n"
		files["/home/ann/src/app/link"] = "-> /home/ann/.ssh/id"
		files["/home/ann/src/app/bin/agent"] = "-> /home/ann/.ssh/id"
		delete(files, "/home/ann/.nvm/bin/agent")
		plan, err := Compile(base(t), host, []string{"./run.sh"})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, m := range plan.Mounts {
			if m.Origin == "command" {
				got += m.Target
			}
		}
		if got != want {
			t.Errorf("%s: granted %q, want %q", line, got, want)
		}
	}
}

// A command that is a link to what cannot be executed grants nothing.
func TestCommandNotExecutable(t *testing.T) {
	host := fakeHost()
	host.Files.(fakeFiles)["/home/ann/src/app/run"] = "-> /home/ann/.ssh/id"
	host.Files.(fakeFiles)["/home/ann/.ssh/id"] = "data"
	plan, err := Compile(base(t), host, []string{"./run"})
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := plan.mount("/home/ann/.ssh/id"); ok {
		t.Errorf("granted %+v", m)
	}
}

// The proxies of the caller's environment are named in the plan, without credentials, and their variables do not enter.
func TestUpstream(t *testing.T) {
	host := fakeHost()
	host.Environ = append(host.Environ, "https_proxy=http://user:ghp_CANARY@proxy.test:3128", "HTTP_PROXY=socks5://p2.test")
	allow := func(p profiles.Policy) (profiles.Policy, error) {
		rule, err := profiles.ParseRule("allowed.test")
		if err != nil {
			t.Fatal(err)
		}
		return p.WithAllow(rule)
	}
	env := func(v string) func(profiles.Policy) (profiles.Policy, error) {
		return func(p profiles.Policy) (profiles.Policy, error) { return p.WithEnv(v) }
	}
	none := func(p profiles.Policy) (profiles.Policy, error) { return p.WithUpstream("none") }
	const proxies = "http://proxy.test:3128, plain HTTP socks5://p2.test:1080"
	for _, test := range []struct {
		what, proxies, secrets string
		steps                  []func(profiles.Policy) (profiles.Policy, error)
	}{
		{what: "no rules: nothing to reach", secrets: "GITHUB_TOKEN https_proxy"},
		{"used", proxies, "GITHUB_TOKEN", []func(profiles.Policy) (profiles.Policy, error){allow}},
		{"one of the run's own", proxies, "GITHUB_TOKEN", []func(profiles.Policy) (profiles.Policy, error){allow, env("https_proxy=http://127.0.0.1:1")}},
		{"refused", "", "GITHUB_TOKEN https_proxy", []func(profiles.Policy) (profiles.Policy, error){allow, none}},
		{"refused and let in", "", "GITHUB_TOKEN", []func(profiles.Policy) (profiles.Policy, error){allow, none, env("https_proxy")}},
	} {
		plan, err := Compile(with(t, base(t), test.steps...), host, []string{"true"})
		if err != nil || plan.Proxies != test.proxies || strings.Join(plan.Secrets, " ") != test.secrets {
			t.Errorf("%s: proxies %q, secrets %v, %v", test.what, plan.Proxies, plan.Secrets, err)
		}
		if shown := strings.Contains(plan.String(), "CANARY"); shown != (test.what == "refused and let in") {
			t.Errorf("%s: the plan shows the password: %v", test.what, shown)
		}
	}
	var refused *RequestError
	if _, err := Compile(with(t, base(t), allow, env("https_proxy")), host, []string{"true"}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "lets the variable https_proxy in") {
		t.Errorf("the variable is let in: %v", err)
	}
	host.Environ = []string{"HTTPS_PROXY=gopher://CANARY"}
	if _, err := Compile(with(t, base(t), allow), host, []string{"true"}); !errors.As(err, &refused) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("no proxy: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	plan, err := Compile(base(t), fakeHost(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(plan.Env, "\n") + "\n"
	for _, want := range []string{"HOME=/home/ann\n", "USER=ann\n", "TERM=xterm\n", "PWD=/home/ann/src/app\n", "EDITOR=vi\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("%q is missing in\n%s", want, env)
		}
	}
	for _, not := range []string{"ghp_x", "FOO", "OLDPWD", "elsewhere"} {
		if strings.Contains(env, not) {
			t.Errorf("%q entered", not)
		}
	}
	if diff := cmp.Diff([]string{"GITHUB_TOKEN"}, plan.Secrets); diff != "" {
		t.Errorf("secrets: %s", diff)
	}
}

// Ports of the host's loopback are granted by number, or by a rule for exactly that address.
func TestHostPorts(t *testing.T) {
	p := Plan{Loopback: []uint16{5432}}
	for _, text := range []string{"127.0.0.1:8080", "[::1]:9000", "127.0.0.0/8:1", "10.0.0.1:2", "example.com:3"} {
		rule, err := profiles.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Rules = append(p.Rules, rule)
	}
	if diff := cmp.Diff([]uint16{5432, 8080, 9000}, p.hostPorts()); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

// TestSyscallGroups: the names that a policy may list are those that the filter knows.
func TestSyscallGroups(t *testing.T) {
	text := "version: 1\nsyscalls: {allow: [" + strings.Join(seccomp.Groups(), ", ") + "]}\n"
	policy, err := profiles.Parse("p.yaml", []byte(text))
	if err != nil || !slices.Equal(policy.Syscalls(), seccomp.Groups()) {
		t.Fatalf("%q: %v", policy.Syscalls(), err)
	}
	_, err = profiles.Parse("p.yaml", []byte("version: 1\nsyscalls: {allow: [none]}\n"))
	if want := strings.Join(seccomp.Groups(), ", "); err == nil || !strings.HasSuffix(err.Error(), "there are "+want) {
		t.Errorf("%v, want the groups %s", err, want)
	}
}
