// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"slices"
	"strings"
	"testing"
)

var hostNamespaces = map[string]uint64{"cgroup": 1, "ipc": 2, "mnt": 3, "net": 4, "pid": 5, "user": 6, "uts": 7}

// held is a process as it should be, before the command.
func held() Posture {
	return Posture{
		PID: 77,
		Threads: []Thread{{
			TID: 77, UIDs: [4]int{1000, 1000, 1000, 1000}, GIDs: [4]int{100, 100, 100, 100}, Groups: []int{65534, 4},
			NoNewPrivs: 1, Seccomp: 2, Filters: 1, Umask: 0o22,
			Namespaces: map[string]uint64{
				"cgroup": 11, "ipc": 12, "mnt": 13, "net": 14, "pid": 15, "user": 16, "uts": 17, "time": 8,
			},
			Files: []File{{0, "/dev/null", false}, {1, "pipe:[1]", false}, {2, "pipe:[1]", false}, {3, "socket:[2]", true}},
		}},
		UIDMap: []IDRange{{1000, 0, 1}}, GIDMap: []IDRange{{100, 0, 1}}, Setgroups: "deny",
		Limits: map[string]Limit{"Max core file size": {1, 1}, "Max open files": {1024, 4096}},
		Mounts: []Mount{
			{ID: 20, Parent: 1, Point: "/", Type: "fuse"}, {ID: 21, Parent: 20, Point: "/usr", Type: "ext4", Flags: ReadOnly},
		},
		Cgroups: []Cgroup{{"memory", "/agentjail-x"}, {"", "/user"}}, Dir: "/usr/src", DirMount: 21,
	}
}

func wanted() Want {
	return Want{
		UID: 1000, GID: 100, Groups: []int{4, 65534}, UIDMap: []IDRange{{1000, 0, 1}}, GIDMap: []IDRange{{100, 0, 1}},
		Filters: 1, Umask: 0o22, Limits: map[string]Limit{"Max open files": {1024, 4096}},
		Host: hostNamespaces, Run: map[string]uint64{"net": 14, "pid": 15},
		Open:    []int{3, 2, 1, 0},
		Mounts:  []WantMount{{Point: "/", Type: "fuse"}, {Point: "/usr", Flags: ReadOnly}},
		Cgroups: []Cgroup{{"memory", "/"}, {"", "/user"}}, Group: Group{"agentjail-x", []string{"memory"}}, Dir: "/usr/src",
	}
}

func fields(list Differences) (names []string) {
	for _, d := range list {
		names = append(names, d.Field)
	}
	return names
}

func TestCompareEqual(t *testing.T) {
	if d := Compare(wanted(), held()); d != nil {
		t.Errorf("differences: %v", d)
	}
}

