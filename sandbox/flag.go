// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"slices"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

// fix is the flag that would allow a denied access to a path, "" where none would alone. It names none for what the policy hides or
// protects: there the event's reason says why, and to allow it is a choice of its own.
func (p Plan) fix(e audit.Event) string {
	if e.Class == audit.ClassUnix && e.Action == string(denyfs.ActionConnect) && e.Rule == denyfs.RuleNotGranted {
		return audit.Flag("--socket", e.Target)
	}
	if e.Class != audit.ClassFile && e.Class != audit.ClassExec || !filepath.IsAbs(e.Target) || isKernelPath(e.Target) {
		return ""
	}
	if e.Rule != denyfs.RuleNotGranted && !p.readsOnly(e) {
		return ""
	}
	name, path := "--ro", e.Target
	switch denyfs.Action(e.Action) {
	case denyfs.ActionOpenWrite, denyfs.ActionTruncate, denyfs.ActionChmod, denyfs.ActionChown, denyfs.ActionUtime, denyfs.ActionXattr:
		name = "--rw"
	case denyfs.ActionCreate, denyfs.ActionMkdir, denyfs.ActionMknod, denyfs.ActionLink, denyfs.ActionSymlink, denyfs.ActionRename,
		denyfs.ActionUnlink, denyfs.ActionRmdir:
		name, path = "--rw", filepath.Dir(path) // which is what is changed
	}
	if within(path, p.Identity.Home) || name == "--rw" && slices.Contains(refusedDirs, path) { // Compile refuses such a grant
		return ""
	}
	return audit.Flag(name, path)
}

// readsOnly tells whether a write was refused since the caller grants the place to be read alone. What an embedded profile grants so are the
// system's programs, and the agent's own: they are not the run's to change.
func (p Plan) readsOnly(e audit.Event) bool {
	m := p.innermost(e.Target)
	if e.Errno != "EROFS" || m == nil || m.Kind != Bind || m.Writable || m.Origin != originPolicy {
		return false
	}
	return slices.ContainsFunc(p.entries, func(g entry) bool { return !g.embedded && g.key == listOf(false) && g.target == m.Target })
}
