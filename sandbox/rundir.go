// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir is a run's directory below the state directory, and the mark that says that the run is alive.
type runDir struct {
	id   string
	path string
	mark *os.File // locked for as long as the launcher lives
	live string
}

// newRunDir makes the directory of a new run: 0700, outside every grant.
func newRunDir(state, id string) (*runDir, error) {
	d := &runDir{id: id, path: filepath.Join(state, "runs", id), live: filepath.Join(state, "live", id)}
	if err := os.MkdirAll(filepath.Dir(d.live), 0o700); err != nil {
		return nil, err
	}
	// Locked before it has its name, so that no other run takes it for a dead one's; and there before the directory is, so that
	// another run cleans up what a launcher leaves that is killed here.
	mark, err := os.OpenFile(d.live+".new", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	d.mark = mark
	if err := unix.Flock(int(mark.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	if err := os.Rename(d.live+".new", d.live); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(d.path, "mnt"), 0o700); err != nil {
		return nil, errors.Join(err, os.Remove(d.live), mark.Close())
	}
	return d, nil
}

// log is the path of the run's log.
func (d *runDir) log() string { return filepath.Join(d.path, "events.jsonl") }

// home is the place of a home that is not kept.
func (d *runDir) home() string { return filepath.Join(d.path, "home") }

// close removes all but the log.
func (d *runDir) close() error {
	err := errors.Join(os.Remove(filepath.Join(d.path, "mnt")), removeTree(d.home()))
	return errors.Join(err, os.Remove(d.live), d.mark.Close())
}

// crashedRuns finds the runs that ended without saying so, cleans up after them and returns the ids of those that have a log:
// each one once.
func crashedRuns(state string) []string {
	entries, err := os.ReadDir(filepath.Join(state, "live"))
	if err != nil {
		return nil
	}
	var ids []string
	for _, e := range entries {
		path := filepath.Join(state, "live", e.Name())
		if strings.HasSuffix(e.Name(), ".new") || !claim(path) {
			continue
		}
		dir := filepath.Join(state, "runs", e.Name())
		os.Remove(filepath.Join(dir, "mnt"))
		removeTree(filepath.Join(dir, "home"))
		if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue // it had no log yet, and no process
		}
		ids = append(ids, e.Name())
	}
	return ids
}

// claim takes the mark of a dead run: nobody else holds its lock, and nobody else has removed it.
func claim(path string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	return os.Remove(path) == nil
}

// removeTree removes a directory that the command wrote, which may hold directories without write permission.
func removeTree(dir string) error {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
