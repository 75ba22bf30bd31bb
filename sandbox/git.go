// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// repository grants the repository of a git worktree or submodule, which lies elsewhere. The `.git` file that names it lies in the
// working directory, where an earlier run could have written it, so it is believed only if the repository points back.
func (c *compiler) repository() error {
	gitfile := filepath.Join(c.dir, ".git")
	info, err := c.host.Files.Lstat(gitfile)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	written := c.gitFile(c.dir)
	admin, _, err := c.canonical(written)
	if err != nil {
		return nil
	}
	what, repository := "git worktree", c.ofWorktree(admin)
	if repository == "" {
		what, repository = "git submodule", c.ofSubmodule(admin)
	}
	if repository == "" || !c.isRepository(repository) {
		return nil
	}
	if _, _, err := c.resolve(written); err != nil { // its links are part of the run's tree
		return requestErrorf("%s: %q: %v", what, written, reason(err))
	}
	c.elsewhere = repository
	above := c.covering(c.dir)
	writable := above != nil && above.Writable
	return c.add(Mount{Kind: Bind, Target: repository, Source: repository, Dir: true, Writable: writable, Origin: what})
}

// around is the repository that the working directory lies in, where no grant shows it: git finds none there. One that the policy hides
// is not meant to be found.
func (c *compiler) around() string {
	dirs := c.repositoriesAround(c.dir)
	if len(dirs) == 0 || !c.isProject(dirs[0]) {
		return ""
	}
	if git := filepath.Join(dirs[0], ".git"); c.granted(git) != nil || c.hidesPath(git) {
		return ""
	}
	return dirs[0]
}

// repositoriesAround are the directories on the way from one up that have a .git, the innermost first.
func (c *compiler) repositoriesAround(dir string) (dirs []string) {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := c.host.Files.Lstat(filepath.Join(dir, ".git")); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// gitFile is the git directory that the .git file of a directory names, as far as it is one: "" if it names none.
func (c *compiler) gitFile(dir string) string {
	written, ok := strings.CutPrefix(c.firstLine(filepath.Join(dir, ".git")), "gitdir: ")
	if !ok {
		return ""
	}
	return join(dir, written)
}

// ofWorktree is the repository that has the working directory for a worktree: "" if it does not say so. `gitdir` is written by
// `git worktree add` on the host (gitrepository-layout(5)). That file is the repository's word only where it lies in the
// repository's own `worktrees`, which no link and no `commondir` of the command's can make of another place.
func (c *compiler) ofWorktree(admin string) string {
	back := join(admin, c.firstLine(filepath.Join(admin, "gitdir")))
	if filepath.Base(filepath.Dir(admin)) != "worktrees" || back != filepath.Join(c.dir, ".git") {
		return ""
	}
	common := filepath.Dir(filepath.Dir(admin))
	if filepath.Join(admin, c.firstLine(filepath.Join(admin, "commondir"))) != common {
		return ""
	}
	return common
}

// modules is where a repository, or a worktree of it, keeps those of its submodules. It is compiled when it is asked for, and not at
// each start of a process.
var modules = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`/\.git/(worktrees/[^/]+/)?modules/`) })

// ofSubmodule is the repository of the submodule that the working directory is: "" if it does not say so. `git submodule` writes
// core.worktree, and `git sparse-checkout` moves it (git-worktree(1), config.worktree). A run in a directory above can have written
// both, as it can all that lies there: only a place for submodules is believed, which does not give that directory to a later run.
func (c *compiler) ofSubmodule(admin string) string {
	if !modules().MatchString(admin) || within(admin, c.dir) {
		return ""
	}
	for _, name := range []string{"config", "config.worktree"} {
		if back := c.coreWorktree(filepath.Join(admin, name)); back != "" && join(admin, back) == c.dir {
			return admin
		}
	}
	return ""
}

// coreWorktree is core.worktree of a configuration, "" if it has none.
func (c *compiler) coreWorktree(file string) (worktree string) {
	for s := range c.settings(file) {
		if s.section == "core" && s.key == "worktree" {
			worktree = s.value
		}
	}
	return worktree
}

// join is a path that is written in a file of a directory.
func join(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
