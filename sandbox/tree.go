// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/caller"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
	"github.com/agentjail/agentjail/sandbox/internal/limits"
)

// withHome returns the plan with another place for its private home, in which its caches are, too.
func (p Plan) withHome(dir string) Plan {
	old := p.Home.Private
	p.Home.Private, p.Home.Caches = dir, dir
	p.Mounts = slices.Clone(p.Mounts)
	for i, m := range p.Mounts {
		if m.Kind == Bind && m.Source != m.Target && within(old, m.Source) {
			rel, err := filepath.Rel(old, m.Source)
			if err == nil {
				p.Mounts[i].Source = filepath.Join(dir, rel)
			}
		}
	}
	return p
}

// withViews returns the plan with the run's own cgroup, which runtimes read to size their heaps and pools.
func (p Plan) withViews(views []limits.View) Plan {
	p.Mounts = slices.Clone(p.Mounts)
	for _, v := range views {
		p.Mounts = append(p.Mounts, Mount{Kind: Cgroup, Target: v.Target, Dir: true, Origin: "limits"})
	}
	slices.SortStableFunc(p.Mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	return p
}

// denyfsConfig is the root's file system for a plan: the directories that lead to mounts, and nothing else.
func denyfsConfig(plan Plan, sink audit.Sink, ignore func(tid int) bool) denyfs.Config {
	c := denyfs.Config{
		Symlinks: plan.Symlinks, Sink: sink, Caller: caller.Of, Ignore: ignore, Severity: plan.severity,
	}
	if home := plan.Home; !home.Mounted {
		c.Home = denyfs.HomeConfig{Path: plan.Identity.Home, Private: home.Private, Dirs: home.Dirs, Names: home.Names}
	}
	c.Grants = append(c.Grants, denyfs.Grant{Path: "/proc", Dir: true})
	for _, m := range plan.Mounts {
		if m.Kind == Hidden {
			c.Hidden = append(c.Hidden, denyfs.Hide{Path: m.Target, Dir: m.Dir, Shown: plan.shownBelow(m.Target)})
			continue
		}
		if plan.plain() && !plan.Home.Mounted && m.isPrivate() && within(plan.Identity.Home, m.Target) {
			continue // the names of the home are decided one by one
		}
		c.Grants = append(c.Grants, denyfs.Grant{Path: m.Target, Dir: m.Dir})
	}
	return c
}

// shownBelow are the mounts below a hidden path that show something.
func (p Plan) shownBelow(path string) (shown []denyfs.Grant) {
	for _, m := range p.Mounts {
		if m.Kind != Hidden && m.Target != path && within(path, m.Target) {
			shown = append(shown, denyfs.Grant{Path: m.Target, Dir: m.Dir})
		}
	}
	return shown
}

// isOurs tells whether a lookup is one of the run's construction: before the command may run, or by a thread of the launcher or
// the supervisor.
func (r *Run) isOurs(tid int) bool {
	if !r.recording.Load() {
		return true
	}
	for _, pid := range []int{os.Getpid(), r.supervisorPID()} {
		if tid == pid {
			return true
		}
		if _, err := os.Lstat("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid)); err == nil {
			return true
		}
	}
	return false
}

func (r *Run) supervisorPID() int {
	if r.process == nil || r.process.Process == nil {
		return 0
	}
	return r.process.Process.Pid
}
