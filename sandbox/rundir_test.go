// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCrashedRuns(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	alive, err := newRunDir(state, "ALIVE")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := newRunDir(state, "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead.log(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	early, err := newRunDir(state, "EARLY")
	if err != nil {
		t.Fatal(err)
	}
	early.mark.Close()
	if err := os.MkdirAll(filepath.Join(dead.home(), "locked"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dead.home(), "locked"), 0o500); err != nil {
		t.Fatal(err)
	}
	dead.mark.Close() // what the kernel does when the launcher dies
	found := crashedRuns(state)
	if got := ids(found); !slices.Equal(got, []string{"DEAD"}) {
		t.Fatalf("crashed: %v, want DEAD alone", got)
	}
	if got := ids(crashedRuns(state)); len(got) != 0 {
		t.Errorf("found by a second launcher while the first reports it: %v", got)
	}
	found[0].mark.Close() // the first launcher dies as well
	found = crashedRuns(state)
	if got := ids(found); !slices.Equal(got, []string{"DEAD"}) {
		t.Fatalf("after a launcher that reported nothing: %v, want DEAD again", got)
	}
	found[0].settle()
	if got := ids(crashedRuns(state)); len(got) != 0 {
		t.Errorf("found again after it was settled: %v", got)
	}
	for _, path := range []string{dead.home(), filepath.Join(dead.path, "mnt"), early.path} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was left behind", path)
		}
	}
	if err := os.WriteFile(alive.log(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := alive.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(alive.path); err != nil {
		t.Errorf("the run's directory, which holds its log, is gone: %v", err)
	}
	refused, err := newRunDir(state, "REFUSED")
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(refused.path); err == nil {
		t.Error("the directory of a run that has no log was left behind")
	}
}

func ids(runs []crashedRun) (ids []string) {
	for _, r := range runs {
		ids = append(ids, r.id)
	}
	return ids
}

// TestClaimSettled: a launcher that opened a mark before another one settled the run, and locks it after, has no claim.
// TestManyCrashedRuns: more dead runs than a process has descriptors keep no run from starting, and each is found once.
func TestManyCrashedRuns(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	const dead = maxCrashed + 10
	for i := range dead {
		d, err := newRunDir(state, fmt.Sprint("DEAD", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.log(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.mark.Close()
	}
	first := crashedRuns(state)
	second := crashedRuns(state)
	if len(first) != maxCrashed || len(first)+len(second) != dead {
		t.Errorf("found %d and %d of %d", len(first), len(second), dead)
	}
	for _, c := range append(first, second...) {
		c.settle()
	}
	if got := ids(crashedRuns(state)); len(got) != 0 {
		t.Errorf("found again: %v", got)
	}
}

func TestClaimSettled(t *testing.T) {
	state := t.TempDir()
	path := filepath.Join(state, "mark")
	for _, settled := range []bool{false, true} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		late, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if settled {
			crashedRun{"DEAD", claim(path)}.settle()
		}
		if got := lockDead(late); got == settled {
			t.Errorf("a mark that was settled before it was locked (%v): claimed %v", settled, got)
		}
		late.Close()
	}
}

// TestUnnamedMark (O06): a mark that a launcher left which was killed before it gave it its name is removed, and one that is being made stays.
// What is taken for the one and is the other is made again.
func TestUnnamedMark(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	alive, err := newRunDir(state, "ALIVE")
	if err != nil {
		t.Fatal(err)
	}
	defer alive.close()
	left, making := filepath.Join(state, "live", "LEFT"+unnamed), filepath.Join(state, "live", "MAKING"+unnamed)
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mark, err := newMark(making)
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(crashedRuns(state)); len(got) != 0 {
		t.Errorf("crashed: %v", got)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
	if _, err := os.Lstat(making); err != nil {
		t.Errorf("what is being made is gone: %v", err)
	}
	mark.Close()
	early := claim(making)
	time.AfterFunc(10*time.Millisecond, crashedRun{"MAKING", early}.settle)
	again, err := newMark(making)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := os.Rename(making, strings.TrimSuffix(making, unnamed)); err != nil {
		t.Errorf("the mark is not the one that was made: %v", err)
	}
}

func TestRemoveTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	deep := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "f"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{deep, filepath.Join(dir, "a")} {
		if err := os.Chmod(d, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTree(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the tree is still there")
	}
	if info, err := os.Stat(outside); err != nil || !info.IsDir() {
		t.Errorf("the target of a link was touched: %v", err)
	}
}

// The state directory may lie behind links, before and after it is made.
func TestStateDirLinked(t *testing.T) {
	real, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	for _, made := range []bool{false, true} {
		if made {
			if err := os.MkdirAll(filepath.Join(real, "state/agentjail"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("XDG_STATE_HOME", filepath.Join(link, "state"))
		if got, want := StateDir("/home/ann"), filepath.Join(real, "state/agentjail"); got != want {
			t.Errorf("made %v: %q, want %q", made, got, want)
		}
		t.Setenv("XDG_STATE_HOME", "")
		if got, want := StateDir(link), filepath.Join(real, ".local/state/agentjail"); got != want {
			t.Errorf("made %v: %q, want %q", made, got, want)
		}
	}
}

// TestCheckOwner: what somebody else made, or can make things in, is nobody's to keep logs and homes in.
func TestCheckOwner(t *testing.T) {
	dir := t.TempDir()
	for mode, mine := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o775: false, 0o757: false, 0o777: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkOwner(dir, info, os.Getuid()); (err == nil) != mine {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if err := checkOwner(dir, info, os.Getuid()+1); err == nil {
			t.Errorf("mode %#o: another's is accepted", mode)
		}
		_, err = newRunDir(dir, fmt.Sprintf("RUN%o", mode))
		var refused *stateError
		if mine == errors.As(err, &refused) {
			t.Errorf("mode %#o: a run gets %v", mode, err)
		}
	}
}
