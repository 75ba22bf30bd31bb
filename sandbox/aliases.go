// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// A keep is a path of the host that a plan keeps from the command: from being read, or from being written.
type keep struct {
	path       string
	what, flag string // what it is for the command, and by which flag; empty for agentjail's own state
	all        bool   // and all that is in it, each by itself
}

// keeps are what is hidden, what is read-only in a place that may be written, and what is agentjail's own: its state, and what the next run
// trusts.
func (p Plan) keeps() []keep {
	list := []keep{{path: p.State, all: true}}
	for _, m := range p.Mounts {
		switch {
		case m.Kind == Hidden:
			list = append(list, keep{m.Target, "hidden", "--hide", true})
		case m.Kind == Bind && m.Origin != originProtected && p.protects(m.Target):
			list = append(list, keep{m.Target, "read-only", "--ro", true})
		}
	}
	for _, path := range p.own {
		list = append(list, keep{path, "read-only", "--ro", false})
	}
	for _, e := range p.entries {
		if e.key == "hide" { // has no mount where no grant shows it; of what lies in it something may be granted by name
			list = append(list, keep{e.target, "hidden", "--hide", false})
		}
	}
	return list
}

// checkAliases refuses a plan that shows what it keeps by another path at which the host has that, too (mount(8), "Bind mount operation").
func (p Plan) checkAliases(files Files) error {
	mounts, err := files.Mounts()
	if err != nil {
		return setupError("files", fmt.Errorf("the mounts of this machine cannot be listed: %w", err))
	}
	tree := newMountTree(mounts)
	for _, k := range p.keeps() {
		for _, alias := range k.aliases(tree) {
			if err := p.checkAlias(k, alias); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p Plan) checkAlias(k keep, alias string) error {
	if k.flag == "" {
		if !p.showsPart(alias) {
			return nil
		}
		return requestErrorf("%s is agentjail's own state (%s) by a mount of this machine, which no command may see; use another directory or set XDG_STATE_HOME",
			quotePath(alias), quotePath(k.path))
	}
	shown := p.innermost(alias)
	if shown == nil || shown.Kind != Bind || shown.isPrivate() || k.flag == "--ro" && !shown.Writable {
		return nil
	}
	return requestErrorf("%s is %s, and a mount of this machine has it at %s as well, which is granted (%s %s)",
		quotePath(k.path), k.what, quotePath(alias), k.flag, quotePath(alias))
}

// showsPart tells whether a plan shows a path of the host, or something in it.
func (p Plan) showsPart(path string) bool {
	return slices.ContainsFunc(p.Mounts, func(m Mount) bool {
		return m.Kind == Bind && !m.isPrivate() && (within(m.Target, path) || within(path, m.Target))
	})
}

// aliases are the other paths at which a host with these mounts has what is kept.
func (k keep) aliases(mounts mountTree) []string {
	found := mounts.aliases(k.path, k.all)
	for _, m := range mounts.all {
		if k.all && m.Mountpoint != k.path && within(k.path, m.Mountpoint) {
			found = append(found, mounts.aliases(m.Mountpoint, true)...)
		}
	}
	return found
}

// A mountTree is the mounts of a host.
type mountTree struct {
	all []*mountinfo.Info
	on  map[int][]*mountinfo.Info // by the number of the mount that they are on
}

// nowhere is the number of what the root is on.
const nowhere = -1

func newMountTree(mounts []*mountinfo.Info) mountTree {
	t := mountTree{mounts, map[int][]*mountinfo.Info{}}
	known := map[int]bool{}
	for _, m := range mounts {
		known[m.ID] = true
	}
	for _, m := range mounts {
		on := m.Parent
		if !known[on] || on == m.ID {
			on = nowhere
		}
		t.on[on] = append(t.on[on], m)
	}
	return t
}

// at is the mount that shows a path. A walk goes from mount to mount: what is mounted over a directory covers what was mounted in it before.
func (t mountTree) at(path string) (at *mountinfo.Info) {
	for on := nowhere; ; on = at.ID {
		var next *mountinfo.Info
		for _, m := range t.on[on] {
			if within(m.Mountpoint, path) && (next == nil || len(m.Mountpoint) < len(next.Mountpoint)) {
				next = m
			}
		}
		if next == nil {
			return at
		}
		at = next
	}
}

// aliases are the other paths of a file, with parts of a part of a directory, too.
func (t mountTree) aliases(path string, parts bool) (found []string) {
	home := t.at(path)
	if home == nil {
		return nil
	}
	file := filepath.Join(rootOf(home), strings.TrimPrefix(path, home.Mountpoint)) // on its file system
	for _, m := range t.all {
		alias, root := "", rootOf(m)
		switch {
		case m.Major != home.Major || m.Minor != home.Minor:
		case within(root, file):
			alias = filepath.Join(m.Mountpoint, strings.TrimPrefix(file, root))
		case parts && within(file, root):
			alias = m.Mountpoint
		}
		if alias != "" && alias != path && t.at(alias) == m {
			found = append(found, alias)
		}
	}
	return found
}

// rootOf is the directory of its file system that a mount shows. NFS says "/" of each, of which several from one server can be one file
// system, and which directory it is in the name of what is mounted (nfs_show_path and nfs_show_devname of fs/nfs/super.c).
func rootOf(m *mountinfo.Info) string {
	if _, path, ok := strings.Cut(m.Source, ":/"); ok && strings.HasPrefix(m.FSType, "nfs") {
		return filepath.Join("/", path)
	}
	return m.Root
}
