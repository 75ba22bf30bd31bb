// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io/fs"
	"path/filepath"
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

// TestHideBelow: what lies below a hidden path is hidden too but for what an entry names there, by whatever names the two were given.
func TestHideBelow(t *testing.T) {
	const data = "/home/ann/data"
	for _, c := range []struct {
		name   string
		read   string
		hide   []string
		shown  []string // of what the policy reads and hides, the mounts that are left
		hidden []string
	}{
		{name: "by a link to hide", read: data + "/sub", hide: []string{"/home/ann/alias"}, shown: []string{data + "/sub"}},
		{name: "by a link to read", read: "/home/ann/alias/sub", hide: []string{data}, shown: []string{data + "/sub"}},
		{name: "the same", read: "/home/ann/alias/sub", hide: []string{data + "/sub"}},
		{name: "of the same above", read: data + "/sub", hide: []string{data + "/sub", data}},
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

// TestHideGivesNoWay: what nobody named there does not show in what is hidden.
func TestHideGivesNoWay(t *testing.T) {
	host := toolHost()
	host.Files.(fakeFiles)["/home/ann/.local/share/claude/x"] = "data"
	host.Files.(fakeFiles)["/home/ann/alias"] = "-> .local"
	host.Files.(fakeFiles)["/home/ann/.local/bin/claude"] = "-> ../share/claude/x"
	host.Environ = append([]string{"PATH=/home/ann/.local/bin:/usr/bin"}, host.Environ...)
	for _, hide := range []string{"~/.local", "/home/ann/.local", "/home/ann/alias"} {
		policy, err := profiles.Named("claude-code")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := Compile(hiding(t, withTools(t, policy, "mise", "python"), hide), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range plan.Mounts {
			if within("/home/ann/.local", m.Target) && m.Origin != originHome {
				t.Errorf("hide %s: %+v", hide, m)
			}
		}
		for at := range plan.Symlinks {
			if within("/home/ann/.local", at) {
				t.Errorf("hide %s: the link %s is shown", hide, at)
			}
		}
	}
}

// TestHideShows: in what is hidden in a writable place, a named path is shown by a mount over the hidden one, and no directory between
// them is pinned: that would show what is in it.
func TestHideShows(t *testing.T) {
	const app = "/home/ann/src/app"
	host := fakeHost()
	host.Files.(fakeFiles)[app+"/a/hidden/b/c/shown/x"] = "data"
	policy := hiding(t, reading(t, app+"/a/hidden/b/c/shown"), app+"/a/hidden")
	plan, err := Compile(policy, host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range plan.Mounts {
		if within(app, m.Target) {
			got = append(got, string(m.Kind)+" "+access(m)+" "+strings.TrimPrefix(m.Target, app))
		}
	}
	if want := []string{"bind rw ", "bind rw /a", "hidden -- /a/hidden", "bind ro /a/hidden/b/c/shown"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for path, want := range map[string]Access{
		"/a/hidden": AccessOwn, "/a/hidden/b/c": AccessOwn, "/a/hidden/b/c/shown/x": AccessReadOnly, "/a/hidden/b/x": AccessHidden, "/a/hidden/new": AccessHidden,
	} {
		e, err := plan.Explain(host.Files, app+path)
		if err != nil || e.Access != want {
			t.Errorf("%s is %s, want %s (%v)", path, e.Access, want, err)
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

// flickering is a host on which somebody takes a path away in the moment between two looks at it.
type flickering struct {
	fakeFiles
	path string
	left *int // looks that find it; then one does not
}

func (f flickering) Lstat(path string) (fs.FileInfo, error) {
	if path == f.path {
		if *f.left--; *f.left == -1 {
			return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
		}
	}
	return f.fakeFiles.Lstat(path)
}

// TestHideFlickers: what is there when a start begins is hidden in it, or the start fails, whenever somebody takes it away and puts it back.
// Containment check: A21.
func TestHideFlickers(t *testing.T) {
	const secret, inDir = "/home/ann/src/app/.env", "/home/ann/src/app/conf/.env"
	secrets := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithSecrets(profiles.SecretsHide) })
	for name, c := range map[string]struct {
		policy       profiles.Policy
		secret, gone string
	}{
		"hide":                 {hiding(t, base(t), secret), secret, secret},
		"secrets":              {secrets, secret, secret},
		"a secret's directory": {secrets, inDir, filepath.Dir(inDir)},
	} {
		secret, refused := c.secret, 0
		for looks := range 20 {
			host, left := fakeHost(), looks
			files := host.Files.(fakeFiles)
			files[inDir] = ""
			host.Files = flickering{files, c.gone, &left}
			plan, err := Compile(c.policy, host, []string{"true"})
			if err != nil {
				refused++
			} else if !slices.ContainsFunc(plan.Mounts, func(m Mount) bool { return m.Kind == Hidden && m.Target == secret }) {
				t.Errorf("%s: gone at look %d, it is shown", name, looks)
			}
		}
		if refused == 0 || refused == 20 {
			t.Errorf("%s: %d of 20 starts were refused", name, refused)
		}
	}
}

// TestSecrets: files that hold secrets by their names are hidden where the policy says so, but for what it names.
func TestSecrets(t *testing.T) {
	const app = "/home/ann/src/app"
	host := fakeHost()
	for _, name := range []string{".env.test", ".env.example", "deep/id_rsa", "node_modules/x/a.key", ".git/x.key", "main.key.go"} {
		host.Files.(fakeFiles)[app+"/"+name] = "data"
	}
	host.Files.(fakeFiles)[app+"/out.key"] = "-> ../other/x"
	host.Files.(fakeFiles)[app+"/in.key"] = "-> deep/id_rsa"
	for what, want := range map[string][]string{
		profiles.SecretsShow: nil,
		profiles.SecretsHide: {app + "/.env", app + "/deep/id_rsa"},
	} {
		policy := with(t, reading(t, app+"/.env.test"), func(p profiles.Policy) (profiles.Policy, error) { return p.WithSecrets(what) })
		plan, err := Compile(policy, host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		var hidden []string
		for _, m := range plan.Mounts {
			if m.Kind == Hidden {
				hidden = append(hidden, m.Target)
				if !plan.isCredential(m.Target) {
					t.Errorf("%s is no credential", m.Target)
				}
			}
		}
		if !slices.Equal(hidden, want) {
			t.Errorf("%s: hidden %q, want %q", what, hidden, want)
		}
	}
}

// TestHiddenTools: the plan names no tool that the policy hides.
func TestHiddenTools(t *testing.T) {
	plan, err := Compile(hiding(t, withTools(t, base(t), "mise"), "/home/ann/.local"), toolHost(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range plan.Tools[0].Found {
		if within("/home/ann/.local", path) {
			t.Errorf("%s is hidden", path)
		}
	}
}
