// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/limits"
)

// Pruned is something that nobody needs any more, as its age says, or because processes that were killed have left it.
type Pruned struct {
	Kind string    // "run", "caches", "unfinished key", "cgroup"
	Name string    // id of the run, profile and project, name in the state directory, path
	Last time.Time // it was written, or used by a run; zero of a cgroup
}

// PruneOptions say what Prune removes.
type PruneOptions struct {
	Before time.Time // what was last used before
	Keep   bool      // find it, and remove nothing
	// Found is called for each: when it is removed, or with Keep, when it is found.
	Found func(Pruned)
}

// Prune removes logs of runs that have ended, and caches of projects, which have not been used for long. It leaves alone what a run has,
// also one that was killed and is not on record yet, the private homes and the key. Keys that were not finished, and caches whose removal
// was not, go soon. In caches a command can have made whatever it likes: see removeTree. What cannot be removed is in the error, and the
// rest is removed all the same. What lies outside of the state directory is for PruneGroups.
func Prune(state string, o PruneOptions) error {
	if info, err := os.Lstat(state); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	} else if err := checkOwner(state, info, os.Getuid()); err != nil {
		return err
	}
	return errors.Join(pruneKeys(state, o), pruneRuns(state, o), pruneCaches(state, o))
}

// PruneGroups removes the cgroups that launchers which were killed have left, whatever their age. It is to be called before
// BecomeSudoUser: those of root's are root's to remove.
func PruneGroups(o PruneOptions) {
	for _, dir := range limits.RemoveStale(o.Keep) {
		o.Found(Pruned{Kind: "cgroup", Name: dir})
	}
}

func pruneKeys(state string, o PruneOptions) error {
	files, err := audit.Unfinished(state)
	errs := []error{err}
	for _, f := range files {
		p := Pruned{"unfinished key", f.Name(), f.ModTime()}
		errs = append(errs, o.remove(p, func() error { return os.Remove(filepath.Join(state, p.Name)) }))
	}
	return errors.Join(errs...)
}

func pruneRuns(state string, o PruneOptions) error {
	runs := filepath.Join(state, "runs")
	ids, err := directories(runs)
	errs := []error{err}
	for _, id := range ids {
		if _, err := ulid.ParseStrict(id); err != nil {
			continue
		}
		// The mark is there before the directory is, and goes when the run is on record.
		if _, err := os.Lstat(filepath.Join(state, "live", id)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		dir := filepath.Join(runs, id)
		last, err := lastWritten(dir)
		if err != nil || !last.Before(o.Before) || beingWritten(filepath.Join(dir, "events.jsonl")) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, o.remove(Pruned{"run", id, last}, func() error { return removeTree(dir) }))
	}
	return errors.Join(errs...)
}

// lastWritten is when a directory or a file in it was last changed.
func lastWritten(dir string) (last time.Time, err error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return last, err
	}
	last = info.ModTime()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last, err
}

// cacheKey is the form of names that projectKey makes.
var cacheKey = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Za-z_-]{1,32}-[0-9a-f]{16}$`) })

// removing begins the name of caches that are being removed, by this process or by one that was killed.
const removing = ".removing-"

func pruneCaches(state string, o PruneOptions) error {
	profiles, err := directories(filepath.Join(state, "caches"))
	errs := []error{err}
	for _, profile := range profiles {
		dir := filepath.Join(state, "caches", profile)
		keys, err := directories(dir)
		errs = append(errs, err)
		for _, name := range keys {
			key, dead := strings.CutPrefix(name, removing)
			if !cacheKey().MatchString(key) {
				continue
			}
			p := Pruned{Kind: "caches", Name: profile + "/" + key}
			if !dead {
				errs = append(errs, pruneCache(dir, p, key, o))
				continue
			}
			if info, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				p.Last = info.ModTime()
			}
			errs = append(errs, o.remove(p, func() error { return removeTree(filepath.Join(dir, name)) }))
		}
	}
	return errors.Join(errs...)
}

// pruneCache removes caches that no run has. They lose their name first, so that a run which starts meanwhile makes new ones.
func pruneCache(dir string, p Pruned, key string, o PruneOptions) error {
	path := filepath.Join(dir, key)
	f, err := openDir(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // a run has them
	}
	info, serr := f.Stat()
	if err := cmp.Or(err, serr); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if p.Last = info.ModTime(); !p.Last.Before(o.Before) {
		return nil
	}
	return o.remove(p, func() error {
		gone := filepath.Join(dir, removing+key)
		if err := errors.Join(removeTree(gone), os.Rename(path, gone)); err != nil {
			return err
		}
		return removeTree(gone)
	})
}

// remove removes what was found, unless it is to be kept, and tells of it.
func (o PruneOptions) remove(p Pruned, do func() error) error {
	if !o.Keep {
		if err := do(); err != nil {
			return err
		}
	}
	o.Found(p)
	return nil
}

// directories are the names of the directories in one. A link is none.
func directories(dir string) (names []string, err error) {
	f, err := openDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// hold keeps caches from being removed, and notes that they are used now.
func (d *runDir) hold(caches string) error {
	for end := time.Now().Add(teardownTime); ; time.Sleep(time.Millisecond) {
		if err := os.MkdirAll(caches, 0o700); err != nil {
			return err
		}
		f, err := openDir(caches)
		if err != nil {
			return err
		}
		held, err := holds(f, caches)
		if held {
			d.caches = f
			now := time.Now()
			return os.Chtimes(caches, now, now)
		}
		f.Close()
		if err != nil || time.Now().After(end) {
			return fmt.Errorf("%s is being removed: %w", caches, cmp.Or(err, error(unix.EBUSY)))
		}
	}
}

// holds tells whether an open directory still has its name, now that it is locked.
func holds(f *os.File, path string) (bool, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	} // a file system without locks has none for who removes either
	own, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(own, named), nil
}

// BecomeSudoUser turns a process that sudo(8) started into one of the user who called it, for good: what it does in that user's state
// directory it may do no more than that user. It does nothing anywhere else.
func BecomeSudoUser() error {
	uid, gid, ok := Sudo()
	if !ok {
		return nil
	}
	return dropRoot(Identity{UID: uid, GID: gid})
}
