// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// maxLinks is how many symbolic links one path may lead through (MAXSYMLINKS, path_resolution(7)).
const maxLinks = 40

// errLoop is ELOOP's meaning for people.
var errLoop = errors.New("too many symbolic links")

// resolve walks a path of the host and returns the canonical one. Symbolic links that lie outside every grant become links of
// the run's own tree, so that the path as written works inside too; those inside a grant are there already.
func (c *compiler) resolve(path string) (string, fs.FileInfo, error) {
	links := 0
	c.followed = nil
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
		c.link(next, to)
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
	return current, info, nil
}

// canonical resolves a path and leaves the run's tree as it is.
func (c *compiler) canonical(path string) (string, fs.FileInfo, error) {
	if path == "" {
		return "", nil, fs.ErrNotExist
	}
	return (&compiler{host: c.host, symlinks: map[string]string{}}).resolve(path)
}

// link makes a symbolic link of the host part of the run's tree.
func (c *compiler) link(at, to string) {
	if c.granted(at) == nil && !isKernelPath(at) {
		c.symlinks[at] = to
	}
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
