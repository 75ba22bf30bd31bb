// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// maxLinks is how many symbolic links one path may lead through (MAXSYMLINKS, path_resolution(7)).
const maxLinks = 40

// errLoop is ELOOP's meaning for people.
var errLoop = errors.New("too many symbolic links")

// resolve walks a path of the host and returns the canonical one. Symbolic links that lie outside every grant become links of
// the run's own tree, so that the path as written works inside too; those inside a grant are there already. One that would take a
// directory of the private home away is not made: the path alone leads to where it leads, as ~/.cargo/bin where ~/.cargo is a link.
func (c *compiler) resolve(path string) (string, fs.FileInfo, error) {
	links := 0
	c.followed = nil
	var alone []string
	current, rest := "/", components(filepath.Clean(path))
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			current = filepath.Dir(current) // current is canonical, so its parent is the kernel's too
			continue
		}
		next := filepath.Join(current, name)
		info, err := c.host.Files.Lstat(next)
		if err != nil {
			return "", nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			current = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, errLoop
		}
		to, err := c.host.Files.Readlink(next)
		if err != nil {
			return "", nil, err
		}
		if len(rest) > 0 && !slices.Contains(rest, "..") && c.holdsPrivate(next) {
			alone = append(alone, filepath.Join(next, filepath.Join(rest...)))
		} else {
			c.link(next, to)
		}
		c.followed = append(c.followed, next)
		if filepath.IsAbs(to) {
			current = "/"
		}
		rest = append(components(to), rest...)
	}
	info, err := c.host.Files.Lstat(current)
	if err != nil {
		return "", nil, err
	}
	for _, at := range alone {
		c.link(at, current)
	}
	return current, info, nil
}

// holdsPrivate tells whether a path is one of the private home's own, or leads to one.
func (c *compiler) holdsPrivate(path string) bool {
	return slices.ContainsFunc(slices.Concat(c.home.Names, busyDirs), func(name string) bool {
		return within(path, filepath.Join(c.host.Identity.Home, name))
	})
}

// canonical resolves a path and leaves the run's tree as it is.
func (c *compiler) canonical(path string) (string, fs.FileInfo, error) {
	if path == "" {
		return "", nil, fs.ErrNotExist
	}
	return (&compiler{host: c.host, symlinks: map[string]string{}}).resolve(path)
}

// link makes a symbolic link of the host part of the run's tree, unless a mount of the private home or another link is in its way.
func (c *compiler) link(at, to string) {
	inWay := func(dir string) bool { return within(at, filepath.Join(c.host.Identity.Home, dir)) }
	if c.granted(at) != nil || isKernelPath(at) || slices.ContainsFunc(c.home.Dirs, inWay) {
		return
	}
	for other := range c.symlinks {
		if other != at && within(other, at) {
			return
		}
	}
	maps.DeleteFunc(c.symlinks, func(other, _ string) bool { return within(at, other) })
	c.symlinks[at] = to
}

// components splits a path without cleaning it: ".." after a symbolic link is not what the text says.
func components(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// isAbsent tells whether nothing is there, or nothing that the caller may look at.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// reason is an error without the path that the message already names.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%w", p.Err)
	}
	return err
}
