// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPrune: what was not used for long goes, and nothing else, whatever lies beside it.
func TestPrune(t *testing.T) {
	state, outside := t.TempDir(), t.TempDir()
	os.Chmod(state, 0o700)
	now := time.Now()
	make := func(path string, age time.Duration) {
		t.Helper()
		path = filepath.Join(state, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, filepath.Dir(path)} {
			if err := os.Chtimes(p, now.Add(-age), now.Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const old, young, live, crashed, planted = "01ARZ3NDEKTSV4RRFFQ69G5FA0", "01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2", "01ARZ3NDEKTSV4RRFFQ69G5FA3", "01ARZ3NDEKTSV4RRFFQ69G5FA4"
	const day = 24 * time.Hour
	for id, age := range map[string]time.Duration{old: 3 * day, young: time.Hour, live: 3 * day, crashed: 3 * day, "notes": 3 * day} {
		make("runs/"+id+"/events.jsonl", age)
	}
	make("live/"+live, 3*day)
	make("live/"+crashed, 3*day)
	for key, age := range map[string]time.Duration{
		"old-0123456789abcdef": 3 * day, "young-0123456789abcdef": time.Hour, "used-0123456789abcdef": 3 * day, "mine": 3 * day,
		removing + "dead-0123456789abcdef": time.Hour,
	} {
		make("caches/base/"+key+"/f", age)
	}
	make("homes/base/f", 3*day)
	make("log.key", 3*day)
	make(".log.key-1", time.Minute) // may be a run's that starts now
	make(".log.key-2", 3*time.Hour)
	make("log.key-2", 3*day)
	os.Chmod(state, 0o700)
	os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600)
	for _, link := range []string{"runs/" + planted, "caches/base/link-0123456789abcdef", "caches/link", "runs/" + old + "/link"} {
		if err := os.Symlink(outside, filepath.Join(state, link)); err != nil {
			t.Fatal(err)
		}
	}
	os.Chtimes(filepath.Join(state, "runs", old), now.Add(-3*day), now.Add(-3*day))
	var holder runDir
	if err := holder.hold(filepath.Join(state, "caches/base/used-0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	defer holder.caches.Close()
	os.Chtimes(holder.caches.Name(), now.Add(-3*day), now.Add(-3*day))

	before := listed(t, state)
	var found []string
	o := PruneOptions{Before: now.Add(-2 * day), Keep: true, Found: func(p Pruned) { found = append(found, p.Kind+" "+p.Name) }}
	if err := Prune(state, o); err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	// The link in the old run's directory is younger than its log.
	want := []string{"caches base/dead-0123456789abcdef", "caches base/old-0123456789abcdef", "unfinished key .log.key-2"}
	if after := listed(t, state); !slices.Equal(found, want) || !slices.Equal(after, before) {
		t.Errorf("of a dry run: %q; %q", found, after)
	}
	os.Remove(filepath.Join(state, "runs", old, "link"))
	os.Chtimes(filepath.Join(state, "runs", old), now.Add(-3*day), now.Add(-3*day))
	before, found, o.Keep = listed(t, state), nil, false
	if err := Prune(state, o); err != nil {
		t.Fatal(err)
	}
	gone := slices.DeleteFunc(before, func(path string) bool { return slices.Contains(listed(t, state), path) })
	wantGone := []string{
		".log.key-2", "caches/base/" + removing + "dead-0123456789abcdef", "caches/base/" + removing + "dead-0123456789abcdef/f",
		"caches/base/old-0123456789abcdef", "caches/base/old-0123456789abcdef/f", "runs/" + old, "runs/" + old + "/events.jsonl",
	}
	slices.Sort(found)
	if want = slices.Insert(want, 2, "run "+old); !slices.Equal(found, want) || !slices.Equal(gone, wantGone) {
		t.Errorf("found %q, gone %q", found, gone)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(state, 0o770); err == nil && Prune(state, o) == nil {
		t.Error("a state directory that others can write to is taken")
	}
	if err := Prune(filepath.Join(state, "none"), o); err != nil {
		t.Error(err)
	}
}

func listed(t *testing.T, dir string) (paths []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, path)
		paths = append(paths, rel)
		return nil
	})
	return paths
}

// TestHold: caches that are being removed are not a run's.
func TestHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	var d runDir
	if err := d.hold(path); err != nil {
		t.Fatal(err)
	}
	old, err := openDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := unix.Flock(int(old.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("caches that a run has can be locked: %v", err)
	}
	d.caches.Close()
	if err := unix.Flock(int(old.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		os.Rename(path, path+".gone")
	}()
	if err := d.hold(path); err != nil {
		t.Fatal(err)
	}
	defer d.caches.Close()
	if held, err := holds(d.caches, path); !held || err != nil {
		t.Errorf("it has other caches: %v", err)
	}
}

// TestRemoveHostileTree: a tree of a command's making goes whole: deeper than a path can be, without permissions, with names that the removal
// uses itself.
func TestRemoveHostileTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(dir, ".agentjail-1", ".agentjail-2", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	os.Symlink(outside, filepath.Join(dir, ".agentjail-1", "link"))
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 200)
	for i := range 200 { // 40,000 bytes
		if err := unix.Mkdirat(int(at.Fd()), name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := openAt(at, name)
		if err != nil {
			t.Fatal(err)
		}
		unix.Mkdirat(int(at.Fd()), fmt.Sprint("beside", i), 0)
		unix.Symlinkat(outside, int(next.Fd()), "out")
		if i%3 == 0 {
			unix.Fchmod(int(at.Fd()), 0)
		}
		at.Close()
		at = next
	}
	at.Close()
	if err := removeTree(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Error(err)
	}
	if info, err := os.Stat(outside); err != nil || !info.IsDir() {
		t.Error(err)
	}
}
