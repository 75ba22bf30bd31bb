// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
)

// plainPlan is the plan of a command below the home on a host without FUSE.
func plainPlan(t *testing.T) Plan {
	t.Helper()
	host := fakeHost()
	host.WithoutFUSE = "open /dev/fuse: no such file or directory"
	policy := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("/home/ann/data") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/app/.env") })
	plan, err := Compile(policy, host, []string{"agent"})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// A hidden directory with something shown in it is a tmpfs of its own, in which the mount points are made.
func TestPlainPassage(t *testing.T) {
	host := fakeHost()
	policy := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/other") },
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithRead("/home/ann/src", "/home/ann/src/other/x")
		})
	for _, without := range []string{"", "open /dev/fuse: no such file or directory"} {
		host.WithoutFUSE = without
		plan, err := Compile(policy, host, []string{"agent"})
		if err != nil {
			t.Fatal(err)
		}
		entries := map[string]rootfs.Entry{}
		for _, e := range treeEntries(plan, "/hidden") {
			entries[e.Target] = e
		}
		hidden, shown := entries["/home/ann/src/other"], entries["/home/ann/src/other/x"]
		if passage := hidden.Kind == rootfs.Tmpfs && !hidden.Writable && shown.Make; passage != (without != "") {
			t.Errorf("%q: hidden %+v, shown %+v", without, hidden, shown)
		}
		if shown.Kind != rootfs.Bind {
			t.Errorf("%q: shown %+v", without, shown)
		}
		tree := rulesOf(t, plan).tree()
		if without != "" && (!slices.Contains(tree.Passages, hidden.Target) || slices.Contains(tree.Hidden, hidden.Target)) {
			t.Errorf("passages %q, hidden %q", tree.Passages, tree.Hidden)
		}
	}
}

// The home is one mount of the private home, and no directory on the way to what is mounted into it can be moved.
func TestPlainMounts(t *testing.T) {
	plan := plainPlan(t)
	var got []string
	caches, pinned := 0, 0
	for _, m := range plan.Mounts {
		if within(plan.Home.Caches, m.Source) {
			caches++
			continue
		}
		if name, err := filepath.Rel("/home/ann", m.Target); err == nil && slices.Contains(plan.Home.Pinned, name) {
			pinned++ // on the way to a cache
			continue
		}
		if within("/home", m.Target) {
			got = append(got, fmt.Sprintf("%s %s %s %s", m.Kind, access(m), m.Target, strings.TrimPrefix(m.Source, plan.Home.Private)))
		}
	}
	want := []string{
		"bind rw /home/ann ", "bind rw /home/ann/.nvm /.nvm", "bind ro /home/ann/.nvm/bin/node /home/ann/.nvm/bin/node",
		"bind rw /home/ann/.nvm/bin /.nvm/bin", "bind rw /home/ann/.nvm/lib /.nvm/lib",
		"bind ro /home/ann/.nvm/lib/node_modules /home/ann/.nvm/lib/node_modules", "bind rw /home/ann/data /home/ann/data",
		"bind rw /home/ann/src /src", "bind rw /home/ann/src/app /home/ann/src/app", "hidden -- /home/ann/src/app/.env ",
	}
	if caches != len(plan.Home.Dirs) || caches == 0 || pinned != len(plan.Home.Pinned) || !slices.Contains(plan.Home.Pinned, ".cargo") {
		t.Errorf("%d caches are mounted, of %d, and held in place by %d directories, of %q", caches, len(plan.Home.Dirs), pinned, plan.Home.Pinned)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, want := plan.loosePlaces(), []string{"/home/ann/src/app", "/home/ann/data"}; !slices.Equal(got, want) {
		t.Errorf("places that can be moved away: %q, want %q", got, want)
	}
	if !strings.HasPrefix(plan.Coverage[0], "files: without FUSE (open /dev/fuse: no such file or directory) the root is a tmpfs") {
		t.Errorf("coverage: %q", plan.Coverage[0])
	}
	if !strings.Contains(plan.String(), "looks at a path: ") {
		t.Error("the filter does not ask about looks")
	}
}

// Mount points are made where nothing has them: in the root, in a tmpfs and in the private home, and never in what is granted.
func TestPlainEntries(t *testing.T) {
	plan := plainPlan(t)
	entries := treeEntries(plan, "/hidden")
	made := map[string]bool{}
	at := map[string]int{}
	for i, e := range entries {
		made[e.Target], at[e.Target] = e.Make, i
	}
	for target, want := range map[string]bool{
		"/proc": true, "/bin": true, "/home/ann": true, "/home/ann/src/app": true, "/home/ann/.nvm/bin/agent": true, "/etc/passwd": true,
		"/usr": true, "/home/ann/src/app/.env": false,
	} {
		if got, there := made[target]; !there || got != want {
			t.Errorf("%s: made %v, there %v; want %v", target, got, there, want)
		}
	}
	for above, below := range map[string]string{"/home/ann": "/home/ann/.nvm/bin/agent", "/home/ann/.nvm/bin": "/home/ann/.nvm/bin/agent"} {
		if at[above] > at[below] {
			t.Errorf("%s comes before %s", below, above)
		}
	}
	if e := entries[at["/home/ann/src/app/.env"]]; e.Kind != rootfs.Node || e.Source != "/hidden/"+rootfs.HiddenFile {
		t.Errorf("hidden: %+v", e)
	}
	plan.WithoutFUSE = ""
	for _, e := range treeEntries(plan, "/hidden") {
		if e.Target == "/usr" && e.Make || e.Kind == rootfs.Link || e.Kind == rootfs.Point {
			t.Errorf("with FUSE: %+v", e)
		}
	}
}

func TestPlainRules(t *testing.T) {
	tree := rulesOf(t, plainPlan(t)).tree()
	if want := []string{"/home/ann/src/app/.env"}; !slices.Equal(tree.Hidden, want) {
		t.Errorf("hidden: %q", tree.Hidden)
	}
	if !slices.Contains(tree.Home, "/home/ann") || !slices.Contains(tree.Home, "/home/ann/src") || slices.Contains(tree.Home, "/home/ann/src/app") {
		t.Errorf("home: %q", tree.Home)
	}
	for _, c := range []struct {
		action, path          string
		makes, exists, onHost bool
		want                  string
	}{
		{"create", "/home/ann/new", true, false, false, ""},
		{"create", "/home/ann/taken", true, false, true, "home.host-name"},
		{"create", "/home/ann/.config/tool", true, false, true, ""},
		{"create", "/home/ann/.bashrc", true, false, false, "home.protected"},
		{"mkdir", "/home/ann/.ssh", true, false, true, "home.protected"},
		{"open-write", "/home/ann/.ssh/config", false, true, false, "home.protected"},
		{"open-write", "/home/ann/own", false, true, true, ""},
		{"rename", "/home/ann/.config", true, true, true, "home.protected"},
		{"symlink", "/home/ann/.config", true, false, true, "home.protected"},
		{"mkdir", "/home/ann/.config", true, false, true, ""},
		{"unlink", "/home/ann/.nvm/bin/agent", false, true, true, "not-granted"},
		{"chmod", "/home/ann", false, true, true, "home.protected"},
	} {
		rule, reason := tree.Refuse(c.action, c.path, c.makes, c.exists, func() bool { return c.onHost })
		if rule != c.want || (rule == "") != (reason == "") {
			t.Errorf("%s %s: %q (%s), want %q", c.action, c.path, rule, reason, c.want)
		}
	}
	for _, c := range []struct {
		action, path, rule, want string
		dir                      bool
	}{
		{"open-read", "/home/ann/.ssh/id", "not-granted", "credential", false},
		{"stat", "/home/ann/.ssh", "not-granted", "credential", true},
		{"open-read", "/srv/x", "not-granted", "", false},
		{"list", "/srv", "not-granted", "", true},
		{"stat", "/srv", "not-granted", "noise", true},
		{"open-read", "/home/ann/.config/x", "not-granted", "noise", true},
		{"open-read", "/home/ann/.cache/x", "not-granted", "none", false},
		{"open-read", "/home/ann/.cache/x", "hidden", "", false},
	} {
		e := audit.Event{Action: c.action, Target: c.path, Rule: c.rule}
		got := "none"
		if tree.Judge(&e, c.dir) {
			got = string(e.Severity)
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.action, c.path, got, c.want)
		}
	}
	if tree := rulesOf(t, Plan{}).tree(); tree != nil {
		t.Errorf("with FUSE: %v", tree)
	}
}

