// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv names the test that the binary runs again inside namespaces of its own.
const childEnv = "ROOTFS_TEST_CHILD"

// inNamespaces runs the calling test's body again, as root of a user and mount namespace.
func inNamespaces(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		body(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("inside: %v\n%s", err, out)
	}
}

// tree makes a root to build in, with the mount points that the run's own file system would offer.
func tree(t *testing.T, points ...string) *Builder {
	t.Helper()
	if err := Private(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Scratch(dir, "root", "files"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	b := &Builder{Root: filepath.Join(dir, "root"), Scratch: filepath.Join(dir, "files")}
	for _, p := range points {
		path := filepath.Join(b.Root, p)
		if strings.HasSuffix(p, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := touch(path); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestBinds(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		host := t.TempDir()
		for _, name := range []string{"ro", "rw"} {
			if err := os.Mkdir(filepath.Join(host, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		b := tree(t, "ro/", "rw/", "etc/passwd")
		err := b.Build([]Entry{
			{Kind: Bind, Target: "/ro", Source: filepath.Join(host, "ro"), Dir: true},
			{Kind: Bind, Target: "/rw", Source: filepath.Join(host, "rw"), Dir: true, Writable: true},
			{Kind: File, Target: "/etc/passwd", Content: "ann:x:1000:1000::/:/bin/sh\n"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.Root, "rw/new"), []byte("x"), 0o644); err != nil {
			t.Errorf("a writable bind refuses a write: %v", err)
		}
		if got, _ := os.ReadFile(filepath.Join(host, "rw/new")); string(got) != "x" {
			t.Errorf("the write did not reach the host: %q", got)
		}
		for _, path := range []string{"ro/new", "etc/passwd"} {
			err := os.WriteFile(filepath.Join(b.Root, path), []byte("x"), 0o644)
			if pe, ok := err.(*os.PathError); !ok || pe.Err != unix.EROFS {
				t.Errorf("%s: %v, want EROFS", path, err)
			}
		}
		for path, flags := range map[string]int64{"ro": unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV, "rw": unix.ST_NOSUID | unix.ST_NODEV} {
			var st unix.Statfs_t
			if err := unix.Statfs(filepath.Join(b.Root, path), &st); err != nil || st.Flags&flags != flags {
				t.Errorf("%s: flags %#x, want %#x: %v", path, st.Flags, flags, err)
			}
		}
	})
}

// A read-only bind is read-only in the mounts below it, too.
func TestReadOnlyIsRecursive(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		b := tree(t, "grant/")
		host := t.TempDir()
		below := filepath.Join(host, "below")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := b.Build([]Entry{{Kind: Bind, Target: "/grant", Source: host, Dir: true}}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(below, "twin"), nil, 0o644); err != nil {
			t.Fatalf("the mount itself must be writable: %v", err)
		}
		if err := os.WriteFile(filepath.Join(b.Root, "grant/below/x"), nil, 0o644); err == nil {
			t.Error("the mount below a read-only grant is writable")
		}
		unix.Unmount(below, unix.MNT_DETACH)
	})
}

func TestDevices(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		b := tree(t, "dev/")
		err := b.Build([]Entry{
			{Kind: Tmpfs, Target: "/dev", Dir: true, Mode: 0o755, Links: map[string]string{"stdin": "/proc/self/fd/0"}},
			{Kind: Device, Target: "/dev/null", Source: "/dev/null"},
			{Kind: Pts, Target: "/dev/pts", Dir: true},
			{Kind: Tmpfs, Target: "/dev/shm", Dir: true, Mode: 0o1777, Writable: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		dev := filepath.Join(b.Root, "dev")
		if err := os.WriteFile(filepath.Join(dev, "null"), []byte("x"), 0); err != nil {
			t.Errorf("/dev/null: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dev, "new"), nil, 0o644); err == nil {
			t.Error("a file was made in /dev")
		}
		if err := os.WriteFile(filepath.Join(dev, "shm/new"), nil, 0o644); err != nil {
			t.Errorf("/dev/shm: %v", err)
		}
		if to, _ := os.Readlink(filepath.Join(dev, "stdin")); to != "/proc/self/fd/0" {
			t.Errorf("/dev/stdin leads to %q", to)
		}
		master, err := os.OpenFile(filepath.Join(dev, "pts/ptmx"), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatalf("ptmx: %v", err)
		}
		master.Close()
	})
}

// What became a link since the plan was made is refused: the plan decided about another file.
func TestChangedSources(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		host := t.TempDir()
		if err := os.Symlink("/etc", filepath.Join(host, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		b := tree(t, "a/", "f")
		for _, e := range []Entry{
			{Kind: Bind, Target: "/a", Source: filepath.Join(host, "link"), Dir: true},
			{Kind: Bind, Target: "/a", Source: filepath.Join(host, "link/ssl"), Dir: true},
			{Kind: Bind, Target: "/a", Source: filepath.Join(host, "file"), Dir: true},
			{Kind: Bind, Target: "/a", Source: filepath.Join(host, "gone"), Dir: true},
		} {
			if err := b.Build([]Entry{e}); err == nil {
				t.Errorf("%s was mounted", e.Source)
			} else if !strings.Contains(err.Error(), e.Source) {
				t.Errorf("the error does not name %s: %v", e.Source, err)
			}
		}
		if err := b.Build([]Entry{{Kind: Bind, Target: "/f", Source: filepath.Join(host, "file")}}); err != nil {
			t.Errorf("the file itself: %v", err)
		}
	})
}

// Nor is anything mounted where a link leads that another run has made since then, in a place that is mounted already.
func TestChangedTargets(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		work, elsewhere := t.TempDir(), t.TempDir()
		for _, name := range []string{"sub/real", "sub/moved"} {
			if err := os.MkdirAll(filepath.Join(work, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(elsewhere, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"dir": elsewhere, "last": filepath.Join(elsewhere, "sub")} {
			if err := os.Symlink(to, filepath.Join(work, name)); err != nil {
				t.Fatal(err)
			}
		}
		b := tree(t, "work/")
		if err := b.Build([]Entry{{Kind: Bind, Target: "/work", Source: work, Dir: true, Writable: true}}); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/work/dir/sub", "/work/last"} {
			err := b.Build([]Entry{{Kind: Bind, Target: target, Source: filepath.Join(work, "sub"), Dir: true}})
			if err == nil || !strings.Contains(err.Error(), target) {
				t.Errorf("over %s: %v", target, err)
			}
		}
		if left, err := os.ReadDir(filepath.Join(elsewhere, "sub")); err != nil || len(left) > 0 {
			t.Errorf("over what the links lead to is now %v, %v", left, err)
		}
		if err := b.Build([]Entry{{Kind: Bind, Target: "/work/sub/real", Source: filepath.Join(work, "sub"), Dir: true}}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(b.Root, "work/sub/real/moved")); err != nil {
			t.Error(err)
		}
	})
}

func TestMountPointsInTmpfs(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		host := t.TempDir()
		b := tree(t, "tmp/")
		deep := "/tmp/a/b c/ü"
		err := b.Build([]Entry{
			{Kind: Tmpfs, Target: "/tmp", Dir: true, Mode: 0o1777, Writable: true},
			{Kind: Bind, Target: deep, Source: host, Dir: true, Writable: true, Make: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.Root, deep, "x"), []byte("y"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(host, "x")); fmt.Sprint(string(got), err) != "y<nil>" {
			t.Errorf("read back: %q, %v", got, err)
		}
	})
}

func TestReadOnlyOfNothing(t *testing.T) {
	if err := ReadOnly(filepath.Join(t.TempDir(), "missing")); err != nil {
		t.Errorf("a path that is no mount: %v", err)
	}
}

// TestMountPointThroughLinks: no mount point is made where a link in the tree leads out of it.
func TestMountPointThroughLinks(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "tmp/home/dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "tmp/home/link")); err != nil {
		t.Fatal(err)
	}
	b := &Builder{Root: root}
	for _, e := range []Entry{{Target: "/tmp/home/link/made", Dir: true}, {Target: "/tmp/home/link/deep/file"}, {Target: "/tmp/home/link/file"}} {
		if err := b.mountPoint(e); err == nil {
			t.Errorf("%s was made", e.Target)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside of the tree there is %v, %v", left, err)
	}
	for _, e := range []Entry{{Target: "/tmp/home/dir/deep/made", Dir: true}, {Target: "/tmp/home/dir/file"}} {
		if err := b.mountPoint(e); err != nil {
			t.Error(err)
		}
		if info, err := os.Lstat(filepath.Join(root, e.Target)); err != nil || info.IsDir() != e.Dir {
			t.Errorf("%s: %v, %v", e.Target, info, err)
		}
	}
}

// TestLookups: a directory with many mount points is listed, another's are looked up one by one, and what is in another mount is neither.
func TestLookups(t *testing.T) {
	var entries []Entry
	for _, target := range []string{"/dev", "/dev/a", "/dev/b", "/dev/c", "/dev/d", "/etc/a", "/etc/b", "/etc/c", "/etc/d", "/etc/e/f", "/usr", "/usr/lib/x"} {
		entries = append(entries, Entry{Target: target})
	}
	entries = append(entries, Entry{Target: "/made", Make: true})
	lists, points := lookups(entries)
	if got := fmt.Sprint(lists, points); got != "[/etc] [/dev /usr /etc/e/f]" {
		t.Errorf("asked for %s", got)
	}
}
