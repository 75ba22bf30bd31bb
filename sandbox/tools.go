// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

// This file grants the sets of tools that a policy names, where they are installed.

// tools shows what is there of each set, and hides the credentials that lie in it. That nothing is there is no error: a policy
// that several machines share names tools of which some have theirs in /usr.
func (c *compiler) tools() error {
	for _, name := range c.policy.Files().With {
		set, err := profiles.LookupToolchain(name)
		if err != nil {
			return err
		}
		found := Tools{Name: name, Asked: slices.ContainsFunc(c.policy.Origins("with", name), func(o profiles.Origin) bool {
			return !strings.HasPrefix(o.Source, "profile:")
		})}
		for _, place := range set.Places {
			for _, dir := range c.toolDirs(place) {
				found.Places = append(found.Places, dir)
				if err := c.toolPlace(dir, place, &found); err != nil {
					return err
				}
			}
		}
		slices.Sort(found.Found)
		found.Found = slices.Compact(found.Found)
		c.toolsFound = append(c.toolsFound, found)
	}
	return c.toolLinks()
}

// toolDirs are the directories of a place: those that the caller's variable names, or else the manager's own choice.
func (c *compiler) toolDirs(place profiles.ToolPlace) (dirs []string) {
	for _, dir := range filepath.SplitList(c.variable(place.Variable)) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	if len(dirs) == 0 && place.At != "" {
		dirs = append(dirs, c.expand(place.At))
	}
	return dirs
}

// toolPlace grants what one directory has of a set.
func (c *compiler) toolPlace(dir string, place profiles.ToolPlace, found *Tools) error {
	shown := []string{dir}
	if len(place.Read) > 0 {
		shown = c.matches(dir, place.Read)
	}
	for _, path := range shown {
		if err := c.tool(path, found); err != nil {
			return err
		}
	}
	for _, path := range c.matches(dir, place.Hide) {
		target, info, err := c.canonical(path)
		if err != nil || c.covering(target) == nil || c.names(target) || within(target, c.dir) {
			continue
		}
		if err := c.oneName("hide", path, target, info); err != nil {
			return err
		}
		if err := c.add(Mount{Kind: Hidden, Target: target, Dir: info.IsDir(), Origin: originTools + found.Name}); err != nil {
			return err
		}
	}
	return nil
}

// tool grants one path of a set, read-only, unless it is shown already.
func (c *compiler) tool(path string, found *Tools) error {
	target, info, err := c.resolve(path)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return nil
	}
	if err := c.mayGrant(path, target, false); err != nil {
		return err
	}
	found.Found = append(found.Found, target)
	if c.covering(target) != nil {
		return nil
	}
	return c.add(Mount{Kind: Bind, Target: target, Source: target, Dir: info.IsDir(), Origin: originTools + found.Name})
}

// names tells whether the policy grants the very path: that is more specific than what a set hides.
func (c *compiler) names(target string) bool {
	return slices.ContainsFunc(c.entries, func(e entry) bool { return e.target == target })
}

// matches are the paths below a directory that patterns name and that are there.
func (c *compiler) matches(dir string, patterns []string) (paths []string) {
	for _, pattern := range patterns {
		at := []string{dir}
		for _, name := range strings.Split(pattern, "/") {
			var next []string
			for _, dir := range at {
				next = append(next, c.match(dir, name)...)
			}
			at = next
		}
		paths = append(paths, at...)
	}
	return paths
}

// match are the paths in a directory of which the name fits. The directory may be behind a symbolic link.
func (c *compiler) match(dir, pattern string) (paths []string) {
	real, _, err := c.canonical(dir)
	if err != nil {
		return nil
	}
	if !strings.ContainsAny(pattern, `*?[\`) {
		if _, err := c.host.Files.Lstat(filepath.Join(real, pattern)); err != nil {
			return nil
		}
		return []string{filepath.Join(dir, pattern)}
	}
	entries, err := c.host.Files.ReadDir(real)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if ok, err := path.Match(pattern, e.Name()); ok && err == nil {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// toolLinks has the run's tree lead to the tools by the symbolic links of the caller's PATH: some managers have a directory in it that
// stands for the chosen version, others put a link to each program into ~/.local/bin.
func (c *compiler) toolLinks() error {
	if len(c.toolsFound) == 0 {
		return nil
	}
	for _, dir := range filepath.SplitList(c.variable("PATH")) {
		target, _, err := c.canonical(dir)
		if !filepath.IsAbs(dir) || err != nil {
			continue
		}
		links := []string{dir}
		if above := c.covering(target); above == nil && within(c.host.Identity.Home, target) {
			links = append(links, c.matches(target, []string{"*"})...)
		}
		for _, link := range links {
			if err := c.toolLink(link); err != nil {
				return err
			}
		}
	}
	return nil
}

// toolLink makes the links of the host on the way of a path that leads to a tool.
func (c *compiler) toolLink(path string) error {
	target, _, err := c.canonical(path)
	if err != nil || target == path {
		return nil
	}
	if above := c.covering(target); above == nil || !strings.HasPrefix(above.Origin, originTools) {
		return nil
	}
	_, _, err = c.resolve(path)
	return err
}

// severity is that of a denial at a path: "" for an ordinary one.
func (p Plan) severity(path string) string {
	switch {
	case p.isCredential(path):
		return audit.SeverityCredential
	case profiles.Files{Noise: p.Noise}.IsNoise(path, p.Identity.Home):
		return audit.SeverityNoise
	}
	return ""
}

// isCredential tells whether a path is of those at which credentials are kept: in a known place, beside tools, or in a project.
func (p Plan) isCredential(path string) bool {
	m := p.innermost(path)
	return denyfs.Credential(p.Identity.Home, path) ||
		m != nil && m.Kind == Hidden && (m.Origin == originSecrets || strings.HasPrefix(m.Origin, originTools))
}
