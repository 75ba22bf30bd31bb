// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseCall(t *testing.T) {
	full := Call{Known: true, Nr: 257, Args: [6]uint64{0xffffff9c, 0x7ffd1, 0x80000, 0, 0xffffffffffffffff, 5}}
	for line, want := range map[string]Call{
		"257 0xffffff9c 0x7ffd1 0x80000 0x0 0xffffffffffffffff 0x5 0x7ffdc0 0x7f12\n": full,
		"257 0xffffff9c 0x7ffd1 0x80000 0x0 0xffffffffffffffff 0x5 0x7ffdc0 0x7f12":   full,
		"0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n":                                         {Known: true},
		"-1 0x7ffdc0 0x7f12\n":                                                        {Known: true, Nr: -1},
	} {
		if got, ok := ParseCall([]byte(line)); !ok || got != want {
			t.Errorf("%q: got %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{
		"", "\n", "running\n", "257", "257 0x1", "-1", "-1 0x1 0x2 0x3", "-2 0x1 0x2", "-1 0x1 2",
		"257 0x1 0x2 0x3 0x4 0x5 0x6 0x7", "257 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8 0x9", "257 1 0x2 0x3 0x4 0x5 0x6 0x7 0x8",
		"257  0x1 0x2 0x3 0x4 0x5 0x6 0x7", "0x101 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8", "257 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x",
		"257 0x11111111111111111 0x2 0x3 0x4 0x5 0x6 0x7 0x8", "99999999999 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8",
		"257 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x" + strings.Repeat("0", 300) + "8",
	} {
		if got, ok := ParseCall([]byte(line)); ok || got.Known {
			t.Errorf("%q: accepted as %+v", line, got)
		}
	}
}

// FuzzSyscallLine checks that whatever is accepted is what the line says, and that it has an action.
// Containment checks: P01.
func FuzzSyscallLine(f *testing.F) {
	f.Add([]byte("257 0xffffff9c 0x7ffd1 0x80000 0x0 0xffffffffffffffff 0x5 0x7ffdc0 0x7f12\n"))
	f.Add([]byte("-1 0x7ffdc0 0x7f12\n"))
	f.Add([]byte("running\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, ok := ParseCall(line)
		if ok != c.Known {
			t.Fatalf("%q: ok is %v, but %+v", line, ok, c)
		}
		if !ok {
			return
		}
		if c.Action() == "" || c.Nr < -1 {
			t.Errorf("%q: %+v has action %q", line, c, c.Action())
		}
		if c.Nr < 0 {
			return
		}
		// Written again and read again it is the same.
		again := fmt.Sprintf("%d %#x %#x %#x %#x %#x %#x 0x0 0x0", c.Nr, c.Args[0], c.Args[1], c.Args[2], c.Args[3], c.Args[4], c.Args[5])
		if d, ok := ParseCall([]byte(again)); !ok || d != c {
			t.Errorf("%q: %+v and then %+v", line, c, d)
		}
	})
}

func TestActions(t *testing.T) {
	tests := []struct {
		c     Call
		want  Action
		makes bool
	}{
		{Call{}, ActionOther, false},
		{call(-1), ActionOther, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_RDONLY|unix.O_CLOEXEC), ActionOpenRead, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_RDONLY|unix.O_DIRECTORY), ActionOpenRead, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_RDWR), ActionOpenWrite, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_TRUNC), ActionOpenWrite, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_PATH), ActionStat, false},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_CREAT), ActionOpenRead, true},
		{call(unix.SYS_OPENAT, 0, 0, unix.O_CREAT|unix.O_WRONLY), ActionOpenWrite, true},
		{call(unix.SYS_OPENAT2), ActionOpen, true},
		{call(unix.SYS_TRUNCATE), ActionTruncate, false},
		{call(sysFstatat), ActionStat, false},
		{call(unix.SYS_STATX), ActionStat, false},
		{call(unix.SYS_STATFS), ActionStat, false},
		{call(unix.SYS_FACCESSAT), ActionAccess, false},
		{call(unix.SYS_FACCESSAT2), ActionAccess, false},
		{call(unix.SYS_EXECVE), ActionExec, false},
		{call(unix.SYS_EXECVEAT), ActionExec, false},
		{call(unix.SYS_READLINKAT), ActionReadlink, false},
		{call(unix.SYS_MKNODAT), ActionMknod, true},
		{call(unix.SYS_MKDIRAT), ActionMkdir, true},
		{call(unix.SYS_LINKAT), ActionLink, true},
		{call(unix.SYS_SYMLINKAT), ActionSymlink, true},
		{call(unix.SYS_RENAMEAT2), ActionRename, true},
		{call(unix.SYS_UNLINKAT), ActionUnlink, false},
		{call(unix.SYS_UNLINKAT, 0, 0, unix.AT_REMOVEDIR), ActionRmdir, false},
		{call(unix.SYS_FCHMODAT), ActionChmod, false},
		{call(unix.SYS_FCHOWNAT), ActionChown, false},
		{call(unix.SYS_UTIMENSAT), ActionUtime, false},
		{call(unix.SYS_INOTIFY_ADD_WATCH), ActionWatch, false},
		{call(unix.SYS_FANOTIFY_MARK), ActionWatch, false},
		{call(unix.SYS_CHDIR), ActionChdir, false},
		{call(unix.SYS_CONNECT), ActionConnect, false},
		{call(unix.SYS_SENDTO), ActionConnect, false},
		{call(unix.SYS_BIND), ActionBind, true},
		{call(unix.SYS_GETXATTR), ActionXattr, false},
		{call(unix.SYS_LREMOVEXATTR), ActionXattr, false},
		{call(464), ActionXattr, false},
		{call(468), ActionStat, false},
		{call(unix.SYS_READ), ActionOther, false},
		{call(unix.SYS_IO_URING_ENTER), ActionOther, false},
		{call(1 << 30), ActionOther, false},
	}
	for _, test := range tests {
		if got := test.c.Action(); got != test.want {
			t.Errorf("%+v: action %q, want %q", test.c, got, test.want)
		}
		if got := test.c.makesNames(); got != test.makes {
			t.Errorf("%+v: makes names: %v, want %v", test.c, got, test.makes)
		}
	}
}

