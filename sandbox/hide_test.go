// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

func hiding(t *testing.T, p profiles.Policy, paths ...string) profiles.Policy {
	t.Helper()
	for _, path := range paths {
		p = with(t, p, func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(path) })
	}
	return p
}

// TestHideBelow: what lies below a hidden path is hidden too, by whatever names the two were given.
func TestHideBelow(t *testing.T) {
	const data = "/home/ann/data"
	for _, c := range []struct {
		name   string
		read   string
		hide   []string
		shown  []string // of what the policy reads and hides, the mounts that are left
		hidden []string
	}{
		{name: "by a link to hide", read: data + "/sub", hide: []string{"/home/ann/alias"}},
		{name: "by a link to read", read: "/home/ann/alias/sub", hide: []string{data}},
		{name: "beside", read: "/home/ann/alias/sub", hide: []string{data + "/x"}, shown: []string{data + "/sub"}},
		{name: "inside", read: data, hide: []string{"/home/ann/alias/sub"}, shown: []string{data}, hidden: []string{data + "/sub"}},
		{name: "one in the other", read: data, hide: []string{data + "/sub/k", "/home/ann/alias/sub"}, shown: []string{data}, hidden: []string{data + "/sub"}},
		{name: "the other in one", read: data, hide: []string{"/home/ann/alias/sub", data + "/sub/k"}, shown: []string{data}, hidden: []string{data + "/sub"}},
	} {
		host := fakeHost()
		host.Files.(fakeFiles)[data+"/sub/k"], host.Files.(fakeFiles)["/home/ann/alias"] = "data", "-> data"
		plan, err := Compile(hiding(t, reading(t, c.read), c.hide...), host, []string{"true"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var shown, hidden []string
		for _, m := range plan.Mounts {
			switch {
			case m.Kind == Hidden:
				hidden = append(hidden, m.Target)
			case within(data, m.Target):
				shown = append(shown, m.Target)
			}
		}
		if !slices.Equal(shown, c.shown) || !slices.Equal(hidden, c.hidden) {
			t.Errorf("%s: shown %q, want %q; hidden %q, want %q", c.name, shown, c.shown, hidden, c.hidden)
		}
	}
}

// TestHideRefused: what a run is about cannot be hidden from it.
func TestHideRefused(t *testing.T) {
	for _, c := range []struct{ hide, command, want string }{
		{"/home/ann/src/app", "true", "is the working directory itself"},
		{"/home/ann/src", "true", `the working directory "/home/ann/src/app" lies in it`},
		{"/home/ann/alias", "true", `the working directory "/home/ann/src/app" lies in it`},
		{"/home/ann/.nvm", "node", `the command needs "/home/ann/.nvm/bin/node"`},
		{"/home/ann/src/other", "true", ""},
		{"/home/ann/.nvm", "true", ""},
	} {
		host := fakeHost()
		host.Files.(fakeFiles)["/home/ann/alias"] = "-> src"
		_, err := Compile(hiding(t, base(t), c.hide), host, []string{c.command})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("hide %s from %s: %v, want %q", c.hide, c.command, err, c.want)
		}
	}
}
