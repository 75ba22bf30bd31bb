// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Want is the posture that was meant. The zero value of a field wants that zero.
type Want struct {
	UID, GID int   // as the reader's user namespace shows them
	Groups   []int // supplementary groups that could not be dropped, in any order
	UIDMap   []IDRange
	GIDMap   []IDRange
	Filters  int // seccomp filters, with those that the supervisor itself is under
	Umask    int
	Limits   map[string]Limit // as /proc/PID/limits names them; core dumps are always unwanted

	Host map[string]uint64 // the namespaces that the process must not be in
	Run  map[string]uint64 // those that it has to be in

	Open []int // the open files; those above 2 have to be close-on-exec

	// Running: the command has been executed, and umask, signals, open files, limits and filters of its own are its own
	// affair. Of limits only core dumps are compared then, and there may be more filters, not fewer. Of mounts, those that
	// were there Before: see mountsStay; of cgroups, that of the run's own. Namespaces and directory, where they may be read.
	Running bool
	Before  []Mount

	Dir     string // the working directory
	Mounts  []WantMount
	Cgroups []Cgroup // those that the process was born in
	Group   Group    // the one that it was moved to
}

// Difference is one way in which a process is not as meant.
type Difference struct {
	Thread    int // 0: the whole process
	Field     string
	Want, Got string
}

func (d Difference) String() string {
	s := fmt.Sprintf("%s is %s, not %s", d.Field, d.Got, d.Want)
	if d.Thread != 0 {
		s = fmt.Sprintf("thread %d: %s", d.Thread, s)
	}
	return s
}

// Differences are printed up to a few of them.
type Differences []Difference

const shown = 4

func (d Differences) String() string {
	parts := make([]string, 0, shown+1)
	for _, one := range d[:min(len(d), shown)] {
		parts = append(parts, one.String())
	}
	if len(d) > shown {
		parts = append(parts, fmt.Sprintf("and %d more", len(d)-shown))
	}
	return strings.Join(parts, "; ")
}

// noCore is the limit at which no core is made, neither in a file nor by the host's handler (core(5)). Who was started with 0 cannot
// have it.
var noCore = Limit{1, 1}

// Separated are the kinds of namespaces that a run always has of its own.
var Separated = []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}

const (
	coreLimit         = "Max core file size"
	seccompModeFilter = 2
)

// Compare gives every difference, in a stable order. None means that got is what was wanted.
func Compare(want Want, got Posture) Differences {
	c := &comparison{}
	if len(got.Threads) == 0 {
		c.check("threads", "1 or more", 0, false)
	}
	for _, t := range got.Threads {
		c.thread = t.TID
		c.identity(want, t)
		c.confinement(want, t)
		if !want.Running || t.Namespaces != nil {
			c.namespaces(want, t)
		}
		if !want.Running {
			c.untouched(want, t)
			c.files(want.Open, t.Files)
		}
	}
	c.thread = 0
	c.check("uid_map", want.UIDMap, got.UIDMap, slices.Equal(want.UIDMap, got.UIDMap))
	c.check("gid_map", want.GIDMap, got.GIDMap, slices.Equal(want.GIDMap, got.GIDMap))
	c.check("setgroups", "deny", got.Setgroups, got.Setgroups == "deny")
	core, there := got.Limits[coreLimit]
	c.check("limit "+coreLimit, noCore, core, there && (core == noCore || core == Limit{}))
	if !want.Running {
		c.limits(want.Limits, got.Limits)
	}
	if !want.Running || got.Dir != "" {
		c.dir(want, got)
	}
	if want.Running {
		c.mountsStay(want.Before, got.Mounts)
		c.groupStays(want.Group, got.Cgroups)
		return c.found
	}
	c.mounts(want.Mounts, got.Mounts)
	c.cgroups(want, got.Cgroups)
	return c.found
}

type comparison struct {
	thread int
	found  Differences
}

func (c *comparison) check(field string, want, got any, same bool) {
	if !same {
		c.found = append(c.found, Difference{c.thread, field, fmt.Sprint(want), fmt.Sprint(got)})
	}
}

func (c *comparison) identity(want Want, t Thread) {
	all := func(id int) [4]int { return [4]int{id, id, id, id} }
	c.check("uid", all(want.UID), t.UIDs, t.UIDs == all(want.UID))
	c.check("gid", all(want.GID), t.GIDs, t.GIDs == all(want.GID))
	wanted, groups := sorted(want.Groups), sorted(t.Groups)
	c.check("groups", wanted, groups, slices.Equal(wanted, groups))
}

func (c *comparison) confinement(want Want, t Thread) {
	c.check("no_new_privs", 1, t.NoNewPrivs, t.NoNewPrivs == 1)
	c.check("seccomp", seccompModeFilter, t.Seccomp, t.Seccomp == seccompModeFilter)
	enough := t.Filters == want.Filters || want.Running && t.Filters > want.Filters
	c.check("seccomp filters", want.Filters, t.Filters, enough && want.Filters > 0)
	c.check("capabilities", "none", fmt.Sprintf("%+x", t.Caps), t.Caps == Caps{})
}

// untouched is what a process is born with and may change.
func (c *comparison) untouched(want Want, t Thread) {
	c.check("umask", octal(want.Umask), octal(t.Umask), want.Umask == t.Umask)
	c.check("blocked signals", 0, hexadecimal(t.Blocked), t.Blocked == 0)
	c.check("ignored signals", 0, hexadecimal(t.Ignored), t.Ignored == 0)
	c.check("caught signals", 0, hexadecimal(t.Caught), t.Caught == 0)
}

// namespaces: a kind that the Want knows no host namespace of cannot be told from the host's, and is a difference.
func (c *comparison) namespaces(want Want, t Thread) {
	kinds := slices.Concat(Separated, slices.Collect(maps.Keys(want.Host)))
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		host, known := want.Host[kind]
		got := t.Namespaces[kind]
		c.check(kind+" namespace", "one that is not the host's", got, known && got != 0 && got != host)
	}
	for _, kind := range slices.Sorted(maps.Keys(want.Run)) {
		c.check(kind+" namespace", want.Run[kind], t.Namespaces[kind], want.Run[kind] == t.Namespaces[kind])
	}
}

func (c *comparison) files(open []int, files []File) {
	missing := sorted(open)
	for _, f := range files {
		i, wanted := slices.BinarySearch(missing, f.FD)
		if wanted {
			missing = slices.Delete(missing, i, i+1)
		}
		name := fmt.Sprintf("file %d", f.FD)
		c.check(name, "closed", "open: "+strconv.Quote(f.Target), wanted)
		c.check(name, "close-on-exec", "inherited", !wanted || f.FD <= 2 || f.CloseOnExec)
	}
	for _, fd := range missing {
		c.check(fmt.Sprintf("file %d", fd), "open", "closed", false)
	}
}

// dir: a working directory of the host would be a way out of the tree, even by the same path (CVE-2024-21626). That of a running command may
// be on a mount that is gone.
func (c *comparison) dir(want Want, got Posture) {
	inside := slices.ContainsFunc(slices.Concat(got.Mounts, want.Before), func(m Mount) bool { return m.ID == got.DirMount })
	c.check("mount of the working directory", "one of the run's", got.DirMount, inside)
	c.check("working directory", strconv.Quote(want.Dir), strconv.Quote(got.Dir), want.Running || want.Dir == got.Dir)
}

func (c *comparison) limits(want, got map[string]Limit) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name != coreLimit {
			limit, there := got[name]
			c.check("limit "+name, want[name], limit, there && limit == want[name])
		}
	}
}

func sorted(list []int) []int {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}
