// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		spec   Spec
		v1, v2 string
	}{
		{Spec{}, "", ""},
		{Spec{Memory: 1 << 20}, "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=1048576?", "memory.max=1048576 memory.swap.max=0?"},
		{Spec{Pids: 7}, "pids.max=7", "pids.max=7"},
		{Spec{CPUs: 2}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=200000", "cpu.max=200000 100000"},
		{Spec{CPUs: 0.29}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=29000", "cpu.max=29000 100000"},
		{Spec{CPUs: 0.001}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=1000", "cpu.max=1000 100000"},
		{Spec{CPUs: 0.333}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=34000", "cpu.max=34000 100000"},
	} {
		for v, want := range map[version]string{v1: c.v1, v2: c.v2} {
			var got []string
			for _, s := range settings(v, c.spec) {
				if !slices.Contains(controllers(c.spec), s.controller) {
					t.Errorf("%+v: %s is of controller %s, which is not asked for", c.spec, s.file, s.controller)
				}
				text := s.file + "=" + s.value
				if s.optional {
					text += "?"
				}
				got = append(got, text)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("version %d, %+v: %q, want %q", v, c.spec, got, want)
			}
		}
	}
}

func TestParseHierarchies(t *testing.T) {
	const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	const groups = "9:name=systemd:/user\n8:memory:/no/such/group\n1:cpu,cpuacct:/\n0::/\n"
	h, err := parseHierarchies([]byte(hybrid), []byte(groups))
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"} {
		if h.v1[c].mount != want || h.v1[c].own != want {
			t.Errorf("%s: %+v, want %s", c, h.v1[c], want)
		}
	}
	if h.v2 == nil || h.v2.mount != "/sys/fs/cgroup/unified" {
		t.Errorf("version 2: %+v", h.v2)
	}
	if _, ok := h.v1["pids"]; ok {
		t.Error("pids is not mounted")
	}
	if _, err := parseHierarchies([]byte("rubbish\n"), nil); err == nil {
		t.Error("rubbish was parsed")
	}
}

// A container sees a part of the tree, or its own group as the root.
func TestOwnGroupBelowAMount(t *testing.T) {
	mount := t.TempDir()
	if err := mkdirAll(mount, "job/run"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ root, path, want string }{
		{"/", "/job/run", mount + "/job/run"},
		{"/docker/abc", "/docker/abc/job", mount + "/job"},
		{"/docker/abc", "/docker/abc", mount},
		{"/docker/ab", "/docker/abc/job", mount}, // another's
		{"/", "/../../etc", mount},
		{"/", "/gone", mount},
	} {
		line := fmt.Sprintf("1 2 0:3 %s %s rw - cgroup2 cgroup2 rw\n", c.root, mount)
		h, err := parseHierarchies([]byte(line), []byte("0::"+c.path+"\n"))
		if err != nil || h.v2 == nil || h.v2.own != c.want {
			t.Errorf("%+v: %+v, %v", c, h.v2, err)
		}
	}
}

func TestFindParent(t *testing.T) {
	h := fakeV2(t, "memory pids")
	if dir, err := findParent(*h.v2, []string{"pids", "memory"}); err != nil || dir != h.v2.mount+"/user.slice" {
		t.Errorf("%s, %v", dir, err)
	}
	if dir, err := findParent(*h.v2, []string{"cpu"}); err == nil || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("%s, %v", dir, err)
	}
	write(t, h.v2.mount+"/cgroup.subtree_control", "cpu memory pids")
	if dir, err := findParent(*h.v2, []string{"cpu"}); err != nil || dir != h.v2.mount {
		t.Errorf("%s, %v", dir, err)
	}
}

func mkdirAll(root, dir string) error { return os.MkdirAll(filepath.Join(root, dir), 0o755) }
