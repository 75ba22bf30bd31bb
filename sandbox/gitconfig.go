// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentjail/agentjail/profiles"
)

// setting is one line of a configuration of git's.
type setting struct {
	section string // in lower case, without the name in quotes
	key     string // in lower case
	value   string
}

// gitSettings reads a configuration as git does (git-config(1), Syntax). What git would refuse is left out.
func gitSettings(data string) iter.Seq[setting] {
	return func(yield func(setting) bool) {
		section := ""
		data = strings.ReplaceAll(strings.TrimPrefix(data, "\ufeff"), "\r\n", "\n") // git takes a byte order mark
		for data != "" {
			var line string
			line, data = cutLine(data)
			line = strings.TrimSpace(line)
			for strings.HasPrefix(line, "[") {
				header, after := cutHeader(line[1:])
				name, _, _ := strings.Cut(strings.ReplaceAll(header, "\t", " "), " ")
				name, _, _ = strings.Cut(name, ".") // what follows is a part of it, as older settings have it: [filter.x]
				section, line = strings.ToLower(name), strings.TrimSpace(after)
			}
			key, value, ok := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); !ok || key == "" || key[0] == '#' || key[0] == ';' {
				continue
			}
			if !yield(setting{section, strings.ToLower(key), gitValue(strings.TrimSpace(value))}) {
				return
			}
		}
	}
}

// cutHeader cuts the name of a section off, whose second part can have a bracket in its quotes.
func cutHeader(line string) (header, rest string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ']' && !quoted:
			return line[:i], line[i+1:]
		}
	}
	return line, ""
}

// cutLine cuts the first line off, with those in which it goes on: behind a backslash at its end that is neither escaped nor in a comment.
func cutLine(data string) (line, rest string) {
	var b strings.Builder
	quoted, comment := false, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\n':
			return b.String(), data[i+1:]
		case c == '\\' && !comment && i+1 < len(data):
			if i++; data[i] != '\n' {
				b.WriteString(data[i-1 : i+1])
			}
			continue
		case c == '"':
			quoted = !quoted
		case (c == '#' || c == ';') && !quoted:
			comment = true
		}
		b.WriteByte(data[i])
	}
	return b.String(), ""
}

// gitValue is a value without its quotes, its escapes, and the comment that follows it.
func gitValue(text string) string {
	var value strings.Builder
	quoted, kept := false, 0 // kept counts what is more than blanks at the end
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			quoted = !quoted
			kept = value.Len()
			continue
		case (c == '#' || c == ';') && !quoted:
			return value.String()[:kept]
		case c == '\\' && i+1 < len(text):
			i++
			if c = text[i]; c == 'n' || c == 't' || c == 'b' {
				c = map[byte]byte{'n': '\n', 't': '\t', 'b': '\b'}[c]
			}
		}
		value.WriteByte(c)
		if quoted || c != ' ' && c != '\t' {
			kept = value.Len()
		}
	}
	return value.String()[:kept]
}

// commandKeys are the settings whose values are commands, or files that name commands, by section (git-config(1)).
var commandKeys = map[string][]string{
	"browser":    {"cmd", "path"},
	"core":       {"alternaterefscommand", "askpass", "attributesfile", "editor", "fsmonitor", "gitproxy", "pager", "sshcommand"},
	"credential": {"helper"}, "diff": {"command", "external", "textconv"}, "difftool": {"cmd", "path"}, "filter": {"clean", "process", "smudge"},
	"gc": {"recentobjectshook"}, "gpg": {"defaultkeycommand", "program"}, "guitool": {"cmd"}, "hook": {"command"}, "interactive": {"difffilter"},
	"man": {"cmd", "path"}, "merge": {"driver"}, "mergetool": {"cmd", "path"}, "remote": {"receivepack", "uploadpack"},
	"sendemail": {"cccmd", "headercmd", "sendmailcmd", "tocmd"}, "sequence": {"editor"}, "tar": {"command"}, "trailer": {"cmd", "command"},
	"uploadpack": {"packobjectshook"},
}

// runs tells whether git runs what a setting of the repository that it is in names. Of aliases,
// and of how a submodule is updated, that is what begins with an exclamation mark.
func (s setting) runs() bool {
	said := s.section == "alias" || s.names("submodule", "update")
	return slices.Contains(commandKeys[s.section], s.key) || s.section == "pager" || said && strings.HasPrefix(s.value, "!")
}

// names tells whether a setting is the one with a key of a section, both in lower case.
func (s setting) names(section, key string) bool { return s.section == section && s.key == key }

// includes tells whether a setting names a file whose settings count as well, always or on a condition.
func (s setting) includes() bool { return s.names("include", "path") || s.names("includeif", "path") }

// filesOf are the files that a command of git's names, by paths from where git runs it: the top of the working tree. The program that it
// begins with is one, whether it is there or not. What else the shell would make of it, nobody knows.
func (c *compiler) filesOf(worktree, command string) (files []string) {
	program := true
	for word := range strings.FieldsFuncSeq(command, func(r rune) bool { return strings.ContainsRune(" \t\n!\"';&|<>(){}`=", r) }) {
		if c.settingsCost += lookCost; c.settingsCost > maxSettingsCost {
			return nil
		}
		path := c.ofGit(worktree, word)
		info, err := c.host.Files.Lstat(path)
		if err == nil && !info.IsDir() || isAbsent(err) && program && strings.Contains(word, "/") {
			files = append(files, path)
		}
		program = false
	}
	return files
}

