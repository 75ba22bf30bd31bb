// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds are how much of a tree is looked at.
type Bounds struct {
	Files int           // names in all
	Dir   int           // names of one directory
	Bytes int64         // of files that are read
	Depth int           // directories below each other
	Time  time.Duration // of a walk
}

// DefaultBounds are those of a run.
var DefaultBounds = Bounds{Files: 500_000, Dir: 200_000, Bytes: 64 << 20, Depth: 512, Time: 10 * time.Second}

// dir is a directory that is to be looked at.
type dir struct {
	place   *place
	path    string // below the place; "" for itself
	depth   int
	fresh   bool    // the run made it, or moved it here: all in it is new here
	renamed string  // it, or what is above it, may have got its name in this run, by which what is in it can mean something; "" if not
	after   int     // where lower goes on after that name
	lower   string  // the path in lower case, after the name of the place
	verdict verdict // of all in it
	git     int     // where lower goes on after a git directory, or has ended; 0 outside of one
	whole   bool    // that git directory is reported as a whole: the run made it, or moved it here
}

func (p *place) dir() dir { return dir{place: p}.named(strings.ToLower(filepath.Base(p.path))) }

// named is a directory with its path in lower case.
func (d dir) named(lower string) dir {
	d.lower = lower
	if d.git == 0 && filepath.Base(lower) == ".git" {
		d.git, d.whole = len(lower)+1, d.fresh
	}
	return d
}

func (d dir) full() string { return filepath.Join(d.place.path, d.path) }

// file is a name that a walk has come to.
type file struct {
	in   dir
	fd   int // of that directory
	name string
	st   unix.Statx_t
	made bool // the run changed it, or what it lies in
}

// below is its path in the place, full that on the host.
func (f file) below() string { return filepath.Join(f.in.path, f.name) }
func (f file) full() string  { return filepath.Join(f.in.place.path, f.in.path, f.name) }

// walker looks at the places once. It goes breadth first: what a tree is flooded with hides nothing above it.
type walker struct {
	*Watch
	since   time.Time
	stop    <-chan struct{} // closed to end it; nil for one that is not ended
	pause   func()          // called between names; nil for none
	visit   func(file)
	found   *findings
	queue   []dir
	buf     []byte
	seen    int
	read    int64
	end     time.Time
	links   map[inode]*linked
	stopped bool // it did not come to its end
}

// linked is a file with more than one name.
type linked struct {
	path         string // of the first name found
	names, nlink uint32
	made         bool
	place        string // of it
}

func (w *Watch) walker(since time.Time, stop <-chan struct{}) *walker {
	return &walker{
		Watch: w, since: since, stop: stop, found: &findings{}, buf: make([]byte, 64<<10), end: time.Now().Add(w.bounds.Time),
		links: map[inode]*linked{},
	}
}

// walk calls visit for every file of every place.
func (k *walker) walk() {
	for i := range k.places {
		p := &k.places[i]
		if p.only != "" {
			k.name(p.dir(), p.fd, p.only)
			continue
		}
		k.queue = append(k.queue, p.dir())
	}
	for len(k.queue) > 0 && !k.stopped {
		next := k.queue[0]
		k.queue = k.queue[1:]
		k.list(next)
	}
}

// list looks at one directory.
func (k *walker) list(d dir) {
	fd, err := openBelow(d.place.fd, d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, within)
	if err != nil {
		k.unread(d.full(), err)
		return
	}
	defer unix.Close(fd)
	count := 0
	var names []string
	err = eachName(fd, k.buf, func(name string) bool {
		if count++; count > k.bounds.Dir {
			k.report(Truncated, d.full(), "it has more names than are looked at")
			return false
		}
		names = append(names, name)
		return true
	})
	if err != nil {
		k.unread(d.full(), err)
	}
	if d.git == 0 && isBare(names) {
		d.git, d.whole, d.renamed = len(d.lower)+1, d.fresh, ""
		k.bare(d, fd)
	}
	for _, name := range names {
		if !k.goesOn(d) {
			return
		}
		k.name(d, fd, name)
	}
}

// goesOn tells whether there is time and room for one more file.
func (k *walker) goesOn(d dir) bool {
	k.seen++
	if k.pause != nil {
		k.pause()
	}
	select {
	case <-k.stop:
		k.stopped = true
		return false
	default:
	}
	why := ""
	switch {
	case k.seen > k.bounds.Files:
		why = "there are more files than are looked at"
	case k.seen%256 == 0 && time.Now().After(k.end):
		why = "it took longer than a report may"
	default:
		return true
	}
	k.stopped = true
	k.report(Truncated, d.full(), why+"; from here on nothing is known")
	return false
}

