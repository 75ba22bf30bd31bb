// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// spellings are ways to name a place that is given by its absolute path, with the directory that each is to be used in. The
// process is the first of its run, and a link to it lies in rw.
func spellings(dir, place string) []struct{ cwd, path string } {
	up := strings.Repeat("../", strings.Count(dir, "/")+1)
	relative := place[1:]
	return []struct{ cwd, path string }{
		{dir, place},
		{"/", relative},
		{"/", "./" + relative},
		{dir, up + relative},
		{dir, dir + "/rw/.." + strings.TrimPrefix(place, dir)},
		{dir, "rw/" + up + "../" + relative},
		{"/proc", "self/root" + place},
		{"/proc", "thread-self/root" + place},
		{"/proc/self", "root" + place},
		{dir, "/proc/self/root" + place},
		{dir, "//proc/.//self/./root/" + place},
		{dir, "/proc/../proc/self/root" + place},
		{dir, "/proc/self/../self/cwd" + strings.TrimPrefix(place, dir)},
		{dir, "/proc/self/task/1/root" + place},
		{dir, "/proc/1/task/1/root" + place},
		{dir, "/dev/fd/../root" + place},
		{dir, "rw/absolute"},
		{dir, "rw/relative"},
		{dir, "rw/own"},
		{dir, "rw/chain"},
	}
}

// linkTo makes the links of spellings anew.
func linkTo(t *testing.T, dir, place string) {
	t.Helper()
	for name, target := range map[string]string{
		"absolute": place, "relative": strings.Repeat("../", strings.Count(dir, "/")+2) + place[1:], "own": "/proc/self/root" + place,
		"chain": "relative",
	} {
		name = filepath.Join(dir, "rw", name)
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever way a socket of the host is named, it is refused and recorded once, as what it is; and one of the run is reached.
func TestConnectSpellings(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		seen := filepath.Join(j.dir, "ro", "host.sock")
		l, err := net.Listen("unix", seen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		j.expect(step{Call: "listen", A: "rw/own.sock"}, "")
		for _, c := range []struct{ place, errno string }{
			{j.dir + "/hosts/file", "ENOENT"}, {seen, "ECONNREFUSED"}, {j.dir + "/rw/own.sock", ""}, {j.dir + "/rw/nothing", "ENOENT"},
		} {
			linkTo(t, j.dir, c.place)
			var events []string
			if c.errno != "" && !strings.HasSuffix(c.place, "nothing") {
				events = []string{"unix connect " + c.place + " " + c.errno}
			}
			for _, s := range spellings(j.dir, c.place) {
				if len(s.path) >= 108 {
					t.Fatalf("%s does not fit into an address", s.path)
				}
				j.expect(step{Call: "chdir", A: s.cwd}, "")
				j.expect(step{Call: "connect", A: s.path}, c.errno, events...)
			}
		}
	})
}

// The same for what is read-only, and for what may be written.
func TestWriteSpellings(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		write := unix.O_WRONLY | unix.O_TRUNC
		for _, c := range []struct {
			place, action, errno string
			s                    step
		}{
			{"/ro/file", "open-write", "EROFS", step{Call: "open", N: write}},
			{"/ro/file", "open-write", "EROFS", step{Call: "open", N: unix.O_WRONLY | unix.O_CREAT}},
			{"/ro/new", "create", "EROFS", step{Call: "open", N: unix.O_WRONLY | unix.O_CREAT}},
			{"/ro/file", "chmod", "EROFS", step{Call: "chmod", N: 0o600}},
			{"/ro/file", "truncate", "EROFS", step{Call: "truncate"}},
			{"/ro/file", "utime", "EROFS", step{Call: "touch"}},
			{"/rw/file", "", "", step{Call: "open", N: write}},
			{"/rw/file", "", "", step{Call: "chmod", N: 0o644}},
			{"/rw/missing", "", "ENOENT", step{Call: "open", N: write}},
		} {
			place := j.dir + c.place
			linkTo(t, j.dir, place)
			var events []string
			if c.action != "" {
				events = []string{fmt.Sprintf("file %s %s %s", c.action, place, c.errno)}
			}
			for _, s := range spellings(j.dir, place) {
				j.expect(step{Call: "chdir", A: s.cwd}, "")
				c.s.A = s.path
				j.expect(c.s, c.errno, events...)
			}
		}
	})
}

