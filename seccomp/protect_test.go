// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keeping protects what is called kept, by the age of the directory that holds it, and directories called held and all that is called self, by
// their own.
func keeping(_, path string) []string {
	dir, name := filepath.Split(path)
	switch {
	case name == "held":
		return []string{path + "/"}
	case name == "kept" || strings.Contains(path, "/kept/"):
		before, _, _ := strings.Cut(path, "/kept")
		return []string{before}
	case name == "self":
		return []string{path}
	case name == "nowhere":
		return []string{filepath.Join(dir, "missing", "x")}
	}
	return nil
}

// protecting makes what is protected, and has the run begin after that.
func protecting(dir string, c *Config) {
	for _, d := range []string{"old", "old/kept", "old/held"} {
		os.Mkdir(filepath.Join(dir, d), 0o755)
	}
	os.WriteFile(filepath.Join(dir, "old/kept/file"), []byte("old"), 0o644)
	os.Symlink("../old/kept", filepath.Join(dir, "rw/link"))
	var now unix.Timespec
	for first := (unix.Timespec{}); ; time.Sleep(time.Millisecond) {
		if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); first == (unix.Timespec{}) {
			first = now
		} else if now != first {
			break // a tick has passed
		}
	}
	c.Protect, c.Began = keeping, time.Unix(now.Sec, now.Nsec)
}

func TestProtected(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t, protecting)
		rw := filepath.Join(j.dir, "rw")
		write, create := unix.O_WRONLY|unix.O_TRUNC, unix.O_WRONLY|unix.O_CREAT
		for _, c := range []struct {
			s      step
			errno  string
			action string // of the event, where there is one
			path   string
		}{
			{step{Call: "open", A: "rw/kept", N: create}, "EROFS", "create", rw + "/kept"},
			{step{Call: "mkdir", A: "rw/kept"}, "EROFS", "mkdir", rw + "/kept"},
			{step{Call: "symlink", A: "x", B: "rw/kept"}, "EROFS", "symlink", rw + "/kept"},
			{step{Call: "link", A: "rw/file", B: "rw/kept"}, "EROFS", "link", rw + "/kept"},
			{step{Call: "rename", A: "rw/file", B: "rw/kept"}, "EROFS", "rename", rw + "/kept"},
			{step{Call: "rename", A: "rw/missing", B: "rw/kept"}, "ENOENT", "", ""},
			{step{Call: "open", A: "rw/kept", N: write}, "ENOENT", "", ""},
			{step{Call: "unlink", A: "rw/kept"}, "ENOENT", "", ""},
			{step{Call: "listen", A: rw + "/kept"}, "EROFS", "bind", rw + "/kept"},
			// What is there already.
			{step{Call: "open", A: "old/kept/file", N: write}, "EROFS", "open-write", j.dir + "/old/kept/file"},
			{step{Call: "open", A: "old/kept/file", N: unix.O_RDONLY}, "", "", ""},
			{step{Call: "open", A: "old/kept/new", N: create}, "EROFS", "create", j.dir + "/old/kept/new"},
			{step{Call: "open", A: "old/kept", N: unix.O_TMPFILE | unix.O_RDWR}, "EROFS", "create", j.dir + "/old/kept"},
			{step{Call: "again", A: "old/kept/file", B: "/proc/self/fd/%d", N: write}, "EROFS", "open-write", j.dir + "/old/kept/file"},
			{step{Call: "open", A: "rw/link/file", N: write}, "EROFS", "open-write", j.dir + "/old/kept/file"},
			{step{Call: "unlink", A: "old/kept/file"}, "EROFS", "unlink", j.dir + "/old/kept/file"},
			{step{Call: "link", A: "old/kept/file", B: "old/other"}, "EROFS", "link", j.dir + "/old/kept/file"},
			{step{Call: "rename", A: "old/kept", B: "old/gone"}, "EROFS", "rename", j.dir + "/old/kept"},
			{step{Call: "mkdir", A: "old/kept"}, "EEXIST", "", ""},
			{step{Call: "chmod", A: "old/kept/file", N: 0o600}, "EROFS", "chmod", j.dir + "/old/kept/file"},
			{step{Call: "fchmod", A: "old/kept/file", N: 0o600}, "EROFS", "chmod", j.dir + "/old/kept/file"},
			{step{Call: "touch", A: "old/kept/file"}, "EROFS", "utime", j.dir + "/old/kept/file"},
			{step{Call: "truncate", A: "old/kept/file"}, "EROFS", "truncate", j.dir + "/old/kept/file"},
			// A directory by its own age; what counts is missing.
			{step{Call: "rename", A: "old/held", B: "old/gone"}, "EROFS", "rename", j.dir + "/old/held"},
			{step{Call: "mkdir", A: "rw/held"}, "", "", ""},
			{step{Call: "rename", A: "rw/held", B: "rw/let"}, "", "", ""},
			{step{Call: "open", A: "rw/held", N: create}, "", "", ""},
			{step{Call: "mkdir", A: "rw/nowhere"}, "", "", ""},
			// Of what a rename makes of a name whose own age counts, that is the age of what is renamed.
			{step{Call: "rename", A: "rw/missing", B: "rw/self"}, "ENOENT", "", ""},
			{step{Call: "rename", A: "rw/file", B: "rw/self"}, "EROFS", "rename", rw + "/self"},
			{step{Call: "mkdir", A: "rw/new"}, "", "", ""},
			{step{Call: "rename", A: "rw/new", B: "rw/self"}, "", "", ""},
			{step{Call: "rename", A: "rw/self", B: "rw/new"}, "", "", ""},
			// The run's own directory.
			{step{Call: "mkdir", A: "rw/own"}, "", "", ""},
			{step{Call: "mkdir", A: "rw/own/kept"}, "", "", ""},
			{step{Call: "open", A: "rw/own/kept/new", N: create}, "", "", ""},
			{step{Call: "rename", A: "rw/own/kept", B: "rw/kept"}, "EROFS", "rename", rw + "/kept"},
			{step{Call: "rename", A: "rw/own/kept", B: "rw/own/let"}, "", "", ""},
			// A file system whose times say nothing.
			{step{Call: "mkdir", A: "merged/fresh"}, "", "", ""},
			{step{Call: "mkdir", A: "merged/fresh/kept"}, "EROFS", "mkdir", j.dir + "/merged/fresh/kept"},
			// What has another name.
			{step{Call: "open", A: "rw/keptnot", N: create}, "", "", ""},
		} {
			var events []string
			if c.action != "" {
				events = []string{"file " + c.action + " " + c.path + " EROFS"}
			}
			j.expect(c.s, c.errno, events...)
		}
		for _, e := range j.events.events {
			if hint := strings.Contains(e.Reason, "--unprotect .git"); hint != strings.Contains(e.Target, "/merged/") {
				t.Errorf("%s: %s", e.Target, e.Reason)
			}
		}
	})
}

// TestAge: a file is the run's own only where its making is known to be late enough.
func TestAge(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		t.Fatalf("the directory for temporary files keeps no time of making: %v", err)
	}
	born := time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
	for _, c := range []struct {
		file  string
		began time.Time
		want  bool
	}{
		{dir, born, false},
		{dir, born.Add(time.Nanosecond), true},
		{dir, born.Add(-time.Hour), false},
		{dir + "/missing", born, false},
		{"/proc/self", time.Time{}, true}, // proc(5) keeps none
	} {
		w := &worker{Supervisor: &Supervisor{config: Config{Began: c.began}}}
		if got := w.isOlder(c.file); got != c.want {
			t.Errorf("%s, of a run that began at %v: %v", c.file, c.began, got)
		}
	}
}