// name looks at one file.
func (k *walker) name(d dir, fd int, name string) {
	st, err := stat(fd, name)
	f := file{in: d, fd: fd, name: name, st: st}
	switch {
	case err == unix.ENOENT:
		return // it was removed meanwhile
	case err != nil:
		k.unread(f.full(), err)
		return
	case isMounted(st) && d.place.only == "":
		k.report(Unread, f.full(), "something else is mounted there; it was not looked at")
		return
	}
	f.made = d.fresh || changed(st.Ctime, k.since)
	if kindOf(st) == unix.S_IFREG && st.Nlink > 1 {
		k.link(f)
	}
	if k.visit(f); kindOf(st) == unix.S_IFDIR && d.place.only == "" {
		k.enter(f)
	}
}

// enter puts a directory into the queue.
func (k *walker) enter(f file) {
	path := f.below()
	if f.in.depth >= k.bounds.Depth || len(path) >= unix.PathMax {
		k.report(Truncated, f.full(), "it is deeper than is looked at")
		return
	}
	lower := strings.ToLower(f.name)
	d := dir{place: f.in.place, path: path, depth: f.in.depth + 1, git: f.in.git, whole: f.in.whole, verdict: f.in.verdict}
	d.fresh = f.in.fresh || k.isNew(f) || k.isMoved(f)
	switch {
	case d.git > 0 || d.verdict.kind != "" || slices.Contains(plain, lower):
	case slices.Contains(unpacked, lower):
		d.verdict = verdict{Dependencies, reasonDependencies, f.full()}
	default:
		d.verdict = k.patterns.judge(f.in.lower, lower)
	}
	if f.in.renamed != "" && (f.in.verdict.kind != "" || !k.meansTheSame(f)) {
		d.renamed, d.after = f.in.renamed, f.in.after
	} else if !d.fresh && d.git == 0 && k.isRenamed(f) && k.patterns.leads(d.verdict, lower) {
		d.renamed, d.after = f.full(), len(f.in.lower)+len("/")+len(lower)
	}
	k.queue = append(k.queue, d.named(f.in.lower+"/"+lower))
}

// isRenamed tells whether a directory can have got its name in this run: its time of change is that of a rename too, and the walk beside
// the command did not see it there unchanged.
func (k *walker) isRenamed(f file) bool {
	return changed(f.st.Ctime, k.since) && k.base.dirs[inodeOf(f.st)] != f.full()
}

// meansTheSame tells whether a name means something whatever the directory above it, that may have got its name in this run, is called.
func (k *walker) meansTheSame(f file) bool {
	below := strings.TrimPrefix(f.in.lower[f.in.after:], "/")
	return k.patterns.judge(below, strings.ToLower(f.name)).kind != ""
}

// isNew tells whether the run made a file. No system call sets the time.
func (k *walker) isNew(f file) bool {
	return f.st.Mask&unix.STATX_BTIME != 0 && changed(f.st.Btime, k.since)
}

// isMoved tells whether a directory was another one's name at the start.
func (k *walker) isMoved(f file) bool {
	was, ok := k.base.dirs[inodeOf(f.st)]
	return ok && was != f.full()
}

// link counts a name of a file that has several.
func (k *walker) link(f file) {
	l := k.links[inodeOf(f.st)]
	if l == nil {
		l = &linked{path: f.full(), nlink: f.st.Nlink, place: f.in.place.path}
		k.links[inodeOf(f.st)] = l
	}
	l.names++
	l.made = l.made || f.made
}

// outside are the files that have names which the walk did not find.
func (k *walker) outside() (made, old []*linked) {
	for _, l := range k.links {
		switch {
		case l.names >= l.nlink:
		case l.made:
			made = append(made, l)
		default:
			old = append(old, l)
		}
	}
	byPath := func(a, b *linked) int { return strings.Compare(a.path, b.path) }
	slices.SortFunc(made, byPath)
	slices.SortFunc(old, byPath)
	return made, old
}

func (k *walker) report(kind Kind, path, reason string) {
	k.found.add(Finding{Kind: kind, Path: path, Reason: reason})
}

func (k *walker) unread(path string, err error) {
	if err != unix.ENOENT {
		k.report(Unread, path, "it could not be looked at: "+err.Error())
	}
}
