// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// next waits for one event, and fails the test when it does not come.
func (j *jail) next(t testing.TB) Event {
	t.Helper()
	j.conn.SetReadDeadline(time.Now().Add(hang))
	ev, err := j.Next()
	if err != nil {
		t.Fatalf("no event: %v; output %q", err, j.out.String())
	}
	return ev
}

func (j *jail) goOn(t testing.TB) {
	t.Helper()
	if err := j.Go(); err != nil {
		t.Fatal(err)
	}
}

func TestStopAndContinue(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGTSTP} {
		j := start(t, nil)
		j.ready(t, shellSpec(fmt.Sprintf("kill -%d $$; exit 5", sig)))
		j.goOn(t)
		if ev := j.next(t); ev != (Event{Kind: Stopped, Signal: sig}) {
			t.Fatalf("event %+v, want stopped by %v", ev, sig)
		}
		if err := j.Continue(sig == unix.SIGSTOP); err != nil { // without a terminal it is the same
			t.Fatal(err)
		}
		if ev := j.change(t); ev != (Event{Kind: Exited, Code: 5}) {
			t.Errorf("event %+v", ev)
		}
		if ev, err := j.Next(); err == nil {
			t.Errorf("%+v after the end", ev)
		}
	}
}

// outputEnd is no line.
const outputEnd = "\x00end"

// lines makes a pipe for the command's output, and expects it line by line.
func lines(t testing.TB) (func(*exec.Cmd), func(want string)) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	in := bufio.NewScanner(r)
	expect := func(want string) {
		t.Helper()
		w.Close()
		r.SetReadDeadline(time.Now().Add(hang))
		if want == outputEnd {
			if in.Scan() || in.Err() != nil {
				t.Fatalf("the output does not end: %q, %v", in.Text(), in.Err())
			}
			return
		}
		if !in.Scan() || in.Text() != want {
			t.Fatalf("the command says %q, %v, want %q", in.Text(), in.Err(), want)
		}
	}
	return func(cmd *exec.Cmd) { cmd.Stdout = w }, expect
}

// TestSignalReachesGroup: what a terminal would send goes to the shell and to its child, the rest to the shell alone.
func TestSignalReachesGroup(t *testing.T) {
	output, expect := lines(t)
	j := start(t, output)
	j.ready(t, shellSpec(`trap 'echo INT' INT; trap 'kill -0 $! && echo the child lives' USR1; trap 'echo TERM; exit 3' TERM
		echo ready; sleep 1000; echo the child has ended
		sleep 1000 & echo second; while :; do wait; done`))
	j.goOn(t)
	expect("ready")
	j.sleeps(t)
	j.Signal(unix.SIGINT)
	expect("INT")
	expect("the child has ended")
	expect("second")
	j.Signal(unix.SIGUSR1)
	expect("the child lives")
	j.Signal(unix.SIGTERM)
	expect("TERM")
	if st, err := j.Wait(nil); err != nil || st.Code != 3 {
		t.Errorf("%+v, %v", st, err)
	}
}

// childOf is the pid outside of the only child of the stage.
func childOf(t testing.TB, j *jail) int {
	t.Helper()
	list := children(t, j.cmd.Process.Pid)
	if len(list) != 1 {
		t.Fatalf("children of the stage: %v", list)
	}
	return list[0]
}

// sleeps waits until the command's child is a sleep, and gives its pid. A child of vfork(2) that has not executed yet
// keeps its parent from taking signals.
func (j *jail) sleeps(t testing.TB) int {
	t.Helper()
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, pid := range children(t, childOf(t, j)) {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(b) == "sleep\n" {
				return pid
			}
		}
	}
	t.Fatal("the command has no child that sleeps")
	return 0
}

func children(t testing.TB, pid int) (list []int) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if len(files) == 0 {
		t.Fatalf("process %d is gone", pid)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			var n int
			fmt.Sscan(s, &n)
			list = append(list, n)
		}
	}
	return list
}

