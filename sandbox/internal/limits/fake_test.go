// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The files of a group that the kernel would make, with their first contents.
var (
	filesV1 = map[string]string{
		"cgroup.procs": "", "memory.limit_in_bytes": "9223372036854771712\n", "memory.memsw.limit_in_bytes": "9223372036854771712\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "pids.max": "max\n", "pids.events": "max 0\n",
		"cpu.cfs_period_us": "100000\n", "cpu.cfs_quota_us": "-1\n",
	}
	filesV2 = map[string]string{
		"cgroup.procs": "", "cgroup.kill": "", "cgroup.subtree_control": "", "cgroup.controllers": "cpu memory pids\n",
		"memory.max": "max\n", "memory.swap.max": "max\n", "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
		"pids.max": "max\n", "pids.events": "max 0\n", "cpu.max": "max 100000\n",
	}
)

// fakeHost has directories without a kernel behind them.
func fakeHost(t *testing.T, files map[string]string) (host, string) {
	t.Helper()
	root := t.TempDir()
	h := host{
		mkdir: func(path string, mode os.FileMode) error {
			if err := os.Mkdir(path, mode); err != nil {
				return err
			}
			return populate(path, files)
		},
		rmdir:   os.RemoveAll,
		connect: func() (manager, error) { return nil, errors.New("there is no systemd") },
	}
	h.v1 = map[string]hierarchy{}
	return h, root
}

