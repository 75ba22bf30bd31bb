// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// runDir is a run's directory below the state directory, and the mark that says that the run is alive.
type runDir struct {
	id   string
	path string
	mark *os.File // locked for as long as the launcher lives; says which process that is: see FindLauncher
	live string
	// caches are those of the private home that the run has, locked (shared) as long as it has them: see Prune.
	caches *os.File
}

// stateError says why a directory is not taken for agentjail's own. Logs, the key that signs them and the private homes lie there.
type stateError struct{ path, problem, fix string }

func (e *stateError) Error() string {
	return fmt.Sprintf("state directory %s: %s; somebody else could read or change the logs and the private homes", audit.Printable(e.path), e.problem)
}

// Fix says what the user can do.
func (e *stateError) Fix() string { return e.fix }

// checkOwner refuses a state directory that another user made, or can make things in, as where XDG_STATE_HOME names a place that all can
// write to.
func checkOwner(path string, info fs.FileInfo, uid int) error {
	const elsewhere = "choose another place with XDG_STATE_HOME"
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.IsDir():
		return nil // which other steps say
	case int(st.Uid) != uid:
		return &stateError{path, fmt.Sprintf("it belongs to uid %d, not to %d", st.Uid, uid), elsewhere}
	case info.Mode().Perm()&0o022 != 0:
		return &stateError{path, fmt.Sprintf("its mode is %#o", info.Mode().Perm()),
			"if nobody has used that, chmod go-w " + audit.Printable(path) + "; or " + elsewhere}
	}
	return nil
}

// ownState makes the state directory, 0700, or takes one that is the caller's alone.
func ownState(state string) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(state)
	if err != nil {
		return err
	}
	return checkOwner(state, info, os.Getuid())
}

// newRunDir makes the directory of a new run: 0700, outside every grant.
func newRunDir(state, id string) (*runDir, error) {
	if err := ownState(state); err != nil {
		return nil, err
	}
	d := &runDir{id: id, path: filepath.Join(state, "runs", id), live: filepath.Join(state, "live", id)}
	if err := os.MkdirAll(filepath.Dir(d.live), 0o700); err != nil {
		return nil, err
	}
	mark, err := newMark(d.live + unnamed)
	if err != nil {
		return nil, err
	}
	d.mark = mark
	launcher, err := self()
	if err != nil {
		return nil, err
	}
	if _, err := mark.WriteString(launcher.String()); err != nil {
		return nil, err
	}
	// There before the directory is, so that another run cleans up what a launcher leaves that is killed here.
	if err := os.Rename(d.live+unnamed, d.live); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(d.path, "mnt"), 0o700); err != nil {
		os.Remove(d.path)
		return nil, errors.Join(err, os.Remove(d.live), mark.Close())
	}
	return d, nil
}

// unnamed ends the name of a mark that is being made.
const unnamed = ".new"

// newMark makes a mark that is locked before it has its name, so that no other run takes it for a dead one's. One that takes it before it is
// locked removes it, and it is made again.
func newMark(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX), unix.Fstat(int(f.Fd()), &st)); err != nil {
			f.Close()
			return nil, err
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close()
	}
}

// log is the path of the run's log.
func (d *runDir) log() string { return filepath.Join(d.path, "events.jsonl") }

// home is the place of a home that is not kept.
func (d *runDir) home() string { return filepath.Join(d.path, "home") }

// close removes all but the log.
func (d *runDir) close() error {
	err := errors.Join(os.Remove(filepath.Join(d.path, "mnt")), removeTree(d.home()))
	os.Remove(d.path) // where there is no log, since a copy of it was refused
	if d.caches != nil {
		d.caches.Close()
	}
	return errors.Join(err, os.Remove(d.live), d.mark.Close())
}

// crashedRun is an earlier run that has a log, and whose launcher died before it had cleaned up. Its mark is held, so that no
// other launcher takes it for its own.
type crashedRun struct {
	id   string
	mark *os.File
}

// crashedRuns finds the runs that are dead, cleans up after them, and returns those that have a log. They are found again
// until they are settled: this launcher may die too, or may find that it cannot start. Each takes a descriptor; what is more
// than maxCrashed is left to the next run.
func crashedRuns(state string) []crashedRun {
	entries, err := os.ReadDir(filepath.Join(state, "live"))
	if err != nil || ownState(state) != nil {
		return nil
	}
	var runs []crashedRun
	for _, e := range entries {
		mark := claim(filepath.Join(state, "live", e.Name()))
		if mark == nil {
			continue
		}
		run := crashedRun{e.Name(), mark}
		if strings.HasSuffix(run.id, unnamed) {
			run.settle() // there is nothing of it yet
			continue
		}
		dir := filepath.Join(state, "runs", run.id)
		os.Remove(filepath.Join(dir, "mnt"))
		removeTree(filepath.Join(dir, "home"))
		if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			run.settle() // it had no log yet, and no process
			continue
		}
		if runs = append(runs, run); len(runs) == maxCrashed {
			break
		}
	}
	return runs
}

const maxCrashed = 64

// claim takes the mark of a dead run: nobody else holds its lock, and nobody who held it has settled the run.
func claim(path string) *os.File {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	if !lockDead(f) {
		f.Close()
		return nil
	}
	return f
}

func lockDead(mark *os.File) bool {
	var st unix.Stat_t
	fd := int(mark.Fd())
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil && unix.Fstat(fd, &st) == nil && st.Nlink > 0
}

// settle says that the run is on record, or has nothing to record.
func (c crashedRun) settle() {
	os.Remove(c.mark.Name())
	c.mark.Close()
}
