// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

func TestOf(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60", strings.Repeat("1", 10))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	p := Of(cmd.Process.Pid)
	// Start returns when execve has closed its pipe, which is before the new arguments are in place.
	for end := time.Now().Add(10 * time.Second); p.Argv == nil && time.Now().Before(end); {
		p = Of(cmd.Process.Pid)
	}
	if p.PID != cmd.Process.Pid || p.PPID != os.Getpid() {
		t.Errorf("pid %d, parent %d; want %d, %d", p.PID, p.PPID, cmd.Process.Pid, os.Getpid())
	}
	if p.Ended {
		t.Error("it is alive")
	}
	if !strings.HasSuffix(p.Exe, "/sleep") && !strings.Contains(p.Exe, "coreutils") {
		t.Errorf("exe %q", p.Exe)
	}
	if !slices.Equal(p.Argv, cmd.Args) {
		t.Errorf("argv %q, want %q", p.Argv, cmd.Args)
	}
}

// Containment checks: P03.
func TestGone(t *testing.T) {
	if p := Of(1 << 30); p.PID != 1<<30 || p.Exe != "" || p.Argv != nil || !p.Ended {
		t.Errorf("a process that does not exist: %+v", p)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var p audit.Process
	for end := time.Now().Add(10 * time.Second); !p.Ended && time.Now().Before(end); {
		p = Of(cmd.Process.Pid)
	}
	if p.PID != cmd.Process.Pid || p.PPID != os.Getpid() || p.Exe != "" || !p.Ended {
		t.Errorf("a process that was not waited for: %+v", p)
	}
}

// TestHangs: where arguments hang, as those in a mapped file whose file system does not answer do, an event has all but them, and
// says so. Others' do not hang for it, once there is room for them again.
// Containment checks: P03.
func TestHangs(t *testing.T) {
	dir := t.TempDir() + "/"
	if err := os.WriteFile(dir+"status", []byte("Name:\tx\nTgid:\t7\nPPid:\t6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/x", dir+"exe"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"cmdline", 0o600); err != nil { // whose reader waits for a writer
		t.Fatal(err)
	}
	want := audit.Process{PID: 7, PPID: 6, Exe: "/bin/x", Unread: true}
	if p := of(dir, 8); !reflect.DeepEqual(p, want) {
		t.Errorf("whose arguments hang: %+v", p)
	}
	if p := Of(os.Getpid()); p.Unread || !slices.Equal(p.Argv, os.Args) {
		t.Errorf("another beside it: %+v", p)
	}
	var asked sync.WaitGroup
	for range maxReads - 1 {
		asked.Go(func() { of(dir, 8) })
	}
	asked.Wait()
	if p := Of(os.Getpid()); !p.Unread || p.Exe == "" || p.PPID != os.Getppid() {
		t.Errorf("where as many hang as may: %+v", p)
	}
	w, err := os.OpenFile(dir+"cmdline", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var p audit.Process
	for end := time.Now().Add(10 * time.Second); p.Argv == nil && time.Now().Before(end); {
		p = Of(os.Getpid())
	}
	if p.Unread || !slices.Equal(p.Argv, os.Args) {
		t.Errorf("when none hangs any more: %+v", p)
	}
}

// Containment checks: P03.
func TestArgvIsBounded(t *testing.T) {
	for in, want := range map[string]int{"": 0, "\x00": 0, "a\x00b\x00": 2, strings.Repeat("x\x00", 5000): maxArgs, "a\x00\x00b": 3} {
		if got := argv([]byte(in)); len(got) != want {
			t.Errorf("%d bytes: %d words, want %d", len(in), len(got), want)
		}
	}
}

// TestCutIsSaid: what does not fit into the log's argv is read a little beyond it, so that the log tells that it was cut.
func TestCutIsSaid(t *testing.T) {
	whole := strings.Repeat("y", audit.MaxArgv-audit.MaxArgs+1) + strings.Repeat("\x00z", audit.MaxArgs-1) + "\x00"
	for name, tt := range map[string]struct {
		in    string
		words int
		bytes int
	}{
		"all that fits":   {whole, audit.MaxArgs, audit.MaxArgv},
		"one more word":   {whole + "z\x00", audit.MaxArgs + 1, audit.MaxArgv + 1},
		"one more byte":   {"y" + whole, audit.MaxArgs, audit.MaxArgv + 1},
		"one long word":   {strings.Repeat("y", 9000) + "\x00", 1, maxBytes},
		"many short ones": {strings.Repeat("y\x00", 9000), audit.MaxArgs + 1, audit.MaxArgs + 1},
	} {
		words := argv([]byte(tt.in[:min(len(tt.in), maxBytes)]))
		if size := len(strings.Join(words, "")); len(words) != tt.words || size != tt.bytes {
			t.Errorf("%s: %d words and %d bytes, want %d and %d", name, len(words), size, tt.words, tt.bytes)
		}
	}
}
