// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFurnish(t *testing.T) {
	real, private, out := t.TempDir(), filepath.Join(t.TempDir(), "homes", "base"), t.TempDir()
	home := Home{Private: private, Dirs: []string{".cache", "go/pkg"}, Names: []string{".deno", ".none", ".out", ".gone"}}
	for _, name := range []string{".deno", ".out", ".gone"} {
		if err := os.Mkdir(filepath.Join(real, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{".out": out + "/made", ".gone": "nothing"} {
		if err := os.Symlink(to, filepath.Join(private, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := home.furnish(real); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{".cache": true, "go/pkg": true, ".deno": true, ".none": false, "nothing": false} {
		info, err := os.Lstat(filepath.Join(private, name))
		if got := err == nil && info.IsDir(); got != want {
			t.Errorf("%s is a directory: %v, want %v", name, got, want)
		}
	}
	if _, err := os.Lstat(out + "/made"); err == nil {
		t.Error("a directory was made beyond a symbolic link of an earlier command")
	}
}

// TestFurnishObstacle: what earlier commands put in the place of a directory that is mounted keeps a run from starting, with the
// path to remove, and a link there leads nowhere.
func TestFurnishObstacle(t *testing.T) {
	out := t.TempDir()
	for what, put := range map[string]func(path string) error{
		"a file":                func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a link out":            func(path string) error { return os.Symlink(out, path) },
		"a link to a directory": func(path string) error { return os.Symlink(".other", path) },
		"a dangling link":       func(path string) error { return os.Symlink("nothing", path) },
	} {
		private := t.TempDir()
		if err := os.MkdirAll(filepath.Join(private, ".other"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(private, "go")); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"go", "go/pkg"} {
			home := Home{Private: private, Dirs: []string{dir}}
			if err := home.furnish("/"); err == nil || !strings.Contains(err.Error(), filepath.Join(private, dir)) {
				t.Errorf("%s at %s: %v, want an error with its path", what, dir, err)
			}
		}
	}
	if _, err := os.Lstat(out + "/pkg"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory was made outside of the home: %v", err)
	}
}