// Entries of a directory: the last name is not followed, unless a slash comes after it.
func TestEntrySpellings(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		ro, rw := j.dir+"/ro", j.dir+"/rw"
		linkTo(t, j.dir, ro)
		for _, s := range spellings(j.dir, ro) {
			j.expect(step{Call: "chdir", A: s.cwd}, "")
			for _, c := range []struct {
				call, name string
			}{{"unlink", "file"}, {"mkdir", "new"}, {"unlink", "missing"}} {
				j.expect(step{Call: c.call, A: s.path + "/" + c.name}, "EROFS", "file "+c.call+" "+ro+"/"+c.name+" EROFS")
			}
			j.expect(step{Call: "link", A: rw + "/file", B: s.path + "/hard"}, "EROFS", "file link "+ro+"/hard EROFS")
		}
		j.expect(step{Call: "unlink", A: rw + "/own"}, "")
		linkTo(t, j.dir, rw)
		for _, s := range spellings(j.dir, rw) {
			j.expect(step{Call: "chdir", A: s.cwd}, "")
			j.expect(step{Call: "mkdir", A: s.path + "/made/"}, "")
			j.expect(step{Call: "rmdir", A: s.path + "/made"}, "")
		}
	})
}

// What leads nowhere is the kernel's to refuse: no event, and the errno that it has for it.
func TestWalksThatEnd(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		if err := os.Symlink("loop", j.dir+"/rw/loop"); err != nil {
			t.Fatal(err)
		}
		create := unix.O_WRONLY | unix.O_CREAT
		for path, errno := range map[string]string{
			"/proc/self/root" + j.dir + "/rw/loop": "ELOOP", "rw/loop": "ELOOP", "rw/loop/x": "ELOOP",
			"/proc/self/root" + j.dir + "/rw/file/x": "ENOTDIR", "rw/file/x": "ENOTDIR", "rw/file/": "EISDIR",
			"/proc/self/none/x": "ENOENT", "/proc/self/fd/999": "ENOENT", "/proc/self/fd/999/x": "ENOENT", "/proc/2000000000/root/x": "ENOENT",
			"": "ENOENT", "/": "EISDIR", "//": "EISDIR", ".": "EISDIR", "/proc/self/cwd/..": "EISDIR", "/proc/self/": "EISDIR",
			"/proc/self/root/" + strings.Repeat("x/", 1500) + "x": "ENOENT", "/proc/self/root/" + strings.Repeat("n", 300): "ENAMETOOLONG",
		} {
			j.expect(step{Call: "open", A: path, N: create}, errno)
		}
	})
}

// TestDescribeDir: the path of a directory is the one that describeFile tells, also of one that was moved or removed.
func TestDescribeDir(t *testing.T) {
	u, err := newUsher(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{Supervisor: &Supervisor{usher: u}, link: make([]byte, maxPath)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		for name, then := range map[string]func(dir string) error{
			top:              func(string) error { return nil },
			top + "/moved":   func(dir string) error { return os.Rename(dir, top+"/there") },
			top + "/removed": os.Remove,
		} {
			if err := os.MkdirAll(name, 0o700); err != nil {
				t.Error(err)
			}
			dir, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err = errors.Join(err, then(name)); err != nil {
				t.Error(err)
				continue
			}
			want := map[string]string{top: top, top + "/moved": top + "/there", top + "/removed": top + "/removed (deleted)"}[name]
			if got, file := w.describeDir(dir, false), w.describeFile(dir); got != want || file != want {
				t.Errorf("%s: %s and %s, want %s", name, got, file, want)
			}
			unix.Close(dir)
		}
	}()
	<-done
}
