// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
	"github.com/agentjail/agentjail/sandbox/internal/workspace"
)

// Bounds of what the command can make long: the files that were there before, how many files and directories are looked at, and how many
// removals have an event of their own.
const (
	maxGuarded = 2000
	maxLooked  = 100_000
	maxTold    = 100
)

var errTooMany = errors.New("there is too much at names that are not to be made")

// guarded visits the files of the private home that lie at, or below, names which a run may not make there. They are refused by their
// names, and a command that changes a path while it is looked at gets by: what it made is removed at the end. Directories, empty files
// and the links of the run are mount points and what leads to them, of this run or of another one, and have no effect. The errors are by
// the names that could not be looked through to their ends.
func (r *Run) guarded(root *os.Root, visit func(path string) error) (failed map[string]error) {
	failed = map[string]error{}
	looked := 0
	for _, name := range denyfs.ProtectedNames() {
		walked := fs.WalkDir(root.FS(), name, func(path string, entry fs.DirEntry, err error) error {
			if looked++; looked > maxLooked {
				return errTooMany
			}
			switch effective, err := r.effective(root, path, entry, err); {
			case err != nil:
				failed[name] = err
			case effective:
				return visit(path)
			}
			return nil
		})
		if walked != nil {
			failed[name] = walked
		}
	}
	return failed
}

// effective tells of one step of a walk whether it is a file that programs read. What cannot be in the home is no error: a name behind
// a file, or behind a link that leads out of it or nowhere.
func (r *Run) effective(root *os.Root, path string, entry fs.DirEntry, err error) (bool, error) {
	if entry == nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || escapes(err)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := entry.Info()
	if entry.IsDir() {
		if err == nil && info.Mode()&0o700 != 0o700 {
			root.Chmod(path, 0o700) // one that cannot be listed can have files that a program opens by name
		}
		return false, nil
	}
	_, link := r.plan.Symlinks[filepath.Join(r.plan.Identity.Home, path)]
	return err == nil && !link && (info.Size() > 0 || !info.Mode().IsRegular()), nil
}

// escapes tells whether a path leads out of an os.Root, whose error has no name.
func escapes(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Err.Error() == "path escapes from parent"
}

// before takes note of what is there before the command starts.
func (r *Run) before() error {
	if r.plan.Home.Mounted || r.plan.Home.Ephemeral {
		return nil
	}
	root, err := os.OpenRoot(r.plan.Home.Private)
	if err != nil {
		return r.layered("private home", err)
	}
	defer root.Close()
	r.sweeps, r.kept = true, map[string]bool{}
	r.unguarded = r.guarded(root, func(path string) error {
		if len(r.kept) == maxGuarded {
			return errTooMany
		}
		r.kept[path] = true
		return nil
	})
	return nil
}

// sweep removes what of the names that may not be made there is at the end, and was not at the beginning. Of a name of which it is not
// known what was there it removes nothing, and says so, as it does of what it could not look at.
func (r *Run) sweep() {
	if !r.sweeps || r.left {
		return
	}
	root, err := os.OpenRoot(r.plan.Home.Private)
	if err != nil {
		r.unswept(r.plan.Home.Private, err)
		return
	}
	defer root.Close()
	removed := 0
	failed := r.guarded(root, func(path string) error {
		if !r.kept[path] && !r.unknown(path) {
			r.remove(root, path, removed < maxTold)
			removed++
		}
		return nil
	})
	maps.Copy(failed, r.unguarded)
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		r.unswept(filepath.Join(r.plan.Home.Private, name), failed[name])
	}
	if removed > maxTold {
		r.swept("settings", r.plan.Home.Private, fmt.Sprintf("%d more such files were removed", removed-maxTold))
	}
}

// unknown tells whether a path lies at a name of which it is not known what was there.
func (r *Run) unknown(path string) bool {
	for name := range r.unguarded {
		if within(name, path) {
			return true
		}
	}
	return false
}

func (r *Run) unswept(place string, err error) {
	r.swept(string(workspace.Unread), place, "what the run made there at names that are not to be made may be left: "+err.Error())
}

// remove removes a file that should not be there, and records it, or at least that it could not.
func (r *Run) remove(root *os.Root, name string, told bool) {
	reason := "it was made by a call whose path another thread changed; it is removed"
	err := root.Remove(name)
	if err != nil {
		reason = "it was made by a call whose path another thread changed, and cannot be removed: " + err.Error()
	}
	if err != nil || told {
		r.swept("settings", filepath.Join(r.plan.Identity.Home, name), reason)
	}
}

// swept records something about what the run made at names that are not to be made.
func (r *Run) swept(action, target, reason string) {
	r.log.Emit(audit.Event{
		Class: audit.ClassWorkspace, Action: action, Decision: audit.Report, Target: target, Rule: denyfs.RuleProtected,
		Reason: reason, Provenance: audit.FromResolved,
	})
}
