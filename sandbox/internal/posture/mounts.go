// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"strconv"
	"strings"
)

// Mount is a line of mountinfo.
type Mount struct {
	ID, Parent  int `json:"-"` // the kernel's numbers of it, and of the mount that it is on
	Point, Type string
	Flags       MountFlags
	Propagation string // what it shares with other namespaces: empty for a private mount
}

// MountFlags restrict what a mount can be used for.
type MountFlags uint8

// The restrictions.
const (
	ReadOnly MountFlags = 1 << iota // of the mount, or of its whole file system
	NoSuid
	NoDev
	NoExec
	frozen // ReadOnly is the file system's alone, which the host may change
)

func (f MountFlags) String() string {
	var names []string
	for i, name := range []string{"ro", "nosuid", "nodev", "noexec"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func (m Mount) String() string {
	return strings.Join(strings.Fields(m.Type+" "+m.Flags.String()+" "+m.Propagation), " ")
}

// WantMount is a mount that was meant.
type WantMount struct {
	Point string
	Type  string     // of the file system; empty for any
	Flags MountFlags // may be more: a bind keeps what its source is held to
	Tree  bool       // what is mounted below its source came along, and is held to Flags too
	On    int        // which of Want.Mounts it is mounted on; the first one is the root
}

func (w WantMount) String() string {
	return strings.TrimSpace(w.Type + " " + w.Flags.String())
}

// Stack fills in On for mounts in the order in which they are made: a path leads to the last mount that holds it.
func Stack(mounts []WantMount) []WantMount {
	for i := range mounts {
		for on := i - 1; on >= 0; on-- {
			if mounts[on].Point == mounts[i].Point || below(mounts[on].Point, mounts[i].Point) {
				mounts[i].On = on
				break
			}
		}
	}
	return mounts
}

func below(dir, path string) bool {
	return strings.HasPrefix(path, dir) && (dir == "/" && path != "/" || len(path) > len(dir) && path[len(dir)] == '/')
}

// place tells mounts apart: two may be at one point, on top of each other.
type place struct {
	point string
	on    int // index in Want.Mounts
	above int // how many are stacked over it at the same point
}

const nothing = -1

// mounts finds each mount that was wanted, and of the others those that came along below one that was.
func (c *comparison) mounts(want []WantMount, got []Mount) {
	places := wantedPlaces(want)
	t := newTable(got)
	found := make([]bool, len(want))
	t.identify(func(i, on int) int {
		m := got[i]
		p := place{m.Point, on, t.above[i]}
		if w, ok := places[p]; ok {
			delete(places, p)
			found[w] = true
			c.mount(want[w], m)
			return w
		}
		if on == nothing || !want[on].Tree || !below(want[on].Point, m.Point) {
			c.check(mountField(m.Point), "none", m, false)
		} else {
			c.mount(WantMount{Point: m.Point, Flags: want[on].Flags}, m)
		}
		return on
	})
	for w, there := range found {
		if !there {
			c.check(mountField(want[w].Point), want[w], "none", false)
		}
	}
}

func (c *comparison) mount(want WantMount, got Mount) {
	if want.Flags&^got.Flags != 0 || want.Type != "" && want.Type != got.Type || got.Propagation != "" {
		c.check(mountField(want.Point), want, got, false)
	}
}

// mountsStay: a mount can go while the command runs, and its point change, when the host removes or moves what it is on. None is restricted
// less than before, and none comes but what the kernel itself mounts where a walk crosses into another file system of a server, as NFS
// does (fs/nfs/namespace.c): such a one is restricted as the mount that it is on.
func (c *comparison) mountsStay(before, got []Mount) {
	known := make(map[int]Mount, len(before))
	for _, m := range before {
		known[m.ID] = m
	}
	for _, m := range got { // each after what it is on (proc_pid_mountinfo(5) goes through a tree)
		was, ok := known[m.ID]
		if !ok {
			was, ok = known[m.Parent]
			was.Type = m.Type
			known[m.ID] = was
		}
		due := was.Flags
		if due&frozen != 0 {
			due &^= frozen | ReadOnly
		}
		c.check(mountField(m.Point), was, m, ok && was.Type == m.Type && due&^m.Flags == 0 && was.Propagation == m.Propagation)
	}
}

func mountField(point string) string { return "mount " + strconv.Quote(point) }

func wantedPlaces(want []WantMount) map[place]int {
	above := make([]int, len(want))
	places := make(map[place]int, len(want))
	for i := len(want) - 1; i >= 0; i-- {
		on := want[i].On
		if i == 0 || on < 0 || on >= i {
			on = nothing
		}
		places[place{want[i].Point, on, above[i]}] = i
		if on != nothing && want[on].Point == want[i].Point {
			above[on] = above[i] + 1
		}
	}
	return places
}

// table is what mountinfo shows, as a tree.
type table struct {
	parent []int // index of the mount that each is on; nothing for the root
	above  []int
}

func newTable(mounts []Mount) *table {
	t := &table{parent: make([]int, len(mounts)), above: make([]int, len(mounts))}
	index := make(map[int]int, len(mounts))
	for i, m := range mounts {
		index[m.ID] = i
	}
	for i, m := range mounts {
		t.parent[i] = nothing
		if p, ok := index[m.Parent]; ok && p != i {
			t.parent[i] = p
		}
	}
	for i, m := range mounts {
		p := t.parent[i]
		for n := 1; n <= len(mounts) && p != nothing && mounts[p].Point == m.Point; n++ {
			t.above[p] = max(t.above[p], n)
			p = t.parent[p]
		}
	}
	return t
}

// identify asks, for each mount after the one that it is on, which of the wanted ones it is or belongs to. The kernel does
// not say in which order it lists them.
func (t *table) identify(which func(i, on int) int) {
	const unknown = -2
	is := make([]int, len(t.parent))
	for i := range is {
		is[i] = unknown
	}
	var visit func(int) int
	visit = func(i int) int {
		if is[i] != unknown {
			return is[i]
		}
		on := nothing
		is[i] = nothing // mounts that are on each other, which no kernel shows, are on nothing
		if p := t.parent[i]; p != nothing {
			on = visit(p)
		}
		is[i] = which(i, on)
		return is[i]
	}
	for i := range is {
		visit(i)
	}
}

// parseMounts reads mountinfo, proc_pid_mountinfo(5): 36 35 98:0 /root /point rw,nosuid shared:1 - ext4 /dev/x rw.
// The kernel separates by one space, and a field may be empty.
func parseMounts(text string) ([]Mount, error) {
	list := make([]Mount, 0, strings.Count(text, "\n")+1)
	for text = strings.TrimRight(text, "\n"); text != ""; {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		m, ok := parseMount(line)
		if !ok {
			return nil, fmt.Errorf("line %q", line)
		}
		list = append(list, m)
	}
	return list, nil
}

func parseMount(line string) (m Mount, ok bool) {
	var err1, err2 error
	f := cutter{rest: line}
	m.ID, err1 = strconv.Atoi(f.next())
	m.Parent, err2 = strconv.Atoi(f.next())
	f.next() // the device
	f.next() // what of the file system is mounted
	m.Point = unescape(f.next())
	m.Flags = parseFlags(f.next())
	optional := f.rest
	for f.next() != "-" {
		if f.missing {
			return m, false
		}
	}
	m.Propagation = strings.TrimRight(optional[:len(optional)-len(f.rest)], "- ")
	m.Type = f.next()
	f.next() // the source
	if of := parseFlags(f.next()); of&^m.Flags&ReadOnly != 0 {
		m.Flags |= ReadOnly | frozen
	}
	return m, err1 == nil && err2 == nil && !f.missing && m.Point != "" && m.Type != ""
}

// cutter takes a line apart at single spaces.
type cutter struct {
	rest    string
	ended   bool
	missing bool // a field was asked for that is not there
}

func (f *cutter) next() string {
	var field string
	var more bool
	f.missing = f.missing || f.ended
	field, f.rest, more = strings.Cut(f.rest, " ")
	f.ended = !more
	return field
}

func parseFlags(options string) (flags MountFlags) {
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "ro":
			flags |= ReadOnly
		case "nosuid":
			flags |= NoSuid
		case "nodev":
			flags |= NoDev
		case "noexec":
			flags |= NoExec
		}
	}
	return flags
}

// unescape undoes mangle_path of the kernel: space, tab, newline and backslash are \ and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
