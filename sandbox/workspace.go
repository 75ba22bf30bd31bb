// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What the command may write it may also have prepared, in this run or in an earlier one. This file keeps that from widening a
// run: by a link in the way of a name that the caller gives, or by moving what the caller protects.

// findPlaces finds where the command, or that of an earlier run, may write: the current and the working directory, the repository
// around them, and the places that this run's may write.
func (c *compiler) findPlaces() error {
	for _, dir := range []string{c.host.Current, c.host.Workdir} {
		c.addPlace(dir)
		for _, around := range c.repositoriesAround(dir) {
			c.addPlace(around)
		}
	}
	for _, path := range c.policy.Files().Write {
		c.addPlace(c.expand(path))
	}
	return nil
}

// addPlace adds a directory, unless it is more than a project's: no command was given that.
func (c *compiler) addPlace(dir string) {
	if target, _, err := c.canonical(dir); err == nil && c.isProject(target) {
		c.places = append(c.places, target)
	}
}

// ownLink is the symbolic link on the way of the path that was resolved last which the command can have made, and can make anew.
func (c *compiler) ownLink() string { return c.linkIn(func(string) bool { return true }) }

// linkIn is the first symbolic link on the way of the path that was resolved last which lies in one of the places that count.
func (c *compiler) linkIn(counts func(place string) bool) string {
	for _, link := range c.followed {
		for _, place := range c.places {
			if within(place, link) && link != place && counts(place) {
				return link
			}
		}
	}
	return ""
}

// OwnLink is the symbolic link on the way of a path which the command can have made: "" if there is none.
func (p Plan) OwnLink(path string) string {
	c := &compiler{host: Host{Files: hostFiles{}}, places: p.Places, symlinks: map[string]string{}}
	c.resolve(path) // as far as it goes
	return c.ownLink()
}

// isOwnProgram tells whether the program that a name stands for inside lies where the command may write.
func (c *compiler) isOwnProgram(name string) bool {
	candidates := []string{c.expand(name)}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range filepath.SplitList(c.variable("PATH")) {
			candidates = append(candidates, filepath.Join(c.expand(dir), name))
		}
	}
	for _, path := range candidates {
		if target, info, err := c.canonical(path); err == nil && isExecutable(info) {
			return c.isCommands(target)
		}
	}
	return false
}

// planted is the symbolic link on the way of the path that was resolved last which the command can have made, and which leads out
// of the place where it could: "" if there is none.
func (c *compiler) planted(target string) string {
	return c.linkIn(func(place string) bool { return !within(place, target) })
}

func planted(what, path, link, target string) error {
	return requestErrorf("%s %q: it leads through %q, a symbolic link where the command may write, to %q; name that if you mean it",
		what, path, link, target)
}

// oneName refuses to protect a file that has a second name. Where the command may write, or that of an earlier run could, it can have
// given the file one, which nothing protects.
func (c *compiler) oneName(what, path, target string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || st.Nlink < 2 || !c.isCommands(target) {
		return nil
	}
	return requestErrorf("%s %q: the file has another name (a hard link), by which the command could reach it; put a copy in its place: %s",
		what, path, "cp -p FILE COPY && mv COPY FILE")
}

// ownFiles keeps the command from changing the next run's policy, or agentjail itself, where this run's lie in a place that it may
// write.
func (c *compiler) ownFiles() error {
	own := []string{c.host.Program}
	for _, s := range c.policy.Sources() {
		if !strings.HasPrefix(s.Name, "profile:") {
			own = append(own, c.absolute(s.Name))
		}
	}
	for _, path := range own {
		target, info, err := c.resolve(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // it was a pipe, say
		}
		if link := c.ownLink(); link != "" && path != c.host.Program {
			return planted("policy", path, link, target)
		}
		if err := c.oneName("policy", path, target, info); err != nil && path != c.host.Program { // nobody writes a program that runs
			return err
		}
		c.own = append(c.own, target)
		if above := c.granted(target); above == nil || !above.Writable {
			continue
		}
		if err := c.add(Mount{Kind: Bind, Target: target, Source: target, Origin: "agentjail"}); err != nil {
			return err
		}
	}
	return nil
}

// absolute is a path of the caller's.
func (c *compiler) absolute(path string) string {
	if !filepath.IsAbs(path) {
		return filepath.Join(c.host.Current, path)
	}
	return filepath.Clean(path)
}

// pins mounts each directory between a place that may be written and what is protected in it, or the working directory, onto
// itself. Without that the directory could be moved, and what the caller protected be made anew under its name (rename(2), EBUSY).
func (c *compiler) pins() error {
	c.mounts = c.ordered()
	for _, m := range slices.Clone(c.mounts) {
		if !c.staysWhere(m) {
			continue
		}
		if err := c.protectsAlone(m); err != nil {
			return err
		}
		for dir := filepath.Dir(m.Target); ; dir = filepath.Dir(dir) {
			above := c.covering(dir)
			if above == nil || !above.Writable || above.Target == dir {
				break
			}
			pin := Mount{
				Kind: Bind, Target: dir, Source: above.Source + strings.TrimPrefix(dir, above.Target), Dir: true, Writable: true,
				Origin: originPin,
			}
			if err := c.add(pin); err != nil {
				return err
			}
		}
	}
	return nil
}

// staysWhere tells whether the path of a mount must stay its own: of all that is mounted into a private home, whose directories are
// the command's to move, but for its own, which mountHome keeps in place.
func (c *compiler) staysWhere(m Mount) bool {
	above := c.covering(filepath.Dir(m.Target))
	switch {
	case m.Origin == originHome:
		return false
	case m.Kind == Hidden:
		return true
	case m.Kind == Bind && (!m.Writable || m.Target == c.dir):
		return true
	}
	return above != nil && above.isPrivate()
}

// protectsAlone refuses a file that is to be read-only in a writable place, and has a second name.
func (c *compiler) protectsAlone(m Mount) error {
	above := c.ofHost(c.shows(filepath.Dir(m.Target)))
	if m.Origin != originPolicy || m.Kind != Bind || above == nil || above.Kind == Bind && !above.Writable {
		return nil
	}
	info, err := c.host.Files.Lstat(m.Source)
	if err != nil {
		return requestErrorf("read-only %q: %v", m.Target, reason(err))
	}
	return c.oneName("read-only", m.Target, m.Target, info)
}