// repositoryPaths are where a repository's settings send git for what it runs: its hooks, and further settings, which are protected
// whether they are there or not, and files of commands. Of the caller's own settings only hooks count here, which lie in every repository.
func (c *compiler) repositoryPaths(worktree, gitDir string) (paths []string) {
	read := map[string]bool{}
	for _, file := range []string{filepath.Join(gitDir, "config"), filepath.Join(gitDir, "config.worktree")} {
		for _, s := range c.withIncluded(file, read) {
			switch {
			case s.names("core", "hookspath"):
				paths = append(paths, c.ofGit(worktree, s.value))
			case s.includes():
				paths = append(paths, s.value)
			case s.runs():
				paths = append(paths, c.filesOf(worktree, s.value)...)
			}
		}
	}
	for _, s := range c.global {
		if s.names("core", "hookspath") {
			paths = append(paths, c.ofGit(worktree, s.value))
		}
	}
	return paths
}

// globalSettings reads the caller's own settings, and the system's (git-config(1), Files).
func (c *compiler) globalSettings() (all []setting) {
	files := []string{"/etc/gitconfig", c.expand("~/.gitconfig"), c.expand("~/.config/git/config")}
	if dir := c.variable("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		files = append(files, filepath.Join(dir, "git/config"))
	}
	if file := c.variable("GIT_CONFIG_GLOBAL"); filepath.IsAbs(file) {
		files = append(files, file)
	}
	for _, file := range files {
		all = append(all, c.withIncluded(file, map[string]bool{})...)
	}
	return all
}

// withIncluded are the settings of a file and of the files that it includes, by their whole paths, each of which is read once. Of what is
// included on a condition, which can be met in one repository and not in another, the user's name and address are left out.
func (c *compiler) withIncluded(file string, read map[string]bool) (all []setting) {
	if read[file] {
		return nil
	}
	read[file] = true
	for s := range c.settings(file) {
		if !s.includes() {
			all = append(all, s)
			continue
		}
		s.value = c.ofGit(filepath.Dir(file), s.value)
		all = append(all, s)
		for _, in := range c.withIncluded(s.value, read) {
			if s.section == "include" || in.section != "user" {
				all = append(all, in)
			}
		}
	}
	return all
}

// gitIdentity are settings with the caller's name and mail address for commits, and nothing else of the caller's: "" without.
func (c *compiler) gitIdentity() string {
	var name, email string
	for _, s := range c.global {
		switch {
		case s.names("user", "name"):
			name = s.value
		case s.names("user", "email"):
			email = s.value
		}
	}
	if name == "" || email == "" {
		return ""
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	return fmt.Sprintf("[user]\n\tname = \"%s\"\n\temail = \"%s\"\n", quote.Replace(name), quote.Replace(email))
}

// ofGit is a path of a configuration: below the home, or relative to a directory.
func (c *compiler) ofGit(dir, path string) string {
	if strings.HasPrefix(path, "~/") {
		return c.expand(path)
	}
	return join(dir, path)
}

// maxSettings bounds a configuration of git's, and maxSettingsCost all that is read of such, in bytes, with the files that are looked for by
// it, each of which counts as lookCost: an earlier run may have made what would take hours. What exceeds either is no run's: see protects.
const (
	maxSettings     = 1 << 20
	maxSettingsCost = 32 << 20
	lookCost        = 1 << 10
)

func (c *compiler) settings(file string) iter.Seq[setting] {
	data, err := c.host.Files.ReadFile(file, maxSettings+1)
	if c.settingsCost += lookCost + len(data); len(data) > maxSettings {
		c.settingsCost += maxSettingsCost
	}
	if err != nil || c.settingsCost > maxSettingsCost {
		return gitSettings("")
	}
	return gitSettings(string(data))
}

// protectedPaths are those of the repositories that a run works in: around the working directory, in the other places, and the one
// that a worktree or submodule has elsewhere; and what the caller's own settings include.
func (c *compiler) protectedPaths() []string {
	var paths []string
	for _, s := range c.global {
		if s.includes() {
			paths = append(paths, s.value)
		}
	}
	seen := map[string]bool{}
	look := func(worktree, gitDir string) { paths = append(paths, c.pathsOf(worktree, gitDir, seen)...) }
	for _, around := range c.repositoriesAround(c.dir) {
		look(around, filepath.Join(around, profiles.RepositoryName))
	}
	for _, place := range c.protected.Places {
		if place != c.dir {
			look(place, filepath.Join(place, profiles.RepositoryName))
		}
	}
	for _, repository := range c.protected.Repositories {
		look(repository, repository)
	}
	if c.elsewhere != "" {
		look(c.dir, c.elsewhere)
	}
	return paths
}

// pathsOf are those of one repository and of its submodules.
func (c *compiler) pathsOf(worktree, gitDir string, seen map[string]bool) []string {
	info, err := c.host.Files.Lstat(gitDir)
	if c.settingsCost += lookCost; err != nil || !info.IsDir() || seen[worktree] || c.settingsCost > maxSettingsCost {
		return nil
	}
	seen[worktree] = true
	paths := c.repositoryPaths(worktree, gitDir)
	for s := range c.settings(filepath.Join(worktree, ".gitmodules")) {
		if !s.names("submodule", "path") {
			continue
		}
		module := join(worktree, s.value)
		dir := c.gitFile(module)
		if dir == "" {
			dir = filepath.Join(module, profiles.RepositoryName)
		}
		paths = append(paths, c.pathsOf(module, dir, seen)...)
	}
	return paths
}