// TestStageIsDeaf sends pid 1, from outside, what the command could send it from inside where Landlock has no scopes.
func TestStageIsDeaf(t *testing.T) {
	j := start(t, nil)
	j.ready(t, shellSpec("for s in HUP INT QUIT ILL ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM URG TSTP 34 64; do kill -$s 1; done 2>/dev/null; read x; exit 4"))
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP {
			if err := unix.Kill(j.cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	j.goOn(t)
	if st, err := j.Wait(nil); err != nil || st.Code != 4 {
		t.Errorf("%+v, %v: the stage did not outlive the signals", st, err)
	}
}

// TestManySignals keeps the stage busy under its own filter: goroutines, garbage, timers.
// Containment check: G11.
func TestManySignals(t *testing.T) {
	j := start(t, nil)
	j.ready(t, shellSpec("trap 'exit 6' TERM; while :; do sleep 1000 & wait; done"))
	j.goOn(t)
	for range 20_000 {
		if err := j.Signal(unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
	}
	j.Signal(unix.SIGTERM)
	if st, err := j.Wait(nil); err != nil || st.ExitCode() != 6 && st.Signal != unix.SIGTERM {
		t.Errorf("%+v, %v", st, err)
	}
	if j.Signal(0) == nil || j.Signal(65) == nil {
		t.Error("a signal that does not exist was sent")
	}
}

// terminal opens a pseudo terminal.
func terminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	s, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	return master, os.NewFile(s, "pts")
}

// TestTerminal types at a command: it has the terminal as its controlling one, in the foreground; Ctrl-Z stops it and
// all its group, SIGCONT goes on, Ctrl-C ends it. libcontainer may have given the terminal to the stage before.
func TestTerminal(t *testing.T) {
	for name, before := range map[string]bool{"free": false, "the stage's": true} {
		t.Run(name, func(t *testing.T) { typeAt(t, before) })
	}
}

func typeAt(t *testing.T, before bool) {
	master, slave := terminal(t)
	j := start(t, func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = before, before
	})
	slave.Close()
	s := shellSpec(`trap 'echo INT; exit 8' INT; read x </dev/tty; echo "got $x" >/dev/tty; sleep 1000; exit 9`)
	s.Terminal, s.Foreground = true, true
	j.ready(t, s)
	j.goOn(t)
	says := reader(t, master)
	io.WriteString(master, "typed\n")
	says("got typed")
	j.sleeps(t)
	io.WriteString(master, "\x1a") // Ctrl-Z
	j.stops(t, unix.SIGTSTP)
	j.Signal(unix.SIGCONT)
	if ev := j.next(t); ev != (Event{Kind: Continued}) {
		t.Fatalf("after SIGCONT: %+v", ev)
	}
	io.WriteString(master, "\x03") // Ctrl-C
	says("INT")
	if ev := j.next(t); ev != (Event{Kind: Exited, Code: 8}) {
		t.Errorf("after Ctrl-C: %+v", ev)
	}
}

// TestBackground: a command in the background of its terminal is stopped when it wants the keys, whatever else it has
// started, and has them with Continue(true). Continue(false) takes them away again.
func TestBackground(t *testing.T) {
	master, slave := terminal(t)
	j := start(t, func(cmd *exec.Cmd) { cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave })
	slave.Close()
	s := shellSpec(`echo begin; read x; echo "got $x"; trap 'echo INT' INT; kill -TSTP $$; echo on; sleep 1000; stty -echo; echo off; read y; echo "got $y"; exit 7`)
	s.Terminal = true
	j.ready(t, s)
	j.goOn(t)
	says := reader(t, master)
	says("begin")
	for range 2 { // in the background it asks again
		j.stops(t, unix.SIGTTIN)
		if group := foreground(t, master); group == childOf(t, j) {
			t.Error("the command is in the foreground")
		}
		j.Continue(false)
	}
	j.stops(t, unix.SIGTTIN)
	j.Continue(true)
	io.WriteString(master, "one\n")
	says("got one")
	if group := foreground(t, master); group != childOf(t, j) {
		t.Errorf("group %d is in the foreground, not the command's, %d", group, childOf(t, j))
	}
	j.stops(t, unix.SIGTSTP)
	j.Continue(false)
	says("on")
	j.sleeps(t)
	j.Signal(unix.SIGINT) // nobody is in the foreground: it is the command's
	says("INT")
	j.stops(t, unix.SIGTTOU)
	j.Continue(true)
	says("off")
	io.WriteString(master, "two\n")
	says("got two")
	if ev := j.change(t); ev != (Event{Kind: Exited, Code: 7}) {
		t.Errorf("event %+v", ev)
	}
}

// change is the next event that is no Continued: the kernel forgets that one when the next comes first.
func (j *jail) change(t *testing.T) Event {
	t.Helper()
	for {
		if ev := j.next(t); ev.Kind != Continued {
			return ev
		}
	}
}

func (j *jail) stops(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if ev := j.change(t); ev != (Event{Kind: Stopped, Signal: sig}) {
		t.Fatalf("event %+v, want a stop by %v", ev, sig)
	}
}

// reader waits for text on the terminal.
func reader(t testing.TB, master *os.File) func(string) {
	var seen strings.Builder
	return func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		master.SetReadDeadline(time.Now().Add(hang))
		for !strings.Contains(seen.String(), want) {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatalf("the terminal shows %q, %v, want %q", seen.String(), err, want)
			}
			seen.Write(buf[:n])
		}
	}
}

// TestForegroundGroup: a shell with job control puts another group in the foreground, and the signals follow.
func TestForegroundGroup(t *testing.T) {
	master, slave := terminal(t)
	j := start(t, func(cmd *exec.Cmd) { cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave })
	slave.Close()
	s := shellSpec(`set -m; sleep 1000; echo "child ended"; exit 5`)
	s.Terminal, s.Foreground = true, true
	j.ready(t, s)
	j.goOn(t)
	says := reader(t, master)
	sleeper := j.sleeps(t)
	for foreground(t, master) != sleeper {
		time.Sleep(time.Millisecond)
	}
	j.Signal(unix.SIGQUIT)
	says("child ended")
	if ev := j.next(t); ev != (Event{Kind: Exited, Code: 5}) {
		t.Errorf("event %+v: the signal was not meant for the shell", ev)
	}
}

// foreground gives the group in the foreground. File.Fd would make the master blocking.
func foreground(t testing.TB, master *os.File) (group int) {
	t.Helper()
	conn, err := master.SyscallConn()
	if err == nil {
		conn.Control(func(fd uintptr) { group, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return group
}

// TestNoTerminal: one of the files has to be a terminal that is free.
func TestNoTerminal(t *testing.T) {
	j := start(t, nil) // file 0 is /dev/null, the others are pipes
	s := shellSpec("exit 0")
	s.Terminal = true
	_, err := j.Prepare(s)
	var e *Error
	if !errors.As(err, &e) || e.Step != StepTerminal || e.Errno != unix.ENOTTY {
		t.Errorf("%v, want the step %q and ENOTTY", err, StepTerminal)
	}
}
