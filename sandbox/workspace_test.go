// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// TestPlantedLinks: a link where the command may write leads no grant, working directory or command out of there.
func TestPlantedLinks(t *testing.T) {
	const app = "/home/ann/src/app"
	for _, c := range []struct {
		name    string
		policy  profiles.Policy
		host    func(*Host, fakeFiles)
		command string
		refused bool
	}{
		{name: "write", policy: writing(t, app+"/out"), refused: true},
		{name: "read", policy: reading(t, app+"/out"), refused: true},
		{name: "below", policy: reading(t, app+"/dir/id"), refused: true},
		{name: "inside", policy: reading(t, app+"/near")},
		{name: "the caller's link", policy: reading(t, "/home/ann/data/out")},
		{
			name: "in another grant", refused: true,
			policy: with(t, reading(t, "/home/ann/data/out"), func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("/home/ann/data") }),
		},
		{name: "workdir", policy: base(t), host: func(h *Host, _ fakeFiles) { h.Workdir = app + "/to-other" }, refused: true},
		{
			name: "workdir by a linked current directory", policy: base(t), refused: true,
			host: func(h *Host, _ fakeFiles) { h.Workdir, h.Current = "/home/ann/link/to-other", "/home/ann/link" },
		},
		{name: "workdir below a home", policy: base(t), host: func(h *Host, _ fakeFiles) { h.Workdir, h.Current = "/home/ann/link", "/home/ann" }},
		{name: "command", policy: base(t), command: "./tool", refused: true},
		{name: "command of the caller's PATH", policy: base(t), command: "./node"},
		{name: "command of the system", policy: base(t), command: "./python"},
	} {
		host := fakeHost()
		files := host.Files.(fakeFiles)
		for path, text := range map[string]string{
			app + "/out": "-> /home/ann/.ssh/id", app + "/dir": "-> /home/ann/.ssh", app + "/near": "-> main.go",
			"/home/ann/data/out": "-> /home/ann/src/other", app + "/to-other": "-> ../other",
			app + "/tool": "-> /home/ann/.ssh/id", app + "/node": "-> /home/ann/.nvm/bin/node", app + "/python": "-> /usr/bin/true",
		} {
			files[path] = text
		}
		if c.host != nil {
			c.host(&host, files)
		}
		if c.command == "" {
			c.command = "true"
		}
		_, err := Compile(c.policy, host, []string{c.command})
		if refused := err != nil && strings.Contains(err.Error(), "symbolic link where the command may write"); refused != c.refused || err != nil && !refused {
			t.Errorf("%s: %v, want refused: %v", c.name, err, c.refused)
		}
	}
}

// TestPins: what lies between a writable place and what is protected in it cannot be moved.
func TestPins(t *testing.T) {
	host := fakeHost()
	files := host.Files.(fakeFiles)
	files["/home/ann/src/app/a/b/secret"], files["/home/ann/src/app/x/ro/f"], files["/home/ann/src/app/conf/jail.yaml"] = "data", "data", "data"
	host.Program = "/home/ann/src/app/bin/agentjail"
	files[host.Program] = ""
	policy := with(t, over(t, "conf/jail.yaml"),
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/app/a/b/secret") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/src/app/x/ro") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("/home/ann/src") })
	plan, err := Compile(policy, host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	var pinned []string
	for _, m := range plan.Mounts {
		if m.Origin == originPin && m.Writable && m.Dir && m.Source == m.Target {
			pinned = append(pinned, m.Target)
		}
	}
	if want := []string{"/home/ann/src/app/a", "/home/ann/src/app/a/b", "/home/ann/src/app/bin", "/home/ann/src/app/conf", "/home/ann/src/app/x"}; !slices.Equal(pinned, want) {
		t.Errorf("pinned %q, want %q", pinned, want)
	}
	for _, own := range []string{"/home/ann/src/app/conf/jail.yaml", host.Program} {
		if m, ok := plan.mount(own); !ok || m.Writable {
			t.Errorf("%s is mounted as %+v", own, m)
		}
	}
	host.Program = "/usr/bin/agentjail"
	plan, err = Compile(writing(t, "/home/ann/src"), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(plan.Mounts, func(m Mount) bool { return m.Origin == originPin }) {
		t.Error("pins without anything to protect")
	}
}

// fakeStat is what stat(2) says of a file of fakeFiles that has two names.
func fakeStat(text string) any {
	if text == "linked" {
		return &syscall.Stat_t{Nlink: 2}
	}
	return &syscall.Stat_t{Nlink: 1}
}

// TestOneName: what is protected where the command may write has no second name there.
func TestOneName(t *testing.T) {
	const app, data = "/home/ann/src/app", "/home/ann/data"
	for _, c := range []struct {
		name    string
		linked  string
		policy  func(t *testing.T) profiles.Policy
		refused bool
	}{
		{"hide", app + "/.env", func(t *testing.T) profiles.Policy { return hiding(t, base(t), app+"/.env") }, true},
		{"hide what has one name", app + "/main.go", func(t *testing.T) profiles.Policy { return hiding(t, base(t), app+"/.env") }, false},
		{"hide elsewhere", data + "/x", func(t *testing.T) profiles.Policy { return hiding(t, reading(t, data), data+"/x") }, false},
		{"read", app + "/.env", func(t *testing.T) profiles.Policy { return reading(t, app+"/.env") }, true},
		{"read elsewhere", data + "/x", func(t *testing.T) profiles.Policy { return reading(t, data+"/x") }, false},
		{"read in what may be written", data + "/x", func(t *testing.T) profiles.Policy {
			return with(t, writing(t, data), func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(data + "/x") })
		}, true},
		{"read in what is hidden there", app + "/keys/x", func(t *testing.T) profiles.Policy { return hiding(t, reading(t, app+"/keys/x"), app+"/keys") }, true},
		{"read in what is hidden elsewhere", data + "/sub/x", func(t *testing.T) profiles.Policy { return hiding(t, reading(t, data+"/sub/x"), data) }, false},
		{"beside tools that may be written", "/home/ann/.nvm/versions/node/v1/etc/npmrc", func(t *testing.T) profiles.Policy { return withTools(t, writing(t, "/home/ann/.nvm"), "node") }, true},
		{"beside tools", "/home/ann/.nvm/versions/node/v1/etc/npmrc", func(t *testing.T) profiles.Policy { return withTools(t, base(t), "node") }, false},
		{"policy", app + "/jail.yaml", func(t *testing.T) profiles.Policy { return over(t, app+"/jail.yaml") }, true},
		{"policy elsewhere", data + "/jail.yaml", func(t *testing.T) profiles.Policy { return over(t, data+"/jail.yaml") }, false},
		{"agentjail, which runs", app + "/agentjail", base, false},
	} {
		host := fakeHost()
		host.Program = app + "/agentjail"
		files := host.Files.(fakeFiles)
		files[host.Program], files[app+"/jail.yaml"], files[data+"/jail.yaml"] = "", "", ""
		files[c.linked] = "linked"
		_, err := Compile(c.policy(t), host, []string{"true"})
		if refused := err != nil && strings.Contains(err.Error(), "another name"); refused != c.refused || err != nil && !refused {
			t.Errorf("%s: %v, want refused: %v", c.name, err, c.refused)
		}
	}
}

func over(t *testing.T, path string) profiles.Policy {
	t.Helper()
	file, err := profiles.Parse(path, []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	return base(t).With(file)
}
