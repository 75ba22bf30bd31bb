// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestO06Unmarked (O06): what a launcher left that was killed before it had noted down that its run lives is no run's: agentjail prune
// removes the cgroup, and not that of a run which goes on.
func TestO06Unmarked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := mounts(t)
	limit, groups := "--ttl=1h", 0
	if os.Getuid() == 0 { // an ordinary user may have no cgroup
		limit, groups = "--pids=1000", 1
	}
	begin := func(ready string) (c *exec.Cmd, run string, inside []int) {
		c, _ = start(t, p, "agentjail", "run", "--quiet", limit, "--", "sh", "-c", "touch "+ready+"; sleep 300")
		eventually(t, "the command runs", func() bool { return exists(p.project + "/" + ready) })
		_, run, err := newestLog(p.state)
		if err != nil {
			t.Fatal(err)
		}
		supervisor := children(c.Process.Pid)
		return c, run, append(supervisor, children(supervisor[0])...)
	}
	c, killed, inside := begin("first")
	goesOn, live, _ := begin("second")
	c.Process.Kill()
	c.Wait()
	gone(t, inside)
	for _, noted := range []string{"live/", "runs/"} {
		if err := os.RemoveAll(p.state + "/agentjail/" + noted + killed); err != nil {
			t.Fatal(err)
		}
	}
	// Another run with limits may have removed that of the run that was killed by now.
	if m := len(cgroupsOf(live)); m < groups {
		t.Errorf("before: %d groups of the run that goes on", m)
	}
	p.must(t, "agentjail", "prune")
	if left := cgroupsOf(killed); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if len(cgroupsOf(live)) < groups {
		t.Error("the group of a run that goes on is gone")
	}
	goesOn.Process.Signal(syscall.SIGTERM)
	goesOn.Wait()
	clean(t, p, before)
}

// TestO07Early (O07): who ends a start by a signal is told so, in one line, whatever the start was about to do. Once the command runs there
// is nothing to tell.
func TestO07Early(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := mounts(t)
	const moments = 30
	const line = "agentjail: start: ended by a signal: terminated\n"
	began := time.Now()
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
	whole := time.Since(began) // and so the start is less
	told := 0
	for i := range moments {
		c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sleep", "300")
		time.Sleep(whole * time.Duration(i) / moments)
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		switch code := c.ProcessState.ExitCode(); {
		case code == 143 && out.String() == line:
			told++
		case code != 143 && code != -1 || out.Len() > 0: // -1: before it took signals
			t.Errorf("moment %d: exit %d\n%s", i, code, out)
		}
	}
	if told == 0 {
		t.Errorf("in %d starts no signal came before the command", moments)
	}
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
	clean(t, p, before)
}

// TestO07Untaken (O07, G17): SIGTERM also ends a run whose supervisor somebody has stopped while the command runs, by the code of the signal
// and with the end of its log. The twin: where the supervisor goes on, the command does what it likes with it.
func TestO07Untaken(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"stays": 143, "goes on": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			before := mounts(t)
			c, out := start(t, p, "agentjail", "run", "--", "sh", "-c", "trap 'exit 7' TERM; touch ready; while :; do sleep 0.1; done")
			eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
			supervisor := children(c.Process.Pid)[0]
			inside := append(children(supervisor), supervisor)
			halt(t, supervisor)
			c.Process.Signal(syscall.SIGTERM)
			if want == 7 {
				syscall.Kill(supervisor, syscall.SIGCONT)
			}
			c.Wait()
			const reason = "the supervisor did not pass on a signal that was to end it"
			if code := c.ProcessState.ExitCode(); code != want || strings.Contains(out.String(), reason) != (want == 143) {
				t.Errorf("exit %d, want %d\n%s", code, want, out)
			}
			gone(t, inside)
			events := p.ended(t)
			if want == 143 {
				wantEvent(t, events, "report", "-n", "1", "-reason", reason, "run", "run.end")
			}
			clean(t, p, before)
		})
	}
}

// sameUserNamespace tells whether two processes share one. A supervisor has its own; a child that Go's runtime forks to look at the kernel
// has its parent's, which could not end while that child is stopped (CLONE_VFORK).
func sameUserNamespace(a, b int) bool {
	first, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", a))
	second, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", b))
	return err == nil && err2 == nil && first == second
}

// TestO07Stopped (O07): SIGTERM ends a start also where its supervisor was stopped as soon as it was forked. What was stopped before it was
// agentjail's ends when it goes on.
func TestO07Stopped(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := mounts(t)
	early := 0
	for i := range 12 {
		c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sleep", "300")
		var child []int
		stopped := false
		for deadline := time.Now().Add(patience); !stopped && time.Now().Before(deadline); {
			child = children(c.Process.Pid)
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			stopped = len(child) > 0 && !sameUserNamespace(child[0], c.Process.Pid) && syscall.Kill(child[0], syscall.SIGSTOP) == nil
		}
		if !stopped {
			t.Fatalf("no supervisor: %s", out)
		}
		if strings.Contains(procText(fmt.Sprintf("/proc/%d/cmdline", child[0])), "agentjail-supervisor") {
			syscall.Kill(child[0], syscall.SIGCONT) // its command may run by now, which is what TestO06Stopped is about
		} else {
			early++
		}
		time.Sleep(100 * time.Millisecond) // for the launcher to wait for it
		c.Process.Signal(syscall.SIGTERM)
		ended := make(chan *os.ProcessState)
		go func() {
			state, _ := c.Process.Wait() // not until its output is closed, which what was stopped has as well
			ended <- state
		}()
		code := 0
		select {
		case state := <-ended:
			code = state.ExitCode()
		case <-time.After(patience):
			t.Fatalf("start %d does not end: %s", i, procText(fmt.Sprintf("/proc/%d/cmdline", child[0])))
		}
		if code != 143 && code != -1 { // -1: before it took signals
			t.Errorf("start %d: exit %d\n%s", i, code, out)
		}
		syscall.Kill(child[0], syscall.SIGCONT)
		gone(t, child)
	}
	t.Logf("%d were stopped in time", early)
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
	clean(t, p, before)
}
