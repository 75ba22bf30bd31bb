// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// maxPath is PATH_MAX of linux/limits.h, without the final NUL.
const maxPath = 4095

// checkPath accepts an absolute path, or one below the home ("~/..."), in its
// one canonical spelling. What it refuses could not match anything, or would
// match more than the writer saw.
func checkPath(p string) error {
	switch {
	case p == "":
		return errorf("a path is empty")
	case len(p) > maxPath:
		return errorf("path %s is longer than %d bytes", show(p), maxPath)
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return errorf("path %s has control characters or is not UTF-8", show(p))
	case p == "/" || p == "~" || p == "~/":
		return errorf("path %s cannot be granted or hidden as a whole: name what is in it", show(p))
	case p[0] != '/' && !strings.HasPrefix(p, "~/"):
		return errorf("path %s is relative: start it with / or ~/", show(p))
	case strings.HasSuffix(p, "/"):
		return errorf("path %s ends in a slash and would match nothing: write %s", show(p), show(strings.TrimRight(p, "/")))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return errorf("path %s leads upwards with ..: write where it leads", show(p))
	case path.Clean(p) != p:
		return errorf("path %s: write %s", show(p), show(path.Clean(p)))
	}
	return nil
}

// checkGrant is checkPath for a path that is granted or hidden: no wildcard,
// and none of the file systems that every run gets anew.
func checkGrant(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if strings.Contains(p, "*") {
		return errorf("path %s: wildcards are not known here and would match nothing: name the directory", show(p))
	}
	if p == "/proc" || strings.HasPrefix(p, "/proc/") || p == "/dev" || p == "/sys" {
		return errorf("path %s: a run has its own /proc, /dev and /sys; the machine's cannot be granted", show(p))
	}
	return nil
}

// neverPrivate is what an agent may not even make in its private home: files
// that other programs run or trust if the home is ever used by one.
var neverPrivate = []string{
	"~/.bash_login", "~/.bash_logout", "~/.bash_profile", "~/.bashrc",
	"~/.config/autostart", "~/.config/environment.d", "~/.config/fish",
	"~/.config/systemd", "~/.local/share/systemd", "~/.pam_environment",
	"~/.profile", "~/.ssh", "~/.xinitrc", "~/.xprofile", "~/.xsession",
	"~/.zlogin", "~/.zlogout", "~/.zprofile", "~/.zshenv", "~/.zshrc",
}

// neverPrivateSet is neverPrivate for look-ups.
var neverPrivateSet = sync.OnceValue(func() map[string]bool { return setOf(neverPrivate) })

// NeverPrivate returns the paths ("~/...") that no policy can list as private,
// and that stay refused below a directory that is.
func NeverPrivate() []string { return slices.Clone(neverPrivate) }

// checkPrivate is checkGrant for a name below the home that the agent may make
// anew there.
func checkPrivate(p string) error {
	if err := checkGrant(p); err != nil {
		return err
	}
	if !strings.HasPrefix(p, "~/") {
		return errorf("path %s: only what is below the home (~/...) can be private", show(p))
	}
	if covered(p, neverPrivateSet()) {
		return errorf("path %s is refused in every private home: other programs run or trust it", show(p))
	}
	return nil
}

// covered reports whether p is one of the paths, or below one of them.
func covered(p string, paths map[string]bool) bool {
	for p != "" {
		if paths[p] {
			return true
		}
		p = p[:max(strings.LastIndexByte(p, '/'), 0)]
	}
	return false
}

// setOf returns the elements of the lists as a set.
func setOf(lists ...[]string) map[string]bool {
	set := map[string]bool{}
	for _, list := range lists {
		for _, s := range list {
			set[s] = true
		}
	}
	return set
}

// checkNoise is checkPath for a pattern of Files.IsNoise.
func checkNoise(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if first, _, _ := strings.Cut(strings.TrimLeft(p, "~/"), "/"); first == "*" {
		return errorf("path %s: a pattern cannot begin with *: it would match everything", show(p))
	}
	return nil
}

// IsNoise reports whether an absolute path is covered by the noise list: what
// programs look for by habit and work without. Such an attempt is denied and
// recorded like any other, but a summary need not show it first. A pattern
// covers the path that it names and everything below; a * in it stands for any
// characters but a slash.
func (f Files) IsNoise(p, home string) bool {
	for _, pattern := range f.Noise {
		if rest, ok := strings.CutPrefix(pattern, "~/"); ok {
			pattern = strings.TrimRight(home, "/") + "/" + rest
		}
		if matchBelow(pattern, p) {
			return true
		}
	}
	return false
}

// matchBelow reports whether pattern matches p or a directory above it, one
// path component at a time.
func matchBelow(pattern, p string) bool {
	for {
		wantName, wantRest, wantMore := strings.Cut(pattern, "/")
		name, rest, more := strings.Cut(p, "/")
		if !matchName(wantName, name) {
			return false
		}
		if !wantMore {
			return true
		}
		if !more {
			return false
		}
		pattern, p = wantRest, rest
	}
}

// matchName matches one path component against a pattern with any number of
// stars. Greedy from both ends, so it takes linear time in practice and never
// backtracks.
func matchName(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(name, part)
		if !ok {
			return false
		}
		name = after
	}
	return true
}
