// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Cgroup is a line of /proc/PID/cgroup.
type Cgroup struct {
	Controllers string // of version 1, separated by commas; empty for version 2
	Path        string // as the reader's cgroup namespace shows it
}

// Group is a cgroup of a run's own. The zero Group is none.
type Group struct {
	Name        string   // of its directory, in every hierarchy
	Controllers []string // those that it was made for
}

// parseCgroups reads /proc/PID/cgroup, cgroups(7): 4:memory:/path. The kernel refuses names with a newline.
func parseCgroups(text string) ([]Cgroup, error) {
	var list []Cgroup
	for _, line := range lines(text) {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %q", line)
		}
		list = append(list, Cgroup{fields[1], fields[2]})
	}
	return list, nil
}

// cgroups: the process is in the run's group in each hierarchy that has one of its controllers, and where it was born in
// all others. A controller that no hierarchy of version 1 has is version 2's.
func (c *comparison) cgroups(want Want, got []Cgroup) {
	for _, born := range want.Cgroups {
		moved := want.Group.in(born, got)
		i := slices.IndexFunc(got, func(g Cgroup) bool { return g.Controllers == born.Controllers })
		switch {
		case i < 0:
			c.check(born.field(), born.Path, "none", false)
		case moved:
			c.check(born.field(), want.Group.Name, got[i].Path, path.Base(got[i].Path) == want.Group.Name)
		default:
			c.check(born.field(), born.Path, got[i].Path, born.Path == got[i].Path)
		}
	}
	for _, g := range got {
		known := slices.ContainsFunc(want.Cgroups, func(w Cgroup) bool { return w.Controllers == g.Controllers })
		c.check(g.field(), "none", g.Path, known)
	}
	for _, controller := range want.Group.Controllers {
		unified := slices.ContainsFunc(got, func(g Cgroup) bool { return g.Controllers == "" })
		c.check("cgroup of "+controller, want.Group.Name, "none", inV1(got, controller) || unified)
	}
}

// groupStays: the process is in the run's group as before. Others may move it elsewhere in other hierarchies.
func (c *comparison) groupStays(group Group, got []Cgroup) {
	for _, g := range got {
		c.check(g.field(), group.Name, g.Path, !group.in(g, got) || path.Base(g.Path) == group.Name)
	}
}

// in tells whether the group is in the hierarchy of a line.
func (g Group) in(line Cgroup, all []Cgroup) bool {
	return slices.ContainsFunc(g.Controllers, func(controller string) bool {
		return line.has(controller) || line.Controllers == "" && !inV1(all, controller)
	})
}

func inV1(all []Cgroup, controller string) bool {
	return slices.ContainsFunc(all, func(g Cgroup) bool { return g.has(controller) })
}

func (g Cgroup) has(controller string) bool {
	return slices.Contains(strings.Split(g.Controllers, ","), controller)
}

func (g Cgroup) field() string {
	if g.Controllers == "" {
		return "cgroup"
	}
	return "cgroup of " + g.Controllers
}

// groupPaths are for people: without version 1's hierarchies in which the process is where everything is.
func groupPaths(groups []Cgroup) []string {
	list := []string{}
	for _, g := range groups {
		if g.Path != "/" {
			list = append(list, g.field()+" "+g.Path)
		}
	}
	return list
}
