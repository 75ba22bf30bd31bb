// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
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

// program grants one executable and, for a script, its interpreter. What cannot be executed is not granted: a link in the
// working directory could lead to any file.
func (c *compiler) program(path string, depth int) error {
	target, info, err := c.resolve(path)
	if err != nil || !isExecutable(info) {
		return nil
	}
	if c.covering(target) == nil {
		if link := c.planted(target); link != "" && !c.onPath(target) {
			if depth > 0 {
				return nil
			}
			return requestErrorf("command %q: it leads through %q, a symbolic link where the command may write, to %q; if you mean that: --ro %s",
				path, link, target, strconv.Quote(target))
		}
		source, dir := target, false
		if root := packageRoot(target); root != "" {
			source, dir = root, true
		}
		if err := c.add(Mount{Kind: Bind, Target: source, Source: source, Dir: dir, Origin: originCommand}); err != nil {
			return err
		}
	}
	if depth > 0 {
		return nil // an interpreter is a program, not another script
	}
	interpreter := c.interpreter(target)
	if interpreter == "" || c.isCommands(target) && !c.onPath(interpreter) {
		return nil
	}
	return c.program(interpreter, depth+1)
}

func isExecutable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o111 != 0 }

// isCommands tells whether the command, or that of an earlier run, can have written what a canonical path names: the first line
// of a script there must not widen a run.
func (c *compiler) isCommands(path string) bool {
	m := c.granted(path)
	return m != nil && m.Writable || slices.ContainsFunc(c.places, func(place string) bool { return within(place, path) })
}

// onPath tells whether a program is the one that the caller's PATH has under its name.
func (c *compiler) onPath(program string) bool {
	found, _, err := c.canonical(c.lookPath(filepath.Base(program)))
	target, _, err2 := c.canonical(program)
	return err == nil && err2 == nil && found == target
}

// packageRoot is the outermost node_modules directory that holds a program, "" if none does: npm puts an agent's
// platform binaries beside it.
func packageRoot(path string) string {
	if i := strings.Index(path, "/node_modules/"); i >= 0 {
		return path[:i] + "/node_modules"
	}
	return ""
}

// lineSize bounds the first line of a script, and the files of one line that git has.
const lineSize = 4096

// interpreter is the program of a script's first line (execve(2)), looked up by name where the line says env(1).
func (c *compiler) interpreter(path string) string {
	data, err := c.host.Files.ReadFile(path, lineSize)
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

// lookPath finds an executable as execvp(3) would, in absolute directories of PATH outside of the working directory only:
// what lies there is the agent's, and must never be chosen by a bare name.
func (c *compiler) lookPath(name string) string {
	if strings.Contains(name, "/") {
		return c.expand(name)
	}
	for _, dir := range filepath.SplitList(c.variable("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if real, _, err := c.canonical(dir); err != nil || within(c.dir, real) {
			continue
		}
		full := filepath.Join(dir, name)
		if _, info, err := c.canonical(full); err == nil && isExecutable(info) {
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

func (c *compiler) firstLine(path string) string {
	data, err := c.host.Files.ReadFile(path, lineSize)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}
