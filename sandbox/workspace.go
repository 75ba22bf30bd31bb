// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"slices"
	"strings"
)

// What the command may write it may also have prepared, in this run or in an earlier one. This file keeps that from widening a
// run: by a link in the way of a name that the caller gives, or by moving what the caller protects.

// planted is the symbolic link on the way of the path that was resolved last which the command can have made, and which leads out
// of the place where it could: "" if there is none.
func (c *compiler) planted(target string) string {
	for _, link := range c.followed {
		for _, place := range c.places {
			if within(place, link) && link != place && !within(place, target) {
				return link
			}
		}
	}
	return ""
}

func planted(what, path, link, target string) error {
	return requestErrorf("%s %q: it leads through %q, a symbolic link where the command may write, to %q; name that if you mean it",
		what, path, link, target)
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
		target, info, err := c.canonical(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // it was a pipe, say
		}
		hidden := func(m Mount) bool { return m.Kind == Hidden && within(m.Target, target) }
		if above := c.covering(target); above == nil || !above.Writable || slices.ContainsFunc(c.mounts, hidden) {
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

// pins mounts each directory between a place that may be written and what is protected in it onto itself. Without that the
// directory could be moved, and what the caller protected be made anew under its name (rename(2), EBUSY).
func (c *compiler) pins() error {
	c.mounts = c.ordered()
	for _, m := range slices.Clone(c.mounts) {
		if m.Kind != Hidden && (m.Kind != Bind || m.Writable) {
			continue
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
