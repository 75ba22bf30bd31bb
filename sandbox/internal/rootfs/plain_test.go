// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A plain root has what was built and nothing else, and is read-only then.
func TestPlainRoot(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		if err := Private(); err != nil {
			t.Fatal(err)
		}
		dir, home := t.TempDir(), t.TempDir()
		if err := Scratch(dir, "root", "hidden", "files"); err != nil {
			t.Fatal(err)
		}
		root, hidden := filepath.Join(dir, "root"), filepath.Join(dir, "hidden")
		if err := errors.Join(PlainRoot(root), HideNodes(hidden)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		grant := t.TempDir()
		for _, name := range []string{"secret", "shown"} {
			if err := os.WriteFile(filepath.Join(grant, name), []byte(name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b := &Builder{Root: root, Scratch: filepath.Join(dir, "files"), Plain: true}
		if err := b.Build([]Entry{
			{Kind: Link, Target: "/bin", Source: "usr/bin", Make: true},
			{Kind: File, Target: "/etc/passwd", Content: "x", Make: true},
			{Kind: Bind, Target: "/home/ann", Source: home, Dir: true, Writable: true, Make: true},
			{Kind: Link, Target: "/home/ann/bin/tool", Source: "../grant/shown", Make: true},
			{Kind: Bind, Target: "/home/ann/grant", Source: grant, Dir: true, Writable: true, Make: true},
			{Kind: Node, Target: "/home/ann/grant/secret", Source: filepath.Join(hidden, HiddenFile)},
			{Kind: Point, Target: "/proc", Dir: true, Make: true},
		}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"etc/passwd": "x", "home/ann/bin/tool": "shown", "home/ann/grant/secret": ""} {
			if got, err := os.ReadFile(filepath.Join(root, path)); string(got) != want || err != nil {
				t.Errorf("%s: %q, %v; want %q", path, got, err, want)
			}
		}
		var info unix.Stat_t
		if err := unix.Stat(filepath.Join(root, "home/ann/grant/secret"), &info); err != nil || info.Mode&0o7777 != 0 {
			t.Errorf("a stand-in has mode %o, %v", info.Mode, err)
		}
		for path, want := range map[string]error{
			"new": unix.EROFS, "etc/new": unix.EROFS, "home/ann/grant/secret": unix.EROFS, "home/ann/new": nil, "home/ann/grant/new": nil,
		} {
			if err := os.WriteFile(filepath.Join(root, path), nil, 0o644); !errors.Is(err, want) {
				t.Errorf("write %s: %v, want %v", path, err, want)
			}
		}
		names, err := os.ReadDir(root)
		if err != nil || len(names) != 4 {
			t.Errorf("the root has %v, %v", names, err)
		}
	})
}

// A link of an earlier run gives way to another one, and what is no link does not.
func TestLinkIn(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, to := range []string{"one", "two", "two"} {
		if err := linkIn(root, "link", to); err != nil {
			t.Fatal(err)
		}
		if got, err := root.Readlink("link"); got != to || err != nil {
			t.Errorf("%q, %v; want %q", got, err, to)
		}
	}
	if err := root.WriteFile("file", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := linkIn(root, "file", "one"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("in the place of a file: %v", err)
	}
}