// TestCompareDiffers: one change each, and exactly the field that it is about.
func TestCompareDiffers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Posture, *Thread, *Want)
		field  string
	}{
		{"privileges", func(p *Posture, t *Thread, w *Want) { t.NoNewPrivs = 0 }, "no_new_privs"},
		{"no filter", func(p *Posture, t *Thread, w *Want) { t.Seccomp = 0 }, "seccomp"},
		{"strict mode", func(p *Posture, t *Thread, w *Want) { t.Seccomp = 1 }, "seccomp"},
		{"too few filters", func(p *Posture, t *Thread, w *Want) { w.Filters = 2 }, "seccomp filters"},
		{"too many filters", func(p *Posture, t *Thread, w *Want) { t.Filters = 2 }, "seccomp filters"},
		{"no filter wanted", func(p *Posture, t *Thread, w *Want) { t.Filters, w.Filters = 0, 0 }, "seccomp filters"},
		{"inheritable", func(p *Posture, t *Thread, w *Want) { t.Caps.Inheritable = 1 }, "capabilities"},
		{"permitted", func(p *Posture, t *Thread, w *Want) { t.Caps.Permitted = 1 }, "capabilities"},
		{"effective", func(p *Posture, t *Thread, w *Want) { t.Caps.Effective = 1 }, "capabilities"},
		{"bounding", func(p *Posture, t *Thread, w *Want) { t.Caps.Bounding = 1 << 40 }, "capabilities"},
		{"ambient", func(p *Posture, t *Thread, w *Want) { t.Caps.Ambient = 1 }, "capabilities"},
		{"saved uid", func(p *Posture, t *Thread, w *Want) { t.UIDs[2] = 0 }, "uid"},
		{"fs gid", func(p *Posture, t *Thread, w *Want) { t.GIDs[3] = 0 }, "gid"},
		{"group", func(p *Posture, t *Thread, w *Want) { t.Groups = []int{4, 998} }, "groups"},
		{"more groups", func(p *Posture, t *Thread, w *Want) { t.Groups = append(t.Groups, 4) }, "groups"},
		{"umask", func(p *Posture, t *Thread, w *Want) { t.Umask = 0 }, "umask"},
		{"blocked", func(p *Posture, t *Thread, w *Want) { t.Blocked = 1 }, "blocked signals"},
		{"ignored", func(p *Posture, t *Thread, w *Want) { t.Ignored = 1 }, "ignored signals"},
		{"caught", func(p *Posture, t *Thread, w *Want) { t.Caught = 1 }, "caught signals"},
		{"host's net", func(p *Posture, t *Thread, w *Want) { w.Run = nil; t.Namespaces["net"] = 4 }, "net namespace"},
		{"other net", func(p *Posture, t *Thread, w *Want) { t.Namespaces["net"] = 99 }, "net namespace"},
		{"no namespace", func(p *Posture, t *Thread, w *Want) { delete(t.Namespaces, "uts") }, "uts namespace"},
		{"time promised", func(p *Posture, t *Thread, w *Want) {
			w.Host = map[string]uint64{"cgroup": 1, "ipc": 2, "mnt": 3, "net": 4, "pid": 5, "user": 6, "uts": 7, "time": 8}
		}, "time namespace"},
		{"host unknown", func(p *Posture, t *Thread, w *Want) {
			w.Host = map[string]uint64{"cgroup": 1, "ipc": 2, "mnt": 3, "net": 4, "pid": 5, "user": 6}
		}, "uts namespace"},
		{"more files", func(p *Posture, t *Thread, w *Want) { t.Files = append(t.Files, File{9, "/etc", true}) }, "file 9"},
		{"inherited file", func(p *Posture, t *Thread, w *Want) { t.Files[3].CloseOnExec = false }, "file 3"},
		{"missing file", func(p *Posture, t *Thread, w *Want) { t.Files = t.Files[:3] }, "file 3"},
		{"uid map", func(p *Posture, t *Thread, w *Want) { p.UIDMap[0].Size = 2 }, "uid_map"},
		{"gid map", func(p *Posture, t *Thread, w *Want) { p.GIDMap = append(p.GIDMap, IDRange{0, 0, 1}) }, "gid_map"},
		{"setgroups", func(p *Posture, t *Thread, w *Want) { p.Setgroups = "allow" }, "setgroups"},
		{"core", func(p *Posture, t *Thread, w *Want) { p.Limits["Max core file size"] = Limit{0, 1} }, "limit Max core file size"},
		{"core of a block", func(p *Posture, t *Thread, w *Want) { p.Limits["Max core file size"] = Limit{512, 512} }, "limit Max core file size"},
		{"core unknown", func(p *Posture, t *Thread, w *Want) { delete(p.Limits, "Max core file size") }, "limit Max core file size"},
		{"files", func(p *Posture, t *Thread, w *Want) { p.Limits["Max open files"] = Limit{} }, "limit Max open files"},
		{"cgroup", func(p *Posture, t *Thread, w *Want) { p.Cgroups[0].Path = "/" }, "cgroup of memory"},
		{"mount", func(p *Posture, t *Thread, w *Want) { p.Mounts = append(p.Mounts, Mount{Point: "/host"}) }, `mount "/host"`},
		{"writable mount", func(p *Posture, t *Thread, w *Want) { p.Mounts[1].Flags = 0 }, `mount "/usr"`},
		{"directory", func(p *Posture, t *Thread, w *Want) { p.Dir = "/usr" }, "working directory"},
		{"host's directory", func(p *Posture, t *Thread, w *Want) { p.DirMount = 5 }, "mount of the working directory"},
		{"no threads", func(p *Posture, t *Thread, w *Want) { p.Threads = nil }, "threads"},
	} {
		p, w := held(), wanted()
		c.change(&p, &p.Threads[0], &w)
		if got := fields(Compare(w, p)); !slices.Equal(got, []string{c.field}) {
			t.Errorf("%s: differences in %q, want %q", c.name, got, c.field)
		}
	}
}

