// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"strings"
)

// commandFiles grants, read-only, the files of the command itself where no other grant shows them: an agent that npm put
// below the home is of no use if it cannot be read. It grants the program, the package that holds it and the interpreter
// of its first line, and no more.
func (c *compiler) commandFiles(command []string) error {
	path := c.lookPath(command[0])
	if path == "" {
		return nil // the stage reports 127, as a shell would
	}
	return c.program(path, 0)
}

// program grants one executable and, for a script, its interpreter.
func (c *compiler) program(path string, depth int) error {
	target, info, err := c.resolve(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if c.covering(target) == nil {
		source, dir := target, false
		if root := packageRoot(target); root != "" {
			source, dir = root, true
		}
		if err := c.add(Mount{Kind: Bind, Target: source, Source: source, Dir: dir, Origin: "command"}); err != nil {
			return err
		}
	}
	if depth > 0 {
		return nil // an interpreter is a program, not another script
	}
	if interpreter := c.interpreter(target); interpreter != "" {
		return c.program(interpreter, depth+1)
	}
	return nil
}

// packageRoot is the outermost node_modules directory that holds a program, "" if none does: npm puts an agent's
// platform binaries beside it.
func packageRoot(path string) string {
	if i := strings.Index(path, "/node_modules/"); i >= 0 {
		return path[:i] + "/node_modules"
	}
	return ""
}

// interpreter is the program of a script's first line (execve(2)), looked up by name where the line says env(1).
func (c *compiler) interpreter(path string) string {
	data, err := c.host.Files.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(data), "#!") {
		return ""
	}
	line, _, _ := strings.Cut(string(data[2:]), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return ""
	}
	if filepath.Base(words[0]) != "env" {
		return words[0]
	}
	for _, word := range words[1:] {
		if !strings.HasPrefix(word, "-") && !strings.Contains(word, "=") {
			return c.lookPath(word)
		}
	}
	return ""
}

// lookPath finds an executable as execvp(3) would, in absolute directories of PATH only: the working directory is the
// agent's, and what lies there must never be chosen by a bare name.
func (c *compiler) lookPath(name string) string {
	if strings.Contains(name, "/") {
		return c.expand(name)
	}
	for _, dir := range filepath.SplitList(c.variable("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		full := filepath.Join(dir, name)
		if _, info, err := (&compiler{host: c.host, symlinks: map[string]string{}}).resolve(full); err == nil &&
			info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return full
		}
	}
	return ""
}

func (c *compiler) variable(name string) string {
	for _, v := range c.host.Environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// worktree grants the repository that a git worktree belongs to. The `.git` file lies in the working directory, where an
// earlier run could have written it, so it is believed only if the repository points back: `gitdir` there is written by
// `git worktree add` on the host (gitrepository-layout(5)).
func (c *compiler) worktree() error {
	gitfile := filepath.Join(c.dir, ".git")
	info, err := c.host.Files.Lstat(gitfile)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	admin, ok := strings.CutPrefix(c.firstLine(gitfile), "gitdir: ")
	if !ok || !filepath.IsAbs(admin) || c.firstLine(filepath.Join(admin, "gitdir")) != gitfile {
		return nil
	}
	common := filepath.Join(admin, c.firstLine(filepath.Join(admin, "commondir")))
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := c.host.Files.Lstat(filepath.Join(common, name)); err != nil {
			return nil
		}
	}
	dir, _, err := c.resolve(common)
	if err != nil {
		return requestErrorf("git worktree: %q: %v", common, reason(err))
	}
	writable := c.policy.Files().Workdir == "rw"
	return c.add(Mount{Kind: Bind, Target: dir, Source: dir, Dir: true, Writable: writable, Origin: "git worktree"})
}

func (c *compiler) firstLine(path string) string {
	data, err := c.host.Files.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}
