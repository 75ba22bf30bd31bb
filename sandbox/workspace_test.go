// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
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
	over, err := profiles.Parse("conf/jail.yaml", []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	policy := with(t, base(t).With(over),
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