func TestCompareEveryThread(t *testing.T) {
	p := held()
	second := held().Threads[0]
	second.TID, second.Seccomp = 78, 0
	p.Threads = append(p.Threads, second)
	d := Compare(wanted(), p)
	if len(d) != 1 || d[0].Thread != 78 || !strings.Contains(d[0].String(), "thread 78: seccomp is 0, not 2") {
		t.Errorf("differences: %v", d)
	}
}

// What a command may change is not compared while it runs, and what it may not change is.
func TestCompareRunning(t *testing.T) {
	p, w := held(), wanted()
	th := &p.Threads[0]
	th.Umask, th.Blocked, th.Ignored, th.Caught, th.Filters, th.Files = 0, 1, 2, 4, 2, nil
	p.Limits["Max open files"], p.Dir = Limit{}, "/"
	p.Mounts = append(p.Mounts, Mount{ID: 22, Parent: 20, Point: "/data", Type: "ext4", Flags: NoSuid | ReadOnly | frozen})
	gone := Mount{ID: 23, Parent: 21, Point: "/usr/gone", Type: "ext4"}
	w.Running, w.Before = true, append(slices.Clone(p.Mounts), gone)
	p.Mounts[1].Point, p.Mounts[2].Flags = "/moved", NoSuid|NoExec // the host did that
	p.Mounts = append(p.Mounts,                                    // as NFS does where an export has others in it
		Mount{ID: 30, Parent: 20, Point: "/export", Type: "nfs4", Flags: p.Mounts[0].Flags},
		Mount{ID: 31, Parent: 30, Point: "/export/inner", Type: "nfs4", Flags: p.Mounts[0].Flags})
	p.Cgroups[1].Path, p.DirMount = "/elsewhere", gone.ID
	if d := Compare(w, p); d != nil {
		t.Errorf("differences: %v", d)
	}
	th.Filters, th.Caps.Effective = 0, 1
	p.Limits["Max core file size"] = Limit{2, 2}
	p.Mounts[1].Flags, p.Cgroups[0].Path = 0, "/"
	p.Mounts = append(p.Mounts, Mount{ID: 32, Parent: 21, Point: "/moved/new"}, Mount{ID: 34, Parent: 33, Point: "/nowhere", Flags: p.Mounts[0].Flags})
	p.DirMount = 35
	if got := fields(Compare(w, p)); !slices.Equal(got, []string{
		"seccomp filters", "capabilities", "limit Max core file size", "mount of the working directory", `mount "/moved"`, `mount "/moved/new"`, `mount "/nowhere"`, "cgroup of memory",
	}) {
		t.Errorf("differences in %q", got)
	}
}

// TestCompareUnreadable: what of a running command may not be read is not compared, and all else is; before it runs, that is a difference.
func TestCompareUnreadable(t *testing.T) {
	p, w := held(), wanted()
	p.Threads[0].Namespaces, p.Dir, p.DirMount = nil, "", 0
	if got := fields(Compare(w, p)); !slices.Contains(got, "net namespace") || !slices.Contains(got, "working directory") {
		t.Errorf("before it runs there are differences in %q", got)
	}
	w.Running, w.Before = true, p.Mounts
	if d := Compare(w, p); d != nil {
		t.Errorf("differences: %v", d)
	}
	p.Threads[0].Caps.Effective = 1
	if got := fields(Compare(w, p)); !slices.Equal(got, []string{"capabilities"}) {
		t.Errorf("differences in %q", got)
	}
}

func TestDifferencesString(t *testing.T) {
	d := Differences{{0, "a", "1", "2"}, {7, "b", "1", "2"}}
	if got := d.String(); got != "a is 2, not 1; thread 7: b is 2, not 1" {
		t.Error(got)
	}
	d = append(d, d[0], d[0], d[0], d[0])
	if got := d.String(); !strings.HasSuffix(got, "; a is 2, not 1; and 2 more") || strings.Count(got, ";") != 4 {
		t.Error(got)
	}
}

// TestZeroWant: nothing equals it, not even a process that has nothing.
func TestZeroWant(t *testing.T) {
	for _, p := range []Posture{{}, held(), {Threads: []Thread{{}}}} {
		if len(Compare(Want{}, p)) == 0 {
			t.Errorf("no difference to %+v", p)
		}
	}
	w := wanted()
	w.Mounts, w.Cgroups, w.Group = nil, nil, Group{}
	if got := fields(Compare(w, held())); !slices.Equal(got, []string{`mount "/"`, `mount "/usr"`, "cgroup of memory", "cgroup"}) {
		t.Errorf("differences in %q", got)
	}
}
