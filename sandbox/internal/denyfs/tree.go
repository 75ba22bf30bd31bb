// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"path"
	"slices"
	"strings"
)

// maxPath is PATH_MAX of Linux, limits.h: no path that the tree answers for is longer.
const maxPath = 4096

// maxName is NAME_MAX, the longest name of one component.
const maxName = 255

type entryKind uint8

const (
	entryAncestor  entryKind = iota // directory on the way to a grant
	entryGrantDir                   // empty directory to bind a grant over
	entryGrantFile                  // empty file to bind a grant over
	entrySymlink
)

// entry is one name that the tree has by configuration. Entries never change after NewTree.
type entry struct {
	kind     entryKind
	path     string
	target   string // of a symbolic link
	union    bool   // an ancestor that is the home or below it: names of the private home show in it
	children map[string]*entry
	names    []string // of the children, sorted
}

// Tree decides what each name of the jail is. It is pure: it knows what was configured, and is told what the host and
// the private home have. It is immutable and safe for concurrent use.
type Tree struct {
	root   *entry
	home   string // "" without a home
	own    []string
	hidden []hole
}

// hole is a hidden place.
type hole struct {
	path  string
	entry *entry // what shows in it all the same, nil for nothing
}

// NewTree lays out the names of a configuration. Grants below a granted directory need no place and are left out.
func NewTree(c Config) (*Tree, error) {
	t := &Tree{root: &entry{kind: entryAncestor, path: "/"}, home: c.Home.Path}
	grants := slices.Clone(c.Grants)
	if t.home != "" {
		if err := t.layHome(c.Home); err != nil {
			return nil, err
		}
		for _, d := range c.Home.Dirs {
			grants = append(grants, Grant{Path: path.Join(t.home, d), Dir: true})
		}
	}
	sortGrants(grants)
	for _, g := range grants {
		if err := t.root.place(g.entry()); err != nil {
			return nil, err
		}
	}
	for from, to := range c.Symlinks {
		if to == "" || len(to) >= maxPath {
			return nil, &ConfigError{from, "a symbolic link with no target, or one that is too long"}
		}
		if err := t.root.place(&entry{kind: entrySymlink, path: from, target: to}); err != nil {
			return nil, err
		}
	}
	for _, h := range c.Hidden {
		if err := t.hide(h); err != nil {
			return nil, err
		}
	}
	t.root.finish(t.home)
	return t, nil
}

// hide notes a hidden place, and lays out what shows in it. That is no part of the home: what a grant shows around it is the host's.
func (t *Tree) hide(h Hide) error {
	if err := checkPath(h.Path); err != nil {
		return err
	}
	hole := hole{path: h.Path}
	if len(h.Shown) > 0 {
		hole.entry = &entry{kind: entryAncestor, path: h.Path}
		shown := slices.Clone(h.Shown)
		sortGrants(shown)
		for _, g := range shown {
			if !h.Dir || !below(g.Path, h.Path) {
				return &ConfigError{g.Path, "cannot show in " + h.Path}
			}
			if err := hole.entry.place(g.entry()); err != nil {
				return err
			}
		}
		hole.entry.finish("")
	}
	t.hidden = append(t.hidden, hole)
	return nil
}

// hides tells whether a path is hidden by the policy, and not merely granted by nothing.
func (t *Tree) hides(p string) bool {
	return slices.ContainsFunc(t.hidden, func(h hole) bool { return p == h.path || below(p, h.path) })
}

// sortGrants puts the shorter first, so that a directory comes before what lies in it.
func sortGrants(grants []Grant) {
	slices.SortFunc(grants, func(a, b Grant) int { return strings.Compare(a.Path, b.Path) })
}

func (t *Tree) layHome(h HomeConfig) error {
	if err := checkPath(h.Path); err != nil {
		return err
	}
	for _, name := range append(slices.Clone(h.Dirs), h.Names...) {
		if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == "." || strings.HasPrefix(name, "..") {
			return &ConfigError{name, "is not a clean path below the home"}
		}
	}
	t.own = slices.Clone(h.Names)
	return t.root.place(&entry{kind: entryAncestor, path: h.Path})
}

func (g Grant) entry() *entry {
	if g.Dir {
		return &entry{kind: entryGrantDir, path: g.Path}
	}
	return &entry{kind: entryGrantFile, path: g.Path}
}

// place puts an entry that lies below top there, and makes the ancestors that it lacks.
func (top *entry) place(e *entry) error {
	if err := checkPath(e.path); err != nil {
		return err
	}
	at := top
	names := strings.Split(strings.TrimPrefix(e.path[len(strings.TrimSuffix(top.path, "/")):], "/"), "/")
	for i, name := range names {
		if at.kind == entryGrantDir {
			return nil // inside a grant, where the supervisor mounts on what is really there
		}
		if at.kind != entryAncestor {
			return &ConfigError{e.path, "lies below " + at.path + ", which is no directory of the tree"}
		}
		child := at.children[name]
		if i < len(names)-1 {
			if child == nil {
				child = &entry{kind: entryAncestor, path: path.Join(at.path, name)}
				at.attach(name, child)
			}
			at = child
			continue
		}
		switch {
		case child == nil:
			at.attach(name, e)
		case child.kind == e.kind && child.target == e.target: // said twice
		default:
			return &ConfigError{e.path, "is asked for as two different things"}
		}
	}
	return nil
}

func (e *entry) attach(name string, child *entry) {
	if e.children == nil {
		e.children = make(map[string]*entry)
	}
	e.children[name] = child
}

// finish sorts the names of each directory and marks those that are part of the home.
func (e *entry) finish(home string) {
	e.union = home != "" && e.kind == entryAncestor && (e.path == home || below(e.path, home))
	for name, child := range e.children {
		e.names = append(e.names, name)
		child.finish(home)
	}
	slices.Sort(e.names)
}

func checkPath(p string) error {
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p:
		return &ConfigError{p, "is not an absolute, clean path"}
	case p == "/":
		return &ConfigError{p, "the root itself cannot be granted, hidden or be the home"}
	case len(p) >= maxPath || strings.IndexByte(p, 0) >= 0:
		return &ConfigError{p, "is too long or has a NUL"}
	}
	return nil
}

// below reports whether p lies below dir.
func below(p, dir string) bool {
	return len(p) > len(dir)+1 && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// relative returns p without the home in front: "" for the home itself.
func (t *Tree) relative(p string) (string, bool) {
	switch {
	case t.home == "":
		return "", false
	case p == t.home:
		return "", true
	case below(p, t.home):
		return p[len(t.home)+1:], true
	}
	return "", false
}

// owns reports whether a path is declared to be the private home's own.
func (t *Tree) owns(p string) bool {
	rel, ok := t.relative(p)
	if !ok || rel == "" {
		return false
	}
	for _, name := range t.own {
		if rel == name || below(rel, name) {
			return true
		}
	}
	return false
}

// Has tells whether the tree itself has a path: a place for a grant, a directory on the way to one, or a symbolic link.
func (t *Tree) Has(p string) bool {
	at := t.root
	for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
		if name == "" {
			continue
		}
		if at = at.children[name]; at == nil {
			return false
		}
	}
	return true
}
