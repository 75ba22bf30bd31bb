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
	plan := Plan{Identity: Identity{Home: "/home/ann"}, Symlinks: map[string]string{"/home/ann/.ssh/link": "nothing"}}
	got, err := plan.guarded(root)
	slices.Sort(got)
	if want := []string{".bashrc", ".config/fish/a/b", ".ssh/config", ".ssh/other"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestSweep: of more files than are listed at once all that the run made go, and none that was there. Where there were too many before,
// none goes, and the log says so.
func TestSweep(t *testing.T) {
	for _, before := range []int{1, maxGuarded + 1} {
		home, path := t.TempDir(), filepath.Join(t.TempDir(), "events.jsonl")
		plan := Plan{Identity: Identity{Home: "/home/ann"}, Home: Home{Private: home}}
		log, err := audit.Open(audit.Options{Path: path, Run: "r", Key: filepath.Join(t.TempDir(), "key"), Owner: os.Getuid()})
		if err != nil {
			t.Fatal(err)
		}
		r := &Run{plan: plan, log: log}
		write := func(name string, number int) {
			t.Helper()
			for i := range number {
				path := filepath.Join(home, ".ssh", fmt.Sprint(name, i))
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		write("old", before)
		if err := errors.Join(log.Start(nil), r.before()); err != nil {
			t.Fatal(err)
		}
		write("new", maxGuarded+10)
		r.sweep()
		if _, err := log.Close(audit.End{}); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(filepath.Join(home, ".ssh"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		unread := strings.Contains(string(text), `"action":"unread"`) && strings.Contains(string(text), errTooMany.Error())
		want, all := before, before <= maxGuarded
		if !all {
			want += maxGuarded + 10
		}
		if len(left) != want || unread == all {
			t.Errorf("%d were there before: %d are left, not %d; said that some may be: %v", before, len(left), want, unread)
		}
	}
}
