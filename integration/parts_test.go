// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a run does whose own processes are stopped or die.

// TestDeaf (G17): the deadline ends a run whose supervisor somebody has stopped.
func TestDeaf(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := start(t, p, "agentjail", "run", "--quiet", "--ttl", "5s", "--", "sh", "-c", "touch ready; sleep 300")
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	supervisor := children(c.Process.Pid)[0]
	halt(t, supervisor)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 124 {
		t.Errorf("exit %d, want 124", code)
	}
	wantEvent(t, p.ended(t), "deny", "-n", "1", "limit", "limit.ttl")
}

// TestStageKilled: the end of the run's first process is seen at once, whenever it comes, also where it is to be put into a cgroup.
func TestStageKilled(t *testing.T) {
	p := newPlace(t)
	args := []string{"run", "--quiet", "--", "sleep", "300"}
	if os.Getuid() == 0 {
		args = slices.Insert(args, 2, "--pids", "100")
	}
	for range 10 {
		c, out := start(t, p, "agentjail", args...)
		for deadline, killed := time.Now().Add(patience), false; !killed && time.Now().Before(deadline); { // before it says that it is awake
			for _, supervisor := range children(c.Process.Pid) {
				for _, pid := range children(supervisor) {
					if strings.Contains(procText(fmt.Sprintf("/proc/%d/cmdline", pid)), "agentjail-stage") {
						killed = syscall.Kill(pid, syscall.SIGKILL) == nil
					}
				}
			}
		}
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 125 || strings.Contains(out.String(), "ETIMEDOUT") {
			t.Fatalf("exit %d, output %q", code, out.String())
		}
		p.ended(t)
	}
	c, out := start(t, p, "agentjail", "run", "--", "sh", "-c", "touch ready; sleep 300")
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	syscall.Kill(children(children(c.Process.Pid)[0])[0], syscall.SIGKILL)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 125 || strings.Contains(out.String(), "supervisor died") {
		t.Errorf("exit %d, output %q", code, out.String())
	}
	wantEvent(t, p.ended(t), "report", "-reason", "a layer failed", "run", "run.end")
}