func TestStarts(t *testing.T) {
	here := func(fd int32) uint64 { return uint64(uint32(fd)) }
	for _, test := range []struct {
		c    Call
		want []int
	}{
		{call(unix.SYS_MKDIRAT, 3, 4, 5), []int{3}},
		{call(unix.SYS_MKNODAT, here(unix.AT_FDCWD)), []int{unix.AT_FDCWD}},
		{call(unix.SYS_SYMLINKAT, 3, 4, 5), []int{4}},
		{call(unix.SYS_LINKAT, 3, 4, 5, 6), []int{3, 5}},
		{call(unix.SYS_INOTIFY_ADD_WATCH, 3), []int{unix.AT_FDCWD}},
		{Call{}, []int{unix.AT_FDCWD}},
	} {
		if got := test.c.starts(); !slices.Equal(got, test.want) {
			t.Errorf("%+v starts at %d, want %d", test.c, got, test.want)
		}
	}
}

// TestLegacyActions has the numbers of the x86-64 table, arch/x86/entry/syscalls/syscall_64.tbl.
func TestLegacyActions(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only x86-64 has these calls")
	}
	for nr, want := range map[int]Action{
		4: ActionStat, 6: ActionStat, 21: ActionAccess, 82: ActionRename, 83: ActionMkdir, 84: ActionRmdir, 85: ActionCreate,
		86: ActionLink, 87: ActionUnlink, 88: ActionSymlink, 89: ActionReadlink, 90: ActionChmod, 92: ActionChown,
		133: ActionMknod, 235: ActionUtime,
	} {
		if got := call(nr).Action(); got != want {
			t.Errorf("call %d: action %q, want %q", nr, got, want)
		}
	}
	if c := call(2, 0, unix.O_CREAT|unix.O_RDWR); c.Action() != ActionOpenWrite || !c.makesNames() {
		t.Errorf("open to create: %q, %v", c.Action(), c.makesNames())
	}
	if c := call(85); !c.makesNames() {
		t.Error("creat makes no names")
	}
}

// TestReadCallOfRunning: a thread that is about to wait is waited for, and one that goes on running is not for long. A shell is
// one whose thread no runtime stops.
func TestReadCallOfRunning(t *testing.T) {
	callOf := func(script string) (Call, bool) {
		shell := exec.Command("/bin/sh", "-c", "echo up; "+script)
		stdin, err1 := shell.StdinPipe()
		stdout, err2 := shell.StdoutPipe()
		if err := errors.Join(err1, err2, shell.Start()); err != nil {
			t.Fatal(err)
		}
		defer func() { stdin.Close(); shell.Process.Kill(); shell.Wait() }()
		if _, err := io.ReadFull(stdout, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		return readCall(shell.Process.Pid)
	}
	waits := func(tries int) bool {
		c, ok := callOf(fmt.Sprintf("i=%d; while [ $i -lt 20000 ]; do i=$((i + 1)); done; read line", 20000-20000/tries))
		return ok && c.Nr == unix.SYS_READ && c.Args[0] == 0
	}
	runs := func(int) bool {
		_, ok := callOf("while :; do :; done")
		return !ok
	}
	// A machine under load may keep a thread from its call, which is why there is less and less before it, or stop one that has written its
	// line before it goes on.
	for name, is := range map[string]func(tries int) bool{"about to wait": waits, "running on": runs} {
		for tries := 1; !is(tries); tries++ {
			if tries == 10 {
				t.Errorf("a thread that is %s was taken for something else", name)
				break
			}
		}
	}
}

// TestReadCall reads the call of a thread of our own that is blocked in a known one.
func TestReadCall(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	tid := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		tid <- unix.Gettid()
		_, _ = unix.Read(pipe[0], make([]byte, 7))
	}()
	id := <-tid
	for {
		c, ok := readCall(id)
		if !ok || c.Nr != unix.SYS_READ || c.Args[2] != 7 {
			runtime.Gosched() // it is on its way
			continue
		}
		if c.Args[0] != uint64(pipe[0]) {
			t.Errorf("reads from %d, want %d", c.Args[0], pipe[0])
		}
		break
	}
	unix.Close(pipe[1])
	if c, ok := readCall(1 << 30); ok {
		t.Errorf("a thread that cannot be is in %+v", c)
	}
	if of := ThreadOf(unix.Getpid()); !of(unix.Getpid()) || of(1) {
		t.Error("ThreadOf knows other threads than ours")
	}
}
