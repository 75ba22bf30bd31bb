// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Watch is what is kept of the places of a run until its report.
type Watch struct {
	places   []place
	bounds   Bounds
	patterns patterns
	began    mark
	base     base          // of Learn; nobody reads it before that has ended
	learning chan struct{} // closed when Learn has ended; nil if it never began
	stop     chan struct{} // closed to end Learn
	once     sync.Once     // for stop
	warned   bool          // Learn came to its end
}

// place is one that the run may write.
type place struct {
	path string
	fd   int    // of the directory, O_PATH; of the parent for a file
	only string // the name of a file
	kept bool   // its file system keeps change times as the package needs them
}

// base is what is known of the start.
type base struct {
	files map[string]known // by their paths on the host
	dirs  map[inode]string
}

// Open takes the time and holds the places, which are absolute, clean and free of symbolic links. No change that is made after it
// returns is missed. protected are the names that the policy protects. A place that is not there is left out.
func Open(places, protected []string, bounds Bounds) (*Watch, error) {
	began, err := now()
	if err != nil {
		return nil, fmt.Errorf("the clock: %w", err)
	}
	w := &Watch{bounds: bounds, patterns: newPatterns(protected), began: began, base: base{map[string]known{}, map[inode]string{}}, stop: make(chan struct{})}
	for _, path := range outermost(places) {
		if err := w.add(path); err != nil && err != unix.ENOENT {
			w.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return w, nil
}

// outermost leaves out the places that lie in others.
func outermost(places []string) []string {
	var outer []string
	for _, path := range slices.Sorted(slices.Values(places)) {
		inside := func(place string) bool { return strings.HasPrefix(path+"/", place+"/") }
		if !slices.ContainsFunc(outer, inside) {
			outer = append(outer, path)
		}
	}
	return outer
}

func (w *Watch) add(path string) error {
	fd, err := openBelow(unix.AT_FDCWD, path, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return err
	}
	p := place{path: path, fd: fd}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = unix.Fstatfs(fd, &fs)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	p.kept = reliable[int64(fs.Type)]
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Close(fd)
		p.path, p.only = filepath.Dir(path), filepath.Base(path)
		if p.fd, err = openBelow(unix.AT_FDCWD, p.path, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS); err != nil {
			return err
		}
	}
	w.places = append(w.places, p)
	return nil
}

// Close lets go of the places.
func (w *Watch) Close() {
	w.endLearning()
	for _, p := range w.places {
		unix.Close(p.fd)
	}
	w.places = nil
}

// Doubts are the places of which a report may miss changes, for the coverage of a run.
func (w *Watch) Doubts() []string {
	var doubts []string
	for _, p := range w.places {
		if !p.kept {
			doubts = append(doubts, filepath.Join(p.path, p.only)+": its file system does not promise to tell every change by a time of this clock")
		}
	}
	return doubts
}

// LearnAfter is when a run begins to learn: work that takes less is not slowed down by it.
const LearnAfter = 2 * time.Second

// Learn looks at the places beside the command, after a while and with a tenth of a processor, and warns of what led out of them
// before: it calls warn once it has seen all. It is called once at most, and returns at once.
func (w *Watch) Learn(after time.Duration, warn func([]Finding)) {
	w.learning = make(chan struct{})
	go func() {
		defer close(w.learning)
		select {
		case <-w.stop:
			return
		case <-time.After(after):
		}
		k := w.walker(w.began.real.Truncate(time.Microsecond), w.stop)
		k.visit, k.pause = k.learn, newPacer(w.stop).pause
		k.end = time.Now().Add(restShare * w.bounds.Time)
		k.walk()
		k.oldLinks()
		if w.warned = !k.stopped; w.warned {
			warn(k.found.only(Symlink, Hardlink))
		}
	}()
}

// endLearning ends Learn, and waits for its end.
func (w *Watch) endLearning() {
	w.once.Do(func() { close(w.stop) })
	if w.learning != nil {
		<-w.learning
	}
}

// Report ends Learn and tells what the run left. Nothing of the run goes on any more.
func (w *Watch) Report() []Finding {
	w.endLearning()
	end, err := now()
	if err != nil {
		return []Finding{{Kind: Unread, Path: "/", Reason: "nothing was looked at: the clock: " + err.Error()}}
	}
	k := w.walker(w.began.since(end), nil)
	k.visit = k.judge
	k.walk()
	k.newLinks()
	if !w.warned {
		k.oldLinks()
	}
	return k.found.sorted()
}
