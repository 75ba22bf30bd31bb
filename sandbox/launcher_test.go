// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// liveRunDir makes the directory of a run whose launcher is this process, with a log that is being written.
func liveRunDir(t *testing.T, state string) (*runDir, *audit.Recorder) {
	t.Helper()
	dir, err := newRunDir(state, "RUN")
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Options{Path: dir.log(), Run: dir.id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close(audit.End{}) })
	return dir, log
}

// setMark replaces the content of a run's mark.
func setMark(t *testing.T, dir *runDir, content string) {
	t.Helper()
	if err := os.WriteFile(dir.live, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Containment checks: P04.
func TestFindLauncher(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir, log := liveRunDir(t, state)
	l, err := FindLauncher(state, "RUN")
	if err != nil || l.PID != os.Getpid() || l.Wait(0) {
		t.Fatalf("%+v, %v", l, err)
	}
	l.Close()
	if _, err := FindLauncher(state, "OTHER"); !errors.Is(err, ErrNotLive) {
		t.Errorf("another run: %v", err)
	}
	if err := log.Start(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Close(audit.End{}); err != nil {
		t.Fatal(err)
	}
	if _, err := FindLauncher(state, "RUN"); !errors.Is(err, ErrNotLive) {
		t.Errorf("the log is closed: %v", err)
	}
	if err := dir.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := FindLauncher(state, "RUN"); !errors.Is(err, ErrNotLive) {
		t.Errorf("the mark is gone: %v", err)
	}
}

// TestForgedMarks: who can write the state directory must not have root, who looks there under sudo, signal another process.
// Containment checks: P04.
func TestForgedMarks(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir, _ := liveRunDir(t, state)
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	later, parent, elsewhere := me, me, me
	later.start++
	parent.pid = os.Getppid()
	elsewhere.namespace = "pid:[1]"
	for _, tt := range []struct {
		name, content string
		want          error
	}{
		{"its own", me.String(), nil},
		{"a number that was used again", later.String(), ErrNotLive},
		{"another process", parent.String(), ErrNotLive},
		{"another pid namespace", elsewhere.String(), ErrElsewhere},
		{"empty", "", ErrNotLive},
		{"no process", fmt.Sprintf("%s 0 0\n", me.namespace), ErrNotLive},
		{"the caller's group", fmt.Sprintf("%s -1 %d\n", me.namespace, me.start), ErrNotLive},
		{"a number too large", fmt.Sprintf("%s 2147483647 %d\n", me.namespace, me.start), ErrNotLive},
		{"more than a mark", me.String() + me.String(), ErrNotLive},
		{"long", strings.Repeat("x", 1<<20), ErrNotLive},
	} {
		setMark(t, dir, tt.content)
		l, err := FindLauncher(state, "RUN")
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, not %v", tt.name, err, tt.want)
		}
		if err == nil {
			l.Close()
		}
	}
	setMark(t, dir, me.String())
	if os.Getuid() == 0 {
		if err := os.Chown(dir.live, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := FindLauncher(state, "RUN"); !errors.Is(err, ErrNotLive) {
			t.Errorf("another user's mark that names a process of root's: %v", err)
		}
	}
}

// TestMarksThatAreNoFiles: nothing is waited for, and nothing is followed.
func TestMarksThatAreNoFiles(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir, _ := liveRunDir(t, state)
	aside := filepath.Join(state, "aside")
	if err := os.Rename(dir.live, aside); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"link":      func() error { return os.Symlink(aside, dir.live) },
		"pipe":      func() error { return unix.Mkfifo(dir.live, 0o600) },
		"directory": func() error { return os.Mkdir(dir.live, 0o700) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if _, err := FindLauncher(state, "RUN"); err == nil {
			t.Errorf("a %s is taken for a mark", name)
		}
		if err := os.Remove(dir.live); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLauncherEnds(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir, _ := liveRunDir(t, state)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	namespace, err := pidNamespace()
	if err != nil {
		t.Fatal(err)
	}
	child, _, err := describe(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	setMark(t, dir, noted{namespace, child}.String())
	l, err := FindLauncher(state, "RUN")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Wait(time.Millisecond) {
		t.Fatal("ended before it was told to")
	}
	if err := l.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !l.Wait(time.Minute) {
		t.Fatal("not ended")
	}
	if _, err := FindLauncher(state, "RUN"); !errors.Is(err, ErrNotLive) {
		t.Errorf("found when it has ended: %v", err)
	}
	cmd.Wait()
	if err := l.Signal(unix.SIGTERM); err != nil {
		t.Errorf("a signal to what has ended: %v", err)
	}
}
