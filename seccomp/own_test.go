// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwn: under the filter of its own, a process does nothing any more that the kernel would do for it before.
// Containment check: P02.
func TestOwn(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		// Each fails before, too, but not with ENOSYS, except for those that succeed.
		refused := map[string]func() error{
			"a program":      func() error { return unix.Exec("/none", nil, nil) },
			"a process":      func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() },
			"open to write":  func() error { return opened(unix.Open("/dev/null", unix.O_WRONLY, 0)) },
			"open to create": func() error { return opened(unix.Openat(unix.AT_FDCWD, "/proc/none", unix.O_CREAT, 0o600)) },
			"truncate":       func() error { return unix.Truncate("/none", 0) },
			"mkdir":          func() error { return unix.Mkdir("/proc/none", 0o700) },
			"unlink":         func() error { return unix.Unlink("/none") },
			"rename":         func() error { return unix.Rename("/none", "/none2") },
			"symlink":        func() error { return unix.Symlink("x", "/proc/none") },
			"chmod":          func() error { return unix.Chmod("/none", 0o600) },
			"mount":          func() error { return unix.Mount("none", "/none", "tmpfs", 0, "") },
			"unmount":        func() error { return unix.Unmount("/none", 0) },
			"remount":        func() error { return unix.MountSetattr(unix.AT_FDCWD, "/none", 0, &unix.MountAttr{}) },
			"a namespace":    func() error { return unix.Unshare(unix.CLONE_NEWIPC) }, // of this thread alone, which changes nothing for the others
			"into mounts":    func() error { return unix.Setns(-1, unix.CLONE_NEWNS) },
			"a terminal":     func() error { return unix.IoctlSetInt(-1, unix.TIOCSTI, 0) },
			"trace":          func() error { return unix.PtraceAttach(1 << 30) },
			"the machine":    func() error { return unix.Sethostname([]byte(strings.Repeat("x", 100))) },
		}
		for what, call := range refused {
			if err := call(); errors.Is(err, unix.ENOSYS) {
				t.Fatalf("%s: not there before the filter", what)
			}
		}
		program, err := Own()
		if err != nil {
			t.Fatal(err)
		}
		if err := program.Load(); err != nil {
			t.Fatal(err)
		}
		for what, call := range refused {
			if err := call(); !errors.Is(err, unix.ENOSYS) {
				t.Errorf("%s: %v", what, err)
			}
		}
		checkServing(t)
	})
}

func opened(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// checkServing: what serving takes still works, and every thread is under the filter.
func checkServing(t *testing.T) {
	t.Helper()
	for what, call := range map[string]func() error{
		"read a file":    func() error { _, err := os.ReadFile("/proc/self/stat"); return err },
		"a path alone":   func() error { return opened(unix.Openat2(unix.AT_FDCWD, "/proc", &unix.OpenHow{Flags: unix.O_PATH})) },
		"a socket":       func() error { return opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) },
		"a root, thread": inThread(func() error { return unix.Unshare(unix.CLONE_FS) }),
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := unix.Setns(-1, unix.CLONE_NEWNET); err != unix.EBADF {
		t.Errorf("into a network: %v", err)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, task := range tasks {
		status, _ := os.ReadFile(task)
		if s := string(status); len(s) > 0 && !(strings.Contains(s, "NoNewPrivs:\t1\n") && strings.Contains(s, "Seccomp:\t2\n")) {
			t.Errorf("%s is not under the filter", task)
		}
	}
}

// inThread calls f in a thread that ends with it.
func inThread(f func() error) func() error {
	return func() error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- f()
		}()
		return <-done
	}
}
