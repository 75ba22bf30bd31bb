// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
	"github.com/agentjail/agentjail/seccomp"
)

// Where FUSE cannot be used, the run's root is a tmpfs: see docs/decisions/0008-without-fuse.md.

// plain tells whether the run's root is a tmpfs, in which nothing is that was not granted.
func (p Plan) plain() bool { return p.WithoutFUSE != "" }

// isPrivate tells whether a mount shows a part of the private home. What is granted has its own path inside.
func (m Mount) isPrivate() bool { return m.Kind == Bind && m.Source != m.Target }

// granted is covering, without the private home where it is mounted as a whole: that shows nothing of the host's.
func (c *compiler) granted(path string) *Mount { return c.ofHost(c.covering(path)) }

// ofHost is a mount, or nil if it is that of the private home as a whole.
func (c *compiler) ofHost(m *Mount) *Mount {
	if m != nil && m.isPrivate() && within(c.host.Identity.Home, m.Target) && (c.home.Mounted || c.host.WithoutFUSE != "") {
		return nil
	}
	return m
}

// aboveOf is the innermost mount that the mount point of a target lies in.
func (p Plan) aboveOf(target string) (above *Mount) {
	for i := range p.Mounts {
		if m := &p.Mounts[i]; m.Target != target && within(m.Target, target) && (above == nil || len(m.Target) > len(above.Target)) {
			above = m
		}
	}
	return above
}

// isMade tells whether the mount point of a target has to be made: it is not there yet in a directory of the run's own, nor in the
// private home. What is granted has it, and a root of FUSE shows it.
func (p Plan) isMade(target string) bool {
	switch above := p.aboveOf(target); {
	case above == nil:
		return p.plain()
	default:
		return above.Kind == Tmpfs || above.isPrivate() || p.isPassage(*above)
	}
}

// isPassage tells whether a hidden directory has something shown in it where no process serves the root: a tmpfs of its own stands in
// for it then, which holds the way to that and nothing else.
func (p Plan) isPassage(m Mount) bool {
	return p.plain() && m.Kind == Hidden && len(p.shownBelow(m.Target)) > 0
}

// plainEntries are what a tmpfs for a root needs besides the mounts of a plan.
func plainEntries(plan Plan) []rootfs.Entry {
	entries := []rootfs.Entry{{Kind: rootfs.Point, Target: "/proc", Dir: true, Make: true}}
	for _, m := range plan.Mounts {
		if m.Kind == Cgroup && plan.isMade(m.Target) {
			entries = append(entries, rootfs.Entry{Kind: rootfs.Point, Target: m.Target, Dir: true, Make: true})
		}
	}
	for at, to := range plan.Symlinks {
		if above := plan.aboveOf(at); above == nil || above.isPrivate() {
			entries = append(entries, rootfs.Entry{Kind: rootfs.Link, Target: at, Source: to, Make: true})
		}
	}
	return entries
}

// inOrder sorts entries so that each comes after those that hold it.
func inOrder(entries []rootfs.Entry) []rootfs.Entry {
	slices.SortStableFunc(entries, func(a, b rootfs.Entry) int { return cmp.Compare(a.Target, b.Target) })
	return entries
}

// mountPlainRoot mounts the run's root where no process serves one.
func (s *supervisor) mountPlainRoot(mnt string) error {
	unix.Umask(0o022) // of this process alone: directories of the root must be open to the command
	s.root = filepath.Join(mnt, "root")
	if err := rootfs.PlainRoot(s.root); err != nil {
		return setupError("file system root", err)
	}
	if err := rootfs.HideNodes(filepath.Join(mnt, "hidden")); err != nil {
		return setupError("file system root", err)
	}
	return nil
}

// nameRules are what package denyfs decides about names, for the seccomp supervisor, which is asked where denyfs is not.
type nameRules struct {
	plan  Plan
	names *denyfs.Tree
}

func (p Plan) nameRules() (nameRules, error) {
	names, err := denyfs.NewTree(denyfsConfig(p, nil, nil))
	return nameRules{plan: p, names: names}, err
}

