// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
)

// What has an effect and was made against the rules is found; mount points, links of the run, and what was there are not.
func TestGuarded(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{".bashrc": "x", ".profile": "", ".ssh/known_hosts": "", ".ssh/config": "x", ".config/fish/a/b": "x", "own": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".ssh/link", ".ssh/other"} {
		if err := os.Symlink("nothing", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := &Run{plan: Plan{Identity: Identity{Home: "/home/ann"}, Symlinks: map[string]string{"/home/ann/.ssh/link": "nothing"}}}
	var got []string
	failed := r.guarded(root, func(path string) error { got = append(got, path); return nil })
	slices.Sort(got)
	if want := []string{".bashrc", ".config/fish/a/b", ".ssh/config", ".ssh/other"}; !slices.Equal(got, want) || len(failed) != 0 {
		t.Errorf("%q, %v, want %q", got, failed, want)
	}
}

// TestSweepPast: what a run made of a directory keeps no other name from being swept, and is no error: nothing of the home is behind it.
func TestSweepPast(t *testing.T) {
	for _, made := range []func(path string) error{
		func(path string) error { return os.WriteFile(path, nil, 0o600) },
		func(path string) error { return os.Symlink("/etc", path) },
		func(path string) error { return os.Symlink(".config", path) },
		func(path string) error { return os.Mkdir(path, 0) },
	} {
		s := newSwept(t)
		if err := made(filepath.Join(s.plan.Home.Private, ".config")); err != nil {
			t.Fatal(err)
		}
		if err := s.before(); err != nil {
			t.Fatal(err)
		}
		s.write("new", 1)
		if text := s.end(); strings.Contains(text, `"action":"unread"`) || strings.Count(text, `"action":"settings"`) != 1 {
			t.Errorf("the log has %s", text)
		}
		if left := s.files(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestSweep: of more files than may have been there before all that the run made go, and none that was there. Where there were too many
// before, none goes, and the log says so.
func TestSweep(t *testing.T) {
	for _, before := range []int{1, maxGuarded + 1} {
		s := newSwept(t)
		s.write("old", before)
		if err := s.before(); err != nil {
			t.Fatal(err)
		}
		s.write("new", maxGuarded+10)
		text := s.end()
		unread := strings.Contains(text, `"action":"unread"`) && strings.Contains(text, errTooMany.Error())
		want, all := before, before <= maxGuarded
		if !all {
			want += maxGuarded + 10
		}
		if left := len(s.files()); left != want || unread == all {
			t.Errorf("%d were there before: %d are left, not %d; said that some may be: %v", before, left, want, unread)
		}
		if n := strings.Count(text, `"action":"settings"`); all && n != maxTold+1 {
			t.Errorf("%d events of %d removals", n, maxGuarded+10)
		}
	}
}

// swept is a run with a private home and a log.
type swept struct {
	*Run
	t   *testing.T
	log string
}

func newSwept(t *testing.T) swept {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	log, err := audit.Open(audit.Options{Path: path, Run: "r", Key: filepath.Join(t.TempDir(), "key"), Owner: os.Getuid()})
	if err == nil {
		err = log.Start(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan{Identity: Identity{Home: "/home/ann"}, Home: Home{Private: t.TempDir()}}
	return swept{Run: &Run{plan: plan, log: log}, t: t, log: path}
}

// write makes files at a name that is not to be made.
func (s swept) write(name string, number int) {
	s.t.Helper()
	for i := range number {
		path := filepath.Join(s.plan.Home.Private, ".ssh", fmt.Sprint(name, i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// end sweeps, and returns the log.
func (s swept) end() string {
	s.t.Helper()
	s.sweep()
	if _, err := s.Run.log.Close(audit.End{}); err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s swept) files() []os.DirEntry {
	s.t.Helper()
	left, err := os.ReadDir(filepath.Join(s.plan.Home.Private, ".ssh"))
	if err != nil {
		s.t.Fatal(err)
	}
	return left
}
