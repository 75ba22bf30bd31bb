// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"slices"
	"testing"
)

func TestParseCgroups(t *testing.T) {
	got, err := parseCgroups("12:cpu,cpuacct:/a:b c\n1:name=systemd:/user\n0::/\n")
	want := []Cgroup{{"cpu,cpuacct", "/a:b c"}, {"name=systemd", "/user"}, {"", "/"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseCgroups("0:/"); err == nil {
		t.Error("no error")
	}
}

func TestCgroups(t *testing.T) {
	v1 := []Cgroup{{"cpu,cpuacct", "/"}, {"memory", "/m"}, {"pids", "/p"}, {"name=systemd", "/s"}, {"", "/s"}}
	v2 := []Cgroup{{"", "/user.slice/a.scope"}}
	moved := func(list []Cgroup, paths map[string]string) []Cgroup {
		list = slices.Clone(list)
		for i, g := range list {
			if path, ok := paths[g.Controllers]; ok {
				list[i].Path = path
			}
		}
		return list
	}
	group := func(controllers ...string) Group { return Group{"agentjail-1", controllers} }
	for _, c := range []struct {
		name      string
		born, got []Cgroup
		group     Group
		want      []string
	}{
		{"none of its own", v1, v1, Group{}, nil},
		{"none of its own, v2", v2, v2, Group{}, nil},
		{"moved unasked", v1, moved(v1, map[string]string{"pids": "/agentjail-1"}), Group{}, []string{"cgroup of pids"}},
		{"moved unasked, v2", v2, moved(v2, map[string]string{"": "/agentjail-1"}), Group{}, []string{"cgroup"}},
		{"all", v1, moved(v1, map[string]string{"pids": "/p/agentjail-1", "memory": "/m/agentjail-1", "cpu,cpuacct": "/agentjail-1"}),
			group("memory", "pids", "cpu"), nil},
		{"one is enough", v1, moved(v1, map[string]string{"pids": "/p/agentjail-1"}), group("pids"), nil},
		{"one is missing", v1, moved(v1, map[string]string{"pids": "/p/agentjail-1"}), group("pids", "cpu"), []string{"cgroup of cpu,cpuacct"}},
		{"one too many", v1, moved(v1, map[string]string{"pids": "/p/agentjail-1", "memory": "/agentjail-1"}), group("pids"),
			[]string{"cgroup of memory"}},
		{"v2 of a hybrid host", v1, moved(v1, map[string]string{"pids": "/agentjail-1", "": "/agentjail-1"}), group("pids"), []string{"cgroup"}},
		{"v2", v2, moved(v2, map[string]string{"": "/user.slice/agentjail-1"}), group("pids"), nil},
		{"v2 not moved", v2, v2, group("pids", "memory"), []string{"cgroup"}},
		{"another run's", v2, moved(v2, map[string]string{"": "/agentjail-2"}), group("pids"), []string{"cgroup"}},
		{"below the group", v2, moved(v2, map[string]string{"": "/agentjail-1/x"}), group("pids"), []string{"cgroup"}},
		{"removed", v2, moved(v2, map[string]string{"": "/agentjail-1 (deleted)"}), group("pids"), []string{"cgroup"}},
		{"no such hierarchy", v1[:1], v1[:1], group("pids"), []string{"cgroup of pids"}},
		{"one less", v1, v1[:4], Group{}, []string{"cgroup"}},
		{"one more", v1[:4], v1, Group{}, []string{"cgroup"}},
	} {
		x := &comparison{}
		x.cgroups(Want{Cgroups: c.born, Group: c.group}, c.got)
		if got := fields(x.found); !slices.Equal(got, c.want) {
			t.Errorf("%s: differences in %q, want %q", c.name, got, c.want)
		}
	}
}
