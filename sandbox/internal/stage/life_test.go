// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOrphansReaped: 50 processes lose their parent and end while the command lives.
func TestOrphansReaped(t *testing.T) {
	output, expect := lines(t)
	j := start(t, output)
	j.ready(t, shellSpec(`for i in 1 2 3 4 5 6 7 8 9 10; do (for k in 1 2 3 4 5; do (:) & done); done; echo done; exec sleep 1000`))
	j.goOn(t)
	expect("done")
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		list := children(t, j.cmd.Process.Pid)
		if len(list) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("children of the stage: %v", list)
		}
	}
}

// TestThreadsAreThereWhenAwake: a stage never makes another thread, for which there may be no room when the command runs.
// Containment check: G18.
func TestThreadsAreThereWhenAwake(t *testing.T) {
	output, expect := lines(t)
	j := start(t, func(cmd *exec.Cmd) {
		output(cmd)
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=off") // as the supervisor does
	})
	if err := j.Awake(); err != nil {
		t.Fatal(err)
	}
	threads := func() int { return len(taskIDs(t, j.cmd.Process.Pid)) }
	before := threads()
	j.ready(t, shellSpec(`trap : USR1; echo listens; for i in $(seq 100); do (:) & done; while :; do wait; sleep 0.01; done`))
	j.goOn(t)
	expect("listens")
	t.Logf("%d threads", before)
	for range 200 {
		if err := j.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if now := threads(); now != before {
			t.Fatalf("%d threads, and %d when it was awake", now, before)
		}
	}
}

func taskIDs(t *testing.T, pid int) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSurvivorsKilled: what the command leaves behind ends with it. The test's copy of the output would never reach its
// end otherwise.
// Containment check: O05.
func TestSurvivorsKilled(t *testing.T) {
	st, out := runSpec(t, shellSpec(`trap '' HUP TERM INT; for i in 1 2 3; do (setsid sleep 1000 &) ; sleep 1000 & done; echo left; exit 2`))
	if st.Code != 2 || out != "left\n" {
		t.Errorf("%+v %q", st, out)
	}
}

// TestOutputEnds: the stage holds no copy of the command's files. A command that closes its output ends it.
func TestOutputEnds(t *testing.T) {
	output, expect := lines(t)
	j := start(t, output)
	j.ready(t, shellSpec(`echo last; exec sleep 1000 >/dev/null 2>&1`))
	j.goOn(t)
	expect("last")
	expect(outputEnd)
}

// TestSupervisorGone: at each point of the conversation the end of the socket is the end of everything.
func TestSupervisorGone(t *testing.T) {
	for _, at := range []string{"start", "ready", "running"} {
		j := start(t, nil)
		pid := 0
		if at != "start" {
			s := shellSpec("trap '' TERM HUP INT; while :; do sleep 1000; done")
			pid = j.ready(t, s).HostPID
		}
		if at == "running" {
			j.goOn(t)
		}
		j.end(t)
		if pid != 0 && unix.Kill(pid, 0) == nil {
			t.Errorf("%s: the command lives", at)
		}
	}
}

// TestStageKilled: SIGKILL of the stage from outside is seen as an error, not as a status.
// Containment check: G14.
func TestStageKilled(t *testing.T) {
	j := start(t, nil)
	r := j.ready(t, spec("/bin/sleep", "1000"))
	j.goOn(t)
	j.cmd.Process.Kill()
	if st, err := j.Wait(nil); err == nil {
		t.Errorf("status %+v of a command that was lost", st)
	}
	j.end(t)
	if unix.Kill(r.HostPID, 0) == nil {
		t.Error("the command lives")
	}
}

// TestKilledBeforeExec: a command's process that dies while the supervisor compares is an end like any other, also for who lets it go just
// then.
func TestKilledBeforeExec(t *testing.T) {
	j := start(t, nil)
	r := j.ready(t, spec("/bin/sleep", "1000"))
	unix.Kill(r.HostPID, unix.SIGKILL)
	st, err := j.Wait(nil)
	if err != nil || st.Signal != unix.SIGKILL {
		t.Errorf("%+v, %v", st, err)
	}
	if err := j.Go(); err != nil {
		t.Errorf("Go, which had nobody to tell: %v", err)
	}
}

// TestLargeSpec: arguments and variables up to what execve takes.
func TestLargeSpec(t *testing.T) {
	s := shellSpec(`echo $# ${#1}; exit 0`)
	s.Argv = append(s.Argv, "sh")
	for range 20 {
		s.Argv = append(s.Argv, strings.Repeat("x", 64<<10))
	}
	s.Env = append(s.Env, "BIG="+strings.Repeat("y", 100<<10))
	if st, out := runSpec(t, s); st != (Status{}) || out != "20 65536\n" {
		t.Errorf("%+v %q", st, out)
	}
	j := start(t, nil)
	for range 100 {
		s.Argv = append(s.Argv, strings.Repeat("x", 64<<10))
	}
	j.ready(t, s)
	if err := j.Go(); err == nil || !strings.Contains(err.Error(), "E2BIG") {
		t.Errorf("7 MiB of arguments: %v", err)
	}
}

// TestManyAtOnce: stages do not get in each other's way, and leave nothing behind.
func TestManyAtOnce(t *testing.T) {
	requireNamespaces(t)
	t.Run("group", func(t *testing.T) {
		for i := range 20 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				if st, out := runSpec(t, shellSpec(fmt.Sprintf("echo %d; exit %d", i, i))); st.Code != i || out != fmt.Sprintln(i) {
					t.Errorf("%+v %q", st, out)
				}
			})
		}
	})
}