func populate(dir string, files map[string]string) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fakeV2 makes mount/user.slice/own, where user.slice hands some controllers down.
func fakeV2(t *testing.T, handed string) host {
	t.Helper()
	h, root := fakeHost(t, filesV2)
	for _, dir := range []string{"", "user.slice", "user.slice/own"} {
		path := filepath.Join(root, dir)
		if dir != "" {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := populate(path, filesV2); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "user.slice/cgroup.subtree_control"), handed)
	h.v2 = &hierarchy{mount: root, own: filepath.Join(root, "user.slice/own")}
	return h
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// values reads files of a directory. The fake keeps what was there behind a shorter value that is written over it.
func expect(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for file, value := range want {
		if got := read(t, filepath.Join(dir, file)); !strings.HasPrefix(got, value) {
			t.Errorf("%s is %q, want %q", file, got, value)
		}
	}
}

var everything = Spec{Memory: 4 << 30, Pids: 512, CPUs: 1.5, Run: "R1"}

func TestV1Layout(t *testing.T) {
	h, root := fakeHost(t, filesV1)
	for controllers, dir := range map[string]string{"memory": "memory/job", "pids": "pids", "cpu": "cpu,cpuacct"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		h.v1[controllers] = hierarchy{root, filepath.Join(root, dir)}
	}
	g, err := create(h, everything, 0)
	if err != nil {
		t.Fatal(err)
	}
	if g.Mechanism() != "cgroup v1" || len(g.places) != 3 {
		t.Errorf("%s with %d places", g.Mechanism(), len(g.places))
	}
	expect(t, filepath.Join(root, "memory/job/agentjail-R1"), map[string]string{
		"memory.limit_in_bytes": "4294967296", "memory.memsw.limit_in_bytes": "4294967296", "pids.max": "max",
	})
	expect(t, filepath.Join(root, "pids/agentjail-R1"), map[string]string{"pids.max": "512", "memory.limit_in_bytes": "9223372036854771712"})
	expect(t, filepath.Join(root, "cpu,cpuacct/agentjail-R1"), map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"})
	if views := g.Views(); len(views) != 3 || views[0] != (View{Source: filepath.Join(root, "memory/job/agentjail-R1"), Target: root}) {
		t.Errorf("views: %v", views)
	}
	if err := g.Add(4321); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"memory/job", "pids", "cpu,cpuacct"} {
		expect(t, filepath.Join(root, dir, "agentjail-R1"), map[string]string{"cgroup.procs": "4321"})
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*/agentjail-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Controllers that are mounted as one tree share a directory.
func TestV1MountedTogether(t *testing.T) {
	h, root := fakeHost(t, filesV1)
	for _, c := range []string{"memory", "pids"} {
		h.v1[c] = hierarchy{root, root}
	}
	g, err := create(h, Spec{Memory: 1 << 30, Pids: 9, Run: "R1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if len(g.places) != 1 {
		t.Errorf("%d places, want 1", len(g.places))
	}
	expect(t, g.Dir(), map[string]string{"pids.max": "9", "memory.limit_in_bytes": "1073741824"})
}

func TestV2Layout(t *testing.T) {
	h := fakeV2(t, "cpu memory pids")
	g, err := create(h, everything, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if want := filepath.Join(h.v2.mount, "user.slice/agentjail-R1"); g.Dir() != want || g.Mechanism() != "cgroup v2" {
		t.Errorf("%s in %s, want %s", g.Mechanism(), g.Dir(), want)
	}
	expect(t, g.Dir(), map[string]string{"memory.max": "4294967296", "memory.swap.max": "0", "pids.max": "512", "cpu.max": "150000 100000"})
	if err := errors.Join(g.Add(77), g.Kill()); err != nil {
		t.Fatal(err)
	}
	expect(t, g.Dir(), map[string]string{"cgroup.procs": "77", "cgroup.kill": "1"})
	if want := []View{{Source: g.Dir(), Target: h.v2.mount}}; !slices.Equal(g.Views(), want) {
		t.Errorf("views %v, want %v", g.Views(), want)
	}
}

func TestHitsAreToldOnce(t *testing.T) {
	g, err := create(fakeV2(t, "memory pids"), Spec{Memory: 1 << 30, Pids: 5, Run: "R1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if hits := g.Hits(); len(hits) != 0 {
		t.Errorf("hits of a new group: %v", hits)
	}
	write(t, filepath.Join(g.Dir(), "memory.events"), "low 0\nmax 90\noom 2\noom_kill 2\n")
	write(t, filepath.Join(g.Dir(), "pids.events"), "max 7\n")
	want := []Hit{{"memory", 2, counters(v2)[0].reason}, {"pids", 7, counters(v2)[1].reason}}
	if hits := g.Hits(); !slices.Equal(hits, want) {
		t.Errorf("got %v, want %v", hits, want)
	}
	write(t, filepath.Join(g.Dir(), "pids.events"), "max 8\n")
	if hits := g.Hits(); len(hits) != 1 || hits[0].Count != 1 || hits[0].Limit != "pids" {
		t.Errorf("the second time: %v", hits)
	}
	write(t, filepath.Join(g.Dir(), "pids.events"), "rubbish\nmax x\nmax\n")
	if hits := g.Hits(); len(hits) != 0 {
		t.Errorf("hits of rubbish: %v", hits)
	}
}

func TestUnavailable(t *testing.T) {
	none, _ := fakeHost(t, nil)
	mixed := fakeV2(t, "memory pids")
	mixed.v1["pids"] = hierarchy{mixed.v2.mount, mixed.v2.mount}
	broken, root := fakeHost(t, map[string]string{"cgroup.procs": ""}) // a kernel without the controller's files
	broken.v1["pids"] = hierarchy{root, root}
	readonly, root := fakeHost(t, filesV1)
	readonly.v1["pids"] = hierarchy{root, root}
	readonly.mkdir = func(string, os.FileMode) error { return &os.PathError{Op: "mkdir", Err: unix.EROFS} }
	refused := fakeV2(t, "pids")
	refused.mkdir = func(string, os.FileMode) error { return &os.PathError{Op: "mkdir", Err: unix.EACCES} }
	rootless := fakeV2(t, "cpu")
	rootful := fakeV2(t, "cpu")
	rootful.root = true
	contained := fakeV2(t, "cpu") // what looks like the root of all is not
	contained.root = true
	write(t, filepath.Join(contained.v2.mount, "cgroup.type"), "domain\n")
	lacking := fakeV2(t, "cpu")
	lacking.root = true
	write(t, filepath.Join(lacking.v2.mount, "cgroup.controllers"), "cpu memory\n")
	odd := fakeV2(t, "pids")
	odd.mkdir = func(string, os.FileMode) error { return &os.PathError{Op: "mkdir", Err: unix.ENOSPC} }
	for name, c := range map[string]struct {
		host host
		fix  string
	}{
		"nothing is mounted":              {none, fixMount},
		"controllers in two versions":     {mixed, fixMount},
		"no such controller":              {broken, fixV1},
		"read-only":                       {readonly, fixV1},
		"nothing handed down, no systemd": {rootless, fixV2},
		"nothing handed down to root":     {rootful, "echo '+pids' > " + rootful.v2.mount + "/cgroup.subtree_control"},
		"nothing handed to a container":   {contained, fixV2},
		"no such controller for root":     {lacking, fixV2},
		"refused, no systemd":             {refused, fixV2},
		"too many groups":                 {odd, fixQuota},
	} {
		spec := Spec{Pids: 5, Run: "R1"}
		if name == "controllers in two versions" {
			spec.Memory = 1 << 30
		}
		g, err := create(c.host, spec, 0)
		var unavailable *UnavailableError
		if g != nil || !errors.As(err, &unavailable) || unavailable.Fix() != c.fix {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}

// A run that cannot have all limits that it asked for has no group, and leaves none.
func TestHalfAGroupIsNone(t *testing.T) {
	h, root := fakeHost(t, map[string]string{"cgroup.procs": "", "memory.limit_in_bytes": ""})
	for _, c := range []string{"memory", "pids"} {
		if err := os.Mkdir(filepath.Join(root, c), 0o755); err != nil {
			t.Fatal(err)
		}
		h.v1[c] = hierarchy{root, filepath.Join(root, c)}
	}
	g, err := create(h, Spec{Memory: 1 << 30, Pids: 4, Run: "R1"}, 0)
	if g != nil || err == nil {
		t.Fatalf("%v, %v", g, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*/agentjail-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMisuseIsABug(t *testing.T) {
	const run = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, s := range []Spec{
		{}, {Run: run}, {Pids: 1}, {Pids: -1, Run: run}, {Memory: -1, Pids: 1, Run: run}, {Pids: 1, Run: "../x"}, {Pids: 1, Run: "notes"},
	} {
		if g, err := Create(s); g != nil || err == nil || !strings.Contains(err.Error(), "bug") {
			t.Errorf("%+v: %v, %v", s, g, err)
		}
	}
}

func TestReap(t *testing.T) {
	h, root := fakeHost(t, filesV2)
	const name, goneName = prefix + "01ARZ3NDEKTSV4RRFFQ69G5FA0", prefix + "01ARZ3NDEKTSV4RRFFQ69G5FA1"
	path, others := filepath.Join(root, name), filepath.Join(root, prefix+"notes")
	outside := filepath.Join(t.TempDir(), name) // lists a process, but the kernel did not
	for _, dir := range []string{path, others, outside} {
		if err := h.mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.v1["pids"] = hierarchy{mount: root}
	if err := reap([]string{path, filepath.Join(root, goneName)}, h.hierarchies, h.rmdir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
	for _, path := range []string{
		root, name, "/", "", outside, root + "/../" + filepath.Base(filepath.Dir(outside)) + "/" + name, root + "/other", others,
	} {
		if reap([]string{path}, h.hierarchies, h.rmdir) == nil {
			t.Errorf("%q was taken for a run's group", path)
		}
	}
	for _, dir := range []string{outside, others} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("what is no run's group was removed: %v", err)
		}
	}
}

// TestRemoveStale: of the directories beside a group, those of runs go which nobody holds and which have no process. The twin is the group
// of a run that goes on.
func TestRemoveStale(t *testing.T) {
	h, root := fakeHost(t, filesV2)
	const stale, busy, held = "agentjail-01ARZ3NDEKTSV4RRFFQ69G5FA0", "agentjail-01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2"
	p, err := newPlace(h, root, held)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	others := []string{"agentjail-notes", "agentjail-01ARZ3NDEKTSV4RRFFQ69G5FA3.scope", "01ARZ3NDEKTSV4RRFFQ69G5FA4", "agentjail-"}
	for _, name := range append(others, stale, busy) {
		if err := h.mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, busy, "cgroup.procs"), "99\n")
	remove := func(path string) error { // as the kernel does
		if err := removable(path); err != nil {
			return err
		}
		return os.RemoveAll(path)
	}
	for _, how := range []func(string) error{removable, remove} {
		if got := removeStale(root, how); !slices.Equal(got, []string{filepath.Join(root, stale)}) {
			t.Errorf("stale: %q", got)
		}
	}
	for name, there := range map[string]bool{stale: false, busy: true, prefix + held: true, others[0]: true, others[1]: true, others[2]: true, others[3]: true} {
		if _, err := os.Stat(filepath.Join(root, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}