func rulesOf(t *testing.T, p Plan) nameRules {
	t.Helper()
	rules, err := p.nameRules()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestUnasked: what is said of a rename or link to or from another mount is what the root would have said of it.
func TestUnasked(t *testing.T) {
	if rulesOf(t, plainPlan(t)).unasked() != nil {
		t.Error("without FUSE, the root is asked about")
	}
	policy := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/app/.env") })
	plan, err := Compile(policy, fakeHost(), []string{"agent"})
	if err != nil {
		t.Fatal(err)
	}
	unasked := rulesOf(t, plan).unasked()
	private := plan.Home.Private
	for _, c := range []struct {
		target string
		makes  bool
		host   string // what the host has
		want   string // rule and severity
	}{
		{"/etc/shadow", false, "/etc/shadow", "not-granted credential"},
		{"/srv/data", false, "/srv/data", "not-granted "},
		{"/srv/data", false, "", ""},
		{"/srv/new", true, "", "not-granted "},
		{"/home/ann/src/app/.env", false, "/home/ann/src/app/.env", "hidden "},
		{"/home/ann/src/app/.env", true, "/home/ann/src/app/.env", "hidden "},
		{"/home/ann/.ssh/id", false, "/home/ann/.ssh/id", "not-granted credential"},
		{"/home/ann/.ssh/new", true, "/home/ann/.ssh", "not-granted credential"},
		// The private home.
		{"/home/ann/own", false, private + "/own", ""},
		{"/home/ann/own", true, private, ""},
		{"/home/ann/taken", true, private + " /home/ann/taken", "home.host-name "},
		{"/home/ann/taken", true, private + " " + private + "/taken /home/ann/taken", ""},
		{"/home/ann/.bashrc", true, private, "home.protected "},
		{"/home/ann/.config/tool", true, private + "/.config /home/ann/.config/tool", ""},
	} {
		e := audit.Event{Action: "rename", Target: c.target}
		got := ""
		if unasked(&e, c.makes, func(path string) bool { return slices.Contains(strings.Fields(c.host), path) }) {
			got = e.Rule + " " + string(e.Severity)
		}
		if got != c.want || (e.Rule == "") != (e.Reason == "") {
			t.Errorf("%s, makes %v, on the host %q: %q (%s), want %q", c.target, c.makes, c.host, got, e.Reason, c.want)
		}
	}
}
