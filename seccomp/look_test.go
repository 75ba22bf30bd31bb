// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// looksEnv has the victim's filter ask about looks.
const looksEnv = "SECCOMP_TEST_LOOKS"

// looking are the calls of a victim that change nothing.
func (s step) looking() error {
	var st unix.Stat_t
	switch s.Call {
	case "stat":
		return unix.Stat(s.A, &st)
	case "lstat":
		return unix.Lstat(s.A, &st)
	case "access":
		return unix.Access(s.A, unix.R_OK)
	case "exec":
		return unix.Exec(s.A, []string{s.A}, nil)
	case "readlink":
		_, err := unix.Readlink(s.A, make([]byte, 100))
		return err
	case "statfs":
		return unix.Statfs(s.A, &unix.Statfs_t{})
	case "xattr":
		_, err := unix.Getxattr(s.A, "user.none", nil)
		return err
	case "watch":
		fd, err := unix.InotifyInit()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.InotifyAddWatch(fd, s.A, unix.IN_MODIFY)
		return err
	}
	return unix.EDOM
}

// lookingAt has a victim whose home is hosts, which lacks what the host has there, and for whom ro is hidden.
func lookingAt(t *testing.T) func(dir string, c *Config) {
	t.Setenv(looksEnv, "1")
	return func(dir string, c *Config) {
		policy, err := Default(Options{Looks: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Policy = policy
		os.MkdirAll(filepath.Join(dir, "hosts/dir/in"), 0o755)
		os.Symlink("dir", filepath.Join(dir, "hosts/link"))
		c.Tree = &Tree{
			Hidden: []string{dir + "/ro"}, Home: []string{dir + "/hosts"},
			Judge: func(e *audit.Event, isDir bool) bool { return !strings.Contains(e.Target, "quiet") },
			Refuse: func(action, path string, makes, exists bool, onHost func() bool) (rule, reason string) {
				if strings.HasSuffix(path, "/never") || makes && !exists && onHost() {
					return "home.rule", "no"
				}
				return "", ""
			},
		}
	}
}

func TestLooks(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		set := lookingAt(t)
		j := newJail(t, set)
		hosts, hidden := filepath.Join(j.dir, "hosts"), filepath.Join(j.dir, "ro")
		os.WriteFile(filepath.Join(hosts, "quiet"), nil, 0o644)
		create := unix.O_WRONLY | unix.O_CREAT
		for _, c := range []struct {
			s     step
			errno string
			event string
		}{
			{step{Call: "open", A: "hosts/file"}, "ENOENT", "file open-read " + hosts + "/file ENOENT"},
			{step{Call: "open", A: hosts + "/file", N: unix.O_PATH}, "ENOENT", "file stat " + hosts + "/file ENOENT"},
			{step{Call: "open", A: "hosts/dir", N: unix.O_DIRECTORY}, "ENOENT", "file list " + hosts + "/dir ENOENT"},
			{step{Call: "open", A: "hosts/file", N: unix.O_WRONLY}, "ENOENT", "file open-write " + hosts + "/file ENOENT"},
			{step{Call: "openat", A: "rw", B: "../hosts/./dir/../file"}, "ENOENT", "file open-read " + hosts + "/file ENOENT"},
			{step{Call: "stat", A: "hosts/dir/in/"}, "ENOENT", "file stat " + hosts + "/dir/in ENOENT"},
			{step{Call: "stat", A: "hosts/link/in"}, "ENOENT", "file stat " + hosts + "/link ENOENT"},
			{step{Call: "stat", A: "hosts/file/in"}, "ENOENT", "file stat " + hosts + "/file ENOENT"},
			{step{Call: "lstat", A: "hosts/link"}, "ENOENT", "file stat " + hosts + "/link ENOENT"},
			{step{Call: "access", A: "hosts/file"}, "ENOENT", "file access " + hosts + "/file ENOENT"},
			{step{Call: "exec", A: "hosts/file"}, "ENOENT", "exec exec " + hosts + "/file ENOENT"},
			{step{Call: "readlink", A: "hosts/link"}, "ENOENT", "file readlink " + hosts + "/link ENOENT"},
			{step{Call: "statfs", A: "hosts/file"}, "ENOENT", "file stat " + hosts + "/file ENOENT"},
			{step{Call: "xattr", A: "hosts/file"}, "ENOENT", "file xattr " + hosts + "/file ENOENT"},
			{step{Call: "watch", A: "hosts/file"}, "ENOENT", "file watch " + hosts + "/file ENOENT"},
			{step{Call: "chdir", A: "hosts/dir"}, "ENOENT", "file chdir " + hosts + "/dir ENOENT"},
			{step{Call: "stat", A: "/proc/self/cwd/hosts/file"}, "ENOENT", "file stat " + hosts + "/file ENOENT"},
			{step{Call: "again", A: "hosts", B: "/proc/self/fd/%d/file"}, "ENOENT", "file open-read " + hosts + "/file ENOENT"},
			// By a link of the victim's, which it makes where it may write.
			{step{Call: "symlink", A: "../hosts/file", B: "rw/link"}, "", ""},
			{step{Call: "open", A: "rw/link"}, "ENOENT", "file open-read " + hosts + "/file ENOENT"},
			{step{Call: "lstat", A: "rw/link"}, "", ""},
			// What neither has, what is there, and what is no part of the tree.
			{step{Call: "stat", A: "hosts/nosuch"}, "ENOENT", ""},
			{step{Call: "stat", A: "hosts/dir/nosuch"}, "ENOENT", ""},
			{step{Call: "stat", A: "rw/nosuch"}, "ENOENT", ""},
			{step{Call: "stat", A: "rw/file"}, "", ""},
			{step{Call: "stat", A: "hosts/quiet"}, "ENOENT", ""},
			// What is hidden is there; the mode of a stand-in keeps others than root from it.
			{step{Call: "open", A: "ro"}, "", "file open-read " + hidden + " EACCES"},
			{step{Call: "stat", A: "ro/nosuch"}, "ENOENT", "file stat " + hidden + "/nosuch EACCES"},
			{step{Call: "chmod", A: "ro", N: 0o700}, "EACCES", "file chmod " + hidden + " EACCES"},
			// Names of the home.
			{step{Call: "open", A: "hosts/file", N: create}, "EACCES", "file create " + hosts + "/file EACCES"},
			{step{Call: "mkdir", A: "hosts/dir"}, "EACCES", "file mkdir " + hosts + "/dir EACCES"},
			{step{Call: "mkdir", A: "hosts/dir/new"}, "EACCES", "file mkdir " + hosts + "/dir/new EACCES"},
			{step{Call: "mkdir", A: "hosts/nosuch/new"}, "ENOENT", ""},
			{step{Call: "symlink", A: "x", B: "hosts/never"}, "EACCES", "file symlink " + hosts + "/never EACCES"},
			{step{Call: "mkdir", A: "hosts/own"}, "", ""},
			{step{Call: "mkdir", A: "hosts/own"}, "EEXIST", ""},
			{step{Call: "rename", A: "hosts/own", B: "hosts/never"}, "EACCES", "file rename " + hosts + "/never EACCES"},
			{step{Call: "rename", A: "hosts/own", B: "hosts/mine"}, "", ""},
			{step{Call: "unlink", A: "hosts/file"}, "ENOENT", "file unlink " + hosts + "/file ENOENT"},
			{step{Call: "unlink", A: "hosts/nosuch"}, "ENOENT", ""},
			{step{Call: "rmdir", A: "hosts/mine"}, "", ""},
		} {
			var events []string
			if c.event != "" {
				events = append(events, c.event)
			}
			j.expect(c.s, c.errno, events...)
		}
	})
}

