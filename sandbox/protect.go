// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentjail/agentjail/profiles"
)

// Protected is what a run keeps from being written in the places that it may write. What is there at the top of a place, or of its
// repository, is mounted read-only as well: nothing that the command does gets by a mount. What is deeper, and what is not there
// yet, the seccomp supervisor alone refuses.
type Protected struct {
	Names        []string `json:"names,omitempty"`
	Places       []string `json:"places,omitempty"`
	Paths        []string `json:"paths,omitempty"`        // where a repository's settings send git, whether it is there or not
	Repositories []string `json:"repositories,omitempty"` // git directories that are not called .git
}

// originProtected is the origin of mounts that keep what is protected.
const originProtected = "protected"

// protects finds the places and mounts what is protected in them.
func (c *compiler) protects() error {
	files := c.policy.Files()
	for _, name := range files.Unprotect {
		i := slices.Index(files.Protect, name)
		if i < 0 {
			return requestErrorf("unprotect %q: it is not on the list of what is protected", name)
		}
		files.Protect = slices.Delete(files.Protect, i, i+1)
	}
	c.protected.Names = files.Protect
	for _, m := range c.mounts {
		if m.Kind == Bind && m.Writable && m.Origin != originHome && m.Source == m.Target {
			c.protected.Places = append(c.protected.Places, m.Target)
		}
	}
	if slices.Contains(files.Protect, profiles.RepositoryName) {
		for _, place := range c.protected.Places {
			c.addRepository(place)
			c.addRepository(c.gitFileTarget(place))
		}
	}
	if slices.Contains(files.Protect, profiles.RepositoryName) {
		for _, path := range c.protectedPaths() {
			if place := c.protected.place(path); place != "" && place != path && !slices.Contains(c.protected.Paths, path) {
				c.protected.Paths = append(c.protected.Paths, path)
			}
		}
		if c.settingsCost > maxSettingsCost {
			return requestErrorf("the settings of git that hold in %q are longer, or name more files, than are looked at, so that what git runs cannot be "+
				"protected; see what its config and .gitmodules include, or --unprotect .git", c.dir)
		}
	}
	for _, path := range c.protected.Paths {
		if err := c.protect(path); err != nil {
			return err
		}
	}
	for _, place := range append(slices.Clone(c.protected.Places), c.protected.Repositories...) {
		for _, name := range c.protectedNames(place) {
			if err := c.protect(filepath.Join(place, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addRepository notes a git directory that is not called .git.
func (c *compiler) addRepository(dir string) {
	known := dir == "" || filepath.Base(dir) == profiles.RepositoryName || slices.Contains(c.protected.Repositories, dir)
	if !known && c.protected.place(dir) != "" && c.isRepository(dir) {
		c.protected.Repositories = append(c.protected.Repositories, dir)
	}
}

// gitFileTarget is the git directory that the .git file of a place names; of a worktree, that of its repository.
func (c *compiler) gitFileTarget(place string) string {
	dir, _, err := c.canonical(c.gitFile(place))
	if err != nil {
		return ""
	}
	if common := c.firstLine(filepath.Join(dir, "commondir")); common != "" {
		dir, _, err = c.canonical(join(dir, common))
	}
	if err != nil {
		return ""
	}
	return dir
}

// isProtected tells whether a directory is itself what the policy protects, by a name other than a repository's: the names count below a
// place, and would not there.
func (c *compiler) isProtected(dir string) bool {
	files := c.policy.Files()
	files.Protect = slices.DeleteFunc(files.Protect, func(name string) bool {
		return name == profiles.RepositoryName || slices.Contains(files.Unprotect, name)
	})
	find := files.Protection(nil, nil)
	held := func(path string) bool {
		return slices.ContainsFunc(find.Find("/", path), func(g profiles.Guard) bool { return g.Hold == profiles.HoldWhole })
	}
	return files.Workdir == profiles.WorkdirReadWrite && held(dir) && !held(filepath.Dir(dir))
}

// protectedNames are the names below a place that can be mounted, if they are there.
func (c *compiler) protectedNames(place string) []string {
	var names []string
	for _, name := range c.protected.Names {
		switch {
		case name == profiles.RepositoryName && (filepath.Base(place) == name || slices.Contains(c.protected.Repositories, place)):
			names = append(names, profiles.RepositoryFiles...)
		case name == profiles.RepositoryName:
			names = append(names, c.repositoryNames(place)...)
		case !strings.Contains(name, "*"):
			names = append(names, name)
		}
	}
	return names
}

// repositoryNames are those of a repository in a place: its .git is a directory, or a file that says where that is.
func (c *compiler) repositoryNames(place string) []string {
	info, err := c.host.Files.Lstat(filepath.Join(place, profiles.RepositoryName))
	switch {
	case err != nil:
		return nil
	case !info.IsDir():
		return []string{profiles.RepositoryName}
	}
	names := make([]string, len(profiles.RepositoryFiles))
	for i, name := range profiles.RepositoryFiles {
		names[i] = filepath.Join(profiles.RepositoryName, name)
	}
	return names
}

// isRepository tells whether a directory is a git directory itself (gitrepository-layout(5)), as one without a working tree is.
func (c *compiler) isRepository(dir string) bool {
	return !slices.ContainsFunc([]string{"HEAD", "objects", "refs"}, func(name string) bool {
		_, err := c.host.Files.Lstat(filepath.Join(dir, name))
		return err != nil
	})
}

// protect mounts one name read-only, where it is there and lies, by its links too, where the command may write.
func (c *compiler) protect(path string) error {
	if _, err := c.host.Files.Lstat(path); err != nil {
		return nil
	}
	target, info, err := c.canonical(path)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return nil
	}
	above := c.covering(target)
	if above == nil || !above.Writable || slices.Contains(c.protected.Places, target) {
		return nil
	}
	return c.add(Mount{Kind: Bind, Target: target, Source: target, Dir: info.IsDir(), Origin: originProtected})
}

// refuses says whether an action on a path is refused: it is where one of the files returned is older than the run. One with a slash
// at its end counts as a directory alone.
func (p Protected) refuses() func(action, path string) []string {
	if len(p.Names) == 0 || len(p.Places) == 0 {
		return nil
	}
	find := profiles.Files{Protect: p.Names}.Protection(p.Repositories, p.Paths)
	return func(action, path string) (since []string) {
		place := p.place(path)
		if place == "" {
			return nil
		}
		for _, guard := range find.Find(place, path) {
			if within(guard.Since, place) {
				guard.Since = place // what is above may be the run's own, and the place is older in any case
			}
			switch {
			case guard.Hold == profiles.HoldDir:
				since = append(since, guard.Since+"/")
			case action == "unlink" || action == "rmdir":
				// What would take its place is refused.
			case guard.Hold == profiles.HoldWhole || moves(action):
				since = append(since, guard.Since)
			}
		}
		return since
	}
}

// loosePlaces are the places that are mounted into a private home: their mount points are its directories, which another run with the
// same home can move (is_local_mountpoint in fs/namei.c looks at the caller's own mounts alone).
func (p Plan) loosePlaces() (loose []string) {
	for _, place := range p.Protected.Places {
		if above := p.aboveOf(place); above != nil && above.isPrivate() {
			loose = append(loose, place)
		}
	}
	return loose
}

// moves tells whether an action puts one name in the place of another.
func moves(action string) bool { return action == "rename" || action == "link" || action == "symlink" }

// place is the innermost place that holds a path: "" if none does.
func (p Protected) place(path string) (inner string) {
	for _, place := range p.Places {
		if within(place, path) && len(place) > len(inner) {
			inner = place
		}
	}
	return inner
}
