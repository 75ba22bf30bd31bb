// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenAgain: the same file at the same offset, and no other one.
func TestOpenAgain(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	for _, p := range []string{path, other} {
		if err := os.WriteFile(p, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(3, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	for p, want := range map[string]error{other: unix.ESTALE, filepath.Join(dir, "link"): unix.ELOOP, filepath.Join(dir, "none"): unix.ENOENT} {
		if err := replace(fd, p); err != want {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
	if _, err := f.WriteAt([]byte("C"), 0); err != nil {
		t.Errorf("what was refused changed the file: %v", err)
	}
	if err := replace(fd, path); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(f); err != nil || string(rest) != "tent" {
		t.Errorf("%q, %v", rest, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the file was not opened anew")
	}
}
