// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

// furnish makes the directories of the private home that are mounted, and those that the real home has under a name which
// the run may use: the command finds its own there, and a look at what the real one holds is on record. What is in the private
// home was written by earlier commands: nothing is made beyond a symbolic link that leads out of it. It returns those of Dirs
// and Pinned that cannot be mounted, since an earlier command has put something else in their place.
func (h Home) furnish(real string) (obstructed []string, err error) {
	private, err := openHome(h.Private)
	if err != nil {
		return nil, err
	}
	defer private.Close()
	caches, err := openHome(h.Caches)
	if err != nil {
		return nil, err
	}
	defer caches.Close()
	for _, name := range h.Pinned {
		if isObstructed(private, name) {
			obstructed = append(obstructed, name)
		} else if err := private.MkdirAll(name, 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range h.Dirs {
		if isObstructed(private, name) || isObstructed(caches, name) {
			obstructed = append(obstructed, name)
			continue
		}
		if err := caches.MkdirAll(name, 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Concat(h.Names, h.waypoints()) {
		if info, err := os.Lstat(filepath.Join(real, name)); err == nil && info.IsDir() {
			private.MkdirAll(name, 0o700) // where it fails, an earlier command has put something there, for the next to find
		}
	}
	h.introduce(private)
	return obstructed, nil
}

// waypoints are the directories below Names in which tools keep credentials. Where the command has none of its own, a walk to such a
// file would end at the directory, and the log would name no more than that.
func (h Home) waypoints() []string {
	holds := func(path string) func(dir string) bool { return func(dir string) bool { return within(dir, path) } }
	return slices.DeleteFunc(denyfs.CredentialDirs(), func(dir string) bool {
		return !slices.ContainsFunc(h.Names, holds(dir)) || slices.ContainsFunc(h.Dirs, holds(dir))
	})
}

// openHome opens a directory of the private home's, and makes it first.
func openHome(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("an earlier command may have changed its mode: %w", err)
	}
	return root, nil
}

// introduce gives git in the private home the caller's identity, where the home has no settings of git yet. Without it every commit
// fails, and the caller's own settings name more than that. Where an earlier command has put something in the way, it stays, and git says
// what it misses.
func (h Home) introduce(private *os.Root) {
	const dir, file = ".config/git", ".config/git/config"
	if h.Git == "" || private.MkdirAll(dir, 0o700) != nil {
		return
	}
	f, err := private.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	if _, err = f.WriteString(h.Git); errors.Join(err, f.Close()) != nil {
		private.Remove(file)
	}
}

// isObstructed tells whether something that is no directory lies on the way to a path. No mount follows a symbolic link.
func isObstructed(root *os.Root, name string) bool {
	for at := name; at != "."; at = filepath.Dir(at) {
		if info, err := root.Lstat(at); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
}

// withoutDirs returns the plan with some directories of the private home served by the run's root, as the rest of it is.
func (p Plan) withoutDirs(names []string) Plan {
	p.Home.Dirs = slices.DeleteFunc(slices.Clone(p.Home.Dirs), func(name string) bool { return slices.Contains(names, name) })
	p.Mounts = slices.DeleteFunc(slices.Clone(p.Mounts), func(m Mount) bool {
		rel, err := filepath.Rel(p.Identity.Home, m.Target)
		return err == nil && m.Origin == originHome && slices.Contains(names, rel)
	})
	return p
}