// TestA07Before: a gateway that dies before the command is executed means no command. It is a part of the supervisor.
func TestA07Before(t *testing.T) {
	p := newPlace(t)
	refused := 0
	for i := range 8 {
		os.Remove(p.project + "/started")
		c, out := start(t, p, "agentjail", "run", "--quiet", "--allow-net", "allowed.test", "--", "sh", "-c", "touch started; sleep 300")
		eventually(t, "there is a supervisor", func() bool { return len(children(c.Process.Pid)) > 0 })
		time.Sleep(time.Duration(i*i) * time.Millisecond)
		over := make(chan struct{})
		go func() {
			c.Wait()
			close(over)
		}()
		eventually(t, "the run is over", func() bool { // what is seen first may be a process by which Go's runtime looks at the kernel
			for _, pid := range children(c.Process.Pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			select {
			case <-over:
				return true
			default:
				return false
			}
		})
		if code := c.ProcessState.ExitCode(); code != 125 {
			t.Fatalf("exit %d, output %q", code, out.String())
		}
		events := p.ended(t)
		if last := events[len(events)-2]; last.Action == "run.refused" {
			refused++
			if exists(p.project + "/started") {
				t.Errorf("the log says that nothing was started, and the command was: %v", last)
			}
		}
	}
	if refused == 0 {
		t.Error("the supervisor was never killed before the command was executed")
	}
}

// TestA07After: a gateway that dies while the command talks ends the run. Nothing arrives afterwards, and nothing is left
// that could send it.
// Containment checks: G07, O06, Q10.
func TestA07After(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	mark := "gateway-" + filepath.Base(p.root)
	p.write(t, "talk.py", `
import os, socket, sys, time
count = 0
while True:
    count += 1
    try:
        with socket.create_connection(("allowed.test", 7), timeout=5) as s:
            s.sendall(b"%s-%d\n" % (sys.argv[1].encode(), count))
            s.recv(100)
    except OSError as err:
        print(err, flush=True)
    if count == 3: open("ready", "w").close()
    time.sleep(0.01)
`)
	c, out := start(t, p, "agentjail", "run", "--quiet", "--allow-net", "allowed.test:7", "--", "python3", "talk.py", mark)
	eventually(t, "the command talks", func() bool { return exists(p.project+"/ready") && s.heard(mark+"-3") })
	pid := p.commandPID(t)
	for _, child := range children(c.Process.Pid) {
		syscall.Kill(child, syscall.SIGKILL)
	}
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 125 {
		t.Errorf("exit %d, output %q", code, out.String())
	}
	// The kernel may not have come to the end of it, but it has no memory any more.
	if procText(fmt.Sprintf("/proc/%d/cmdline", pid)) != "" {
		t.Errorf("the command is still there: %d", pid)
	}
	arrived := s.count(mark)
	time.Sleep(200 * time.Millisecond)
	if now := s.count(mark); now != arrived || arrived < 3 {
		t.Errorf("%d messages had arrived, %d after the end of the run", arrived, now)
	}
	wantEvent(t, p.ended(t), "report", "-reason", "the supervisor died", "run", "run.end")
}

// order makes ten connections, then ten attempts that are refused, says so, and waits to be killed.
const order = `
import os, signal, socket, sys
for n in range(10):
    with socket.create_connection(("allowed.test", 7), timeout=20) as s:
        s.sendall(b"%s-%d\n" % (sys.argv[1].encode(), n))
        s.recv(100)
tell = os.open("tell", os.O_WRONLY)
for n in range(10):
    try:
        os.mkdir("/usr/order-%d" % n)
    except OSError:
        pass
if sys.argv[2] == "itself":
    os.kill(os.getpid(), signal.SIGKILL)
os.write(tell, b"x")
signal.pause()
`

// TestQ10Order: what a run is refused or allowed is with the supervisor, and on its way to the log, before the command sees what became of
// it. So the command's death takes no event with it, at whatever moment, nor does the supervisor's own where the launcher has kept up; the
// end says what happened.
func TestQ10Order(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	p.write(t, "order.py", order)
	if err := syscall.Mkfifo(p.project+"/tell", 0o600); err != nil {
		t.Fatal(err)
	}
	tell, err := os.OpenFile(p.project+"/tell", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tell.Close()
	tell.SetReadDeadline(time.Now().Add(4 * patience))
	for i := range 6 {
		who := []string{"itself", "the supervisor"}[i%2]
		mark := fmt.Sprintf("order-%d-%s", i, filepath.Base(p.root))
		c, out := start(t, p, "agentjail", "run", "--quiet", "--ttl", "2m", "--allow-net", "allowed.test:7", "--", "python3", "order.py", mark, who)
		if who != "itself" {
			if _, err := tell.Read(make([]byte, 1)); err != nil {
				t.Fatal(err, out.String())
			}
			for _, pid := range children(c.Process.Pid) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		c.Wait()
		events := p.ended(t)
		connections, refused := 0, 0
		for _, e := range events {
			switch {
			case e.Action == "tcp.connect" && e.Decision == "allow":
				connections += e.attempts()
			case e.Action == "mkdir" && e.Target == fmt.Sprintf("/usr/order-%d", refused):
				refused++
			case e.Action == "mkdir":
				t.Errorf("%v is on record, and not the one before", e)
			}
		}
		if heard := s.count(mark); heard != 10 || connections != heard {
			t.Errorf("%d connections are on record, %d arrived; output %q", connections, heard, out.String())
		}
		if refused != 10 {
			t.Errorf("%d of 10 refusals are on record:\n%s", refused, listing(events))
		}
		if who != "itself" {
			wantEvent(t, events, "report", "-reason", "the supervisor died", "run", "run.end")
		}
	}
}