// tree is what the seccomp supervisor is to know of a plain root: nil where the root reports for itself.
func (r nameRules) tree() *seccomp.Tree {
	p := r.plan
	if !p.plain() {
		return nil
	}
	t := &seccomp.Tree{Judge: r.judge, Refuse: r.refuse}
	for _, m := range p.Mounts {
		switch {
		case p.isPassage(m):
			t.Passages = append(t.Passages, m.Target)
		case m.Kind == Hidden:
			t.Hidden = append(t.Hidden, m.Target)
		case !p.Home.Mounted && m.isPrivate() && within(p.Identity.Home, m.Target):
			t.Home = append(t.Home, m.Target)
		}
	}
	return t
}

// judge completes the event of a look. One below a busy directory of the private home is none, as where that is mounted natively.
func (r nameRules) judge(e *audit.Event, dir bool) bool {
	if e.Rule == denyfs.RuleNotGranted && r.plan.isBusy(e.Target) {
		return false
	}
	e.Severity = r.plan.severity(e.Target)
	if dir && e.Severity == "" {
		asks := e.Action == string(denyfs.ActionStat) || e.Action == string(denyfs.ActionAccess)
		if asks || r.names.Lookup(denyfs.Query{Path: e.Target, Host: denyfs.HostDir}).Denial.Walk {
			e.Severity = audit.SeverityNoise
		}
	}
	return true
}

// isBusy tells whether a path lies below a directory of the private home in which looks are not reported.
func (p Plan) isBusy(path string) bool {
	return slices.ContainsFunc(p.Home.Dirs, func(dir string) bool { return within(filepath.Join(p.Identity.Home, dir), path) })
}

// refuse says why a name of the home may not be made or changed.
func (r nameRules) refuse(action, path string, makes, exists bool, onHost func() bool) (rule, reason string) {
	if _, ok := r.plan.Symlinks[path]; ok {
		return denyfs.RuleNotGranted, "it is a link of this run, to what is granted"
	}
	if !makes {
		d, ok := r.names.Change(path, denyfs.Action(action))
		return ruleUnless(ok, d)
	}
	host := denyfs.HostAbsent
	if !exists && onHost() {
		host = denyfs.HostUnknown
	}
	d, ok := r.names.Name(denyfs.Naming{
		Path: path, Action: denyfs.Action(action), Union: true, Private: exists, Host: host,
		Symlink: moves(action), // what is moved there could be one, or bring one along
	})
	return ruleUnless(ok, d)
}

// unasked decides about a rename or a link that denyfs is not asked about: see seccomp.Config. It is nil where denyfs serves no root.
func (r nameRules) unasked() func(e *audit.Event, makes bool, onHost func(path string) bool) bool {
	if r.plan.plain() {
		return nil
	}
	return func(e *audit.Event, makes bool, onHost func(path string) bool) bool {
		n := denyfs.Naming{Path: e.Target, Action: denyfs.Action(e.Action)}
		if onHost(n.Path) {
			n.Host = denyfs.HostUnknown
		}
		if rel, ok := strings.CutPrefix(n.Path, r.plan.Identity.Home+"/"); ok && !r.plan.Home.Mounted {
			private := filepath.Join(r.plan.Home.Private, rel)
			n.Private, n.Union = onHost(private), onHost(filepath.Dir(private))
		}
		var d denyfs.Denial
		ok := false
		switch {
		case makes:
			d, ok = r.names.Name(n)
		case n.Private:
			d, ok = r.names.Change(n.Path, n.Action)
		case n.Host == denyfs.HostAbsent:
			return false
		default:
			d = r.names.Lookup(denyfs.Query{Path: n.Path, Host: denyfs.HostFile}).Denial
		}
		e.Rule, e.Reason = ruleUnless(ok, d)
		return e.Rule != "" && r.judge(e, false)
	}
}

func ruleUnless(ok bool, d denyfs.Denial) (rule, reason string) {
	if ok {
		return "", ""
	}
	return d.Rule, d.Reason
}

// follow waits for the end of the run's first process, and so of all that are inside (pid_namespaces(7)): there is no device of a root
// that would tell.
func (r *Run) follow(first int) error {
	pidfd, err := unix.PidfdOpen(first, 0)
	if err != nil {
		return &SetupError{Layer: "supervisor", Err: err}
	}
	r.served = make(chan struct{})
	go func() {
		defer close(r.served)
		defer unix.Close(pidfd)
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err != unix.EINTR {
				return
			}
		}
	}()
	return nil
}
