// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentjail/agentjail/internal/ask"
	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

// fixes finds the flag that would allow a denied access to a path, "" where none would alone. It names none for what the policy hides or
// protects: there the event's reason says why, and to allow it is a choice of its own. Nor does it where the flag would give much more than
// was asked for, since what a run asks for is the command's choice: see opensMuch and runs; or where a symbolic link on the way makes
// another path of it. resolve finds what a path leads to, "" for none.
func (p Plan) fixes(resolve func(path string) string) func(audit.Event) string {
	find := sync.OnceValue(func() profiles.Protection { return profiles.Files{Protect: p.Protected.Names}.Protection(nil, nil) })
	return func(e audit.Event) string {
		if e.Class != audit.ClassFile && e.Class != audit.ClassExec || !filepath.IsAbs(e.Target) {
			return ""
		}
		if e.Rule != denyfs.RuleNotGranted && !p.readsOnly(e) {
			return ""
		}
		name, path := flagFor(e)
		if e.Action == string(denyfs.ActionCreate) && resolve(e.Target) != "" {
			path = e.Target // it is there, and was opened with O_CREAT: the file will do
		}
		if p.opensMuch(path) || name == "--rw" && (p.isSystems(path) || p.runs(path) || isKept(find(), path, e.Target)) {
			return ""
		}
		if !p.isItself(path, resolve) {
			return ""
		}
		return audit.Flag(name, path)
	}
}

// resolver finds what a path leads to: "" where that cannot be told, or the file system does not answer in a moment. No event waits for
// those before it that wait: a command that asks for what hangs holds up 16 in all.
func resolver() func(path string) string {
	slots := make(ask.Slots, 16)
	return func(path string) string {
		if len(slots) == cap(slots) {
			return ""
		}
		real, _ := ask.Within(slots, 100*time.Millisecond, nil, func() string {
			real, _ := filepath.EvalSymlinks(path) // "" with an error
			return real
		})
		return real
	}
}

// isItself tells whether no symbolic link makes another path of one, but for those that lead to the home, as /home can be.
func (p Plan) isItself(path string, resolve func(path string) string) bool {
	real := resolve(path)
	if real == "" || real == path {
		return real != ""
	}
	below, ok := strings.CutPrefix(path, p.Identity.Home+"/")
	return ok && real == filepath.Join(resolve(p.Identity.Home), below)
}

// flagFor is the flag for an action, and what it is for: the directory where that is what is changed.
func flagFor(e audit.Event) (name, path string) {
	switch denyfs.Action(e.Action) {
	case denyfs.ActionOpenWrite, denyfs.ActionTruncate, denyfs.ActionChmod, denyfs.ActionChown, denyfs.ActionUtime, denyfs.ActionXattr:
		return "--rw", e.Target
	case denyfs.ActionCreate, denyfs.ActionMkdir, denyfs.ActionMknod, denyfs.ActionLink, denyfs.ActionSymlink, denyfs.ActionRename,
		denyfs.ActionUnlink, denyfs.ActionRmdir:
		return "--rw", filepath.Dir(e.Target)
	}
	return "--ro", e.Target
}

// opensMuch tells whether a grant of a path would show more than a project or a file: directories of the system, homes, and what has
// credentials in it. Some of them Compile refuses, as it does agentjail's own state.
func (p Plan) opensMuch(path string) bool {
	return isKernelPath(path) || within(path, p.Identity.Home) || within(path, p.State) || within(p.State, path) ||
		slices.Contains(refusedDirs, path) || denyfs.HoldsCredentials(p.Identity.Home, path)
}

// isSystems tells whether a path lies in a directory of the system, and not in the home: a file that is new there, such as in /etc/cron.d,
// the system would run or trust.
func (p Plan) isSystems(path string) bool {
	return !within(p.Identity.Home, path) && slices.ContainsFunc(systemDirs, func(dir string) bool { return within(dir, path) })
}

var systemDirs = []string{"/bin", "/boot", "/etc", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin", "/usr", "/var"}

// runs tells whether a path is, holds or lies in a directory of PATH: what is written there, the caller runs by its name.
func (p Plan) runs(path string) bool {
	for _, v := range p.Env {
		if list, ok := strings.CutPrefix(v, "PATH="); ok {
			return slices.ContainsFunc(filepath.SplitList(list), func(dir string) bool {
				return filepath.IsAbs(dir) && (within(dir, path) || within(path, dir))
			})
		}
	}
	return false
}

// isKept tells whether the policy protects a target wherever it may be written, or a path from which it would take that if it were granted.
func isKept(find profiles.Protection, path, target string) bool {
	return slices.ContainsFunc(find.Find("/", target), func(g profiles.Guard) bool { return g.Hold == profiles.HoldWhole }) ||
		slices.ContainsFunc(find.Find("/", path), func(g profiles.Guard) bool { return g.Hold != profiles.HoldDir })
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