// TestMovedPlace: where another run has moved a directory on the way to a place, nothing is written.
func TestMovedPlace(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t, func(dir string, c *Config) { c.Places = []string{dir + "/hosts"} })
		j.expect(step{Call: "mkdir", A: "rw/before"}, "")
		if err := os.Rename(j.dir+"/hosts", j.dir+"/moved"); err != nil { // a mount in the victim's namespace alone
			t.Fatal(err)
		}
		j.expect(step{Call: "mkdir", A: "rw/after"}, "EIO", "file mkdir rw/after EIO")
		j.expect(step{Call: "open", A: "rw/file"}, "")
		if err := os.Rename(j.dir+"/moved", j.dir+"/hosts"); err != nil {
			t.Fatal(err)
		}
		j.expect(step{Call: "mkdir", A: "rw/after"}, "")
		// By a link the mount is found at its path, and has another one.
		if err := errors.Join(os.Rename(j.dir, j.dir+"moved"), os.Symlink(j.dir+"moved", j.dir)); err != nil {
			t.Fatal(err)
		}
		j.expect(step{Call: "mkdir", A: "rw/linked"}, "EIO", "file mkdir rw/linked EIO")
		if err := errors.Join(os.Remove(j.dir), os.Rename(j.dir+"moved", j.dir)); err != nil {
			t.Fatal(err)
		}
	})
}

// walking are the calls of allowList and of groups that take a path. All of them are asked about, but for those whose path is none of a file.
const walking = `access chdir chroot execve execveat faccessat faccessat2 file_getattr getxattr getxattrat inotify_add_watch lgetxattr
listxattr listxattrat llistxattr lstat newfstatat open openat readlink readlinkat stat statfs statx`

func TestLooksAreAsked(t *testing.T) {
	groups := []string{"debug", "nested", "packaging"}
	plain, err := Default(Options{Allow: groups})
	if err != nil {
		t.Fatal(err)
	}
	asking, err := Default(Options{Looks: true, Allow: groups})
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(walking) {
		if _, ok := lookShapes[name]; !ok {
			t.Errorf("%s is not asked about", name)
		}
	}
	for arch, table := range tables {
		if arch != NativeArch() {
			continue
		}
		for _, n := range table {
			before, after := plain.Verdict(arch, n.Nr, [6]uint64{}), asking.Verdict(arch, n.Nr, [6]uint64{})
			if _, look := lookShapes[n.Name]; look {
				if before.Kind != Allow || after.Kind != Look {
					t.Errorf("%s: %v, and %v where looks are asked about", n.Name, before, after)
				}
			} else if after.Kind == Look {
				t.Errorf("%s: asked about as a look", n.Name)
			}
		}
	}
	for _, c := range []struct {
		flags uint64
		kind  Kind
	}{{0, Look}, {unix.O_PATH, Look}, {unix.O_RDWR, Write}, {unix.O_CREAT, Write}, {unix.O_TRUNC, Write}} {
		nr := uint32(unix.SYS_OPENAT)
		if got := asking.Verdict(NativeArch(), nr, [6]uint64{0, 0, c.flags}); got.Kind != c.kind {
			t.Errorf("openat with %#x: %v", c.flags, got)
		}
	}
}
