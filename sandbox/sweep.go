// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
	"github.com/agentjail/agentjail/sandbox/internal/workspace"
)

// maxGuarded bounds a list that the command can make long.
const maxGuarded = 2000

var errTooMany = fmt.Errorf("there are more than %d files at names that are not to be made", maxGuarded)

// guarded are the files of the private home that lie at, or below, names which a run may not make there. They are refused by their
// names, and a command that changes a path while it is looked at gets by: what it made is removed at the end. Directories, empty files
// and the links of the run are mount points and what leads to them, of this run or of another one, and have no effect. With an error,
// such as errTooMany, some are not among them.
func (p Plan) guarded(root *os.Root) (files []string, err error) {
	for _, name := range denyfs.ProtectedNames() {
		errs := fs.WalkDir(root.FS(), name, func(path string, entry fs.DirEntry, failed error) error {
			if errors.Is(failed, fs.ErrNotExist) {
				return nil
			}
			if failed != nil {
				err = failed
				return nil
			}
			info, failed := entry.Info()
			if entry.IsDir() {
				if failed == nil && info.Mode()&0o700 != 0o700 {
					root.Chmod(path, 0o700) // one that cannot be listed can have files that a program opens by name
				}
				return nil
			}
			_, link := p.Symlinks[filepath.Join(p.Identity.Home, path)]
			if failed != nil || link || info.Size() == 0 && info.Mode().IsRegular() {
				return nil
			}
			if len(files) == maxGuarded {
				return errTooMany
			}
			files = append(files, path)
			return nil
		})
		if errs != nil {
			return files, errs
		}
	}
	return files, err
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
	r.guarded, r.unguarded = r.plan.guarded(root)
	r.sweeps = true
	return nil
}

// sweep removes what of the names that may not be made there is at the end, and was not at the beginning. Where it is not known what was
// there it removes nothing, and says so, as it does of what it could not look at.
func (r *Run) sweep() {
	if !r.sweeps || r.left {
		return
	}
	err := r.unguarded
	if err == nil {
		err = r.removeMade()
	}
	if err != nil {
		r.log.Emit(audit.Event{
			Class: audit.ClassWorkspace, Action: string(workspace.Unread), Decision: audit.Report, Target: r.plan.Home.Private,
			Rule: denyfs.RuleProtected, Reason: "what the run made there at names that are not to be made may be left: " + err.Error(),
			Provenance: audit.FromResolved,
		})
	}
}

// removeMade looks again until it has seen all: what the bound leaves out comes when what is before it is gone.
func (r *Run) removeMade() error {
	root, err := os.OpenRoot(r.plan.Home.Private)
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		files, err := r.plan.guarded(root)
		gone := 0
		for _, name := range files {
			if !slices.Contains(r.guarded, name) && r.remove(root, name) {
				gone++
			}
		}
		if gone == 0 || !errors.Is(err, errTooMany) {
			return err
		}
	}
}

// remove removes a file that should not be there, records it, and tells whether it is gone.
func (r *Run) remove(root *os.Root, name string) bool {
	reason := "it was made by a call whose path another thread changed; it is removed"
	err := root.Remove(name)
	if err != nil {
		reason = "it was made by a call whose path another thread changed, and cannot be removed: " + err.Error()
	}
	r.log.Emit(audit.Event{
		Class: audit.ClassWorkspace, Action: "settings", Decision: audit.Report, Target: filepath.Join(r.plan.Identity.Home, name),
		Rule: denyfs.RuleProtected, Reason: reason, Provenance: audit.FromResolved,
	})
	return err == nil
}
