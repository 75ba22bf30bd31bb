// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long an event may take that follows from another. Nothing is timed by it; it ends what would hang.
const patience = 30 * time.Second

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not so: %s", patience, what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestPipes: what goes through the standard files is passed on byte for byte, and ends where it ended.
// Containment check: M07.
func TestPipes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	data := make([]byte, 8<<20)
	rand.Read(data)
	c := p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "cat; echo to-stderr >&2")
	c.Stdin = bytes.NewReader(data)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatal(err, errs.String())
	}
	if sha256.Sum256(out.Bytes()) != sha256.Sum256(data) {
		t.Errorf("%d bytes went in, %d others came out", len(data), out.Len())
	}
	if errs.String() != "to-stderr\n" {
		t.Errorf("stderr is %q", errs.String())
	}
}

// TestPipeClosed (O07): a reader that leaves ends the writer, as in a shell.
func TestPipeClosed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stdout := p.must(t, "bash", "-c", "agentjail run --quiet -- yes | head -n 1; echo ${PIPESTATUS[0]}")
	if stdout != "y\n141\n" && stdout != "y\n1\n" {
		t.Errorf("got %q", stdout)
	}
}

// TestClosedFiles (N08): a command started without standard files runs.
func TestClosedFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(t, "sh", "-c", "agentjail run --quiet -- touch made <&- >&- 2>&-")
	if !exists(p.project + "/made") {
		t.Error("the command did not run")
	}
}

// TestSignals (O07): a signal to the launcher is one to the command.
func TestSignals(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1,
	} {
		t.Run("caught "+name, func(t *testing.T) {
			p := newPlace(t)
			script := fmt.Sprintf("trap 'echo got; exit 7' %s; touch ready; while :; do sleep 0.1; done", name)
			c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sh", "-c", script)
			eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
			c.Process.Signal(signal)
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != 7 || !strings.Contains(out.String(), "got") {
				t.Errorf("exit %d, output %q", code, out.String())
			}
		})
	}
	// nohup(1), and a shell's background jobs: what the caller ignores is not passed on.
	for name, signal := range map[string]syscall.Signal{"INT": syscall.SIGINT, "HUP": syscall.SIGHUP} {
		t.Run("ignored "+name, func(t *testing.T) {
			p := newPlace(t)
			script := fmt.Sprintf("trap '' %s; exec agentjail run --quiet -- sh -c 'touch ready; while ! [ -e end ]; do sleep 0.1; done; exit 7'", name)
			c, out := start(t, p, "sh", "-c", script)
			eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
			c.Process.Signal(signal)
			time.Sleep(200 * time.Millisecond) // a signal that is passed on would end the command by then
			os.WriteFile(p.project+"/end", nil, 0o666)
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != 7 {
				t.Errorf("exit %d, output %q", code, out.String())
			}
		})
	}
	t.Run("not caught", func(t *testing.T) {
		p := newPlace(t)
		c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sh", "-c", "touch ready; exec sleep 300")
		eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 143 {
			t.Errorf("exit %d, output %q", code, out.String())
		}
		p.ended(t)
	})
}

func start(t *testing.T, p place, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	c := p.command(name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return c, &out
}

// reap runs agentjail below the probe that sees orphans, and fails if a process is left.
func reap(t *testing.T, p place, flags []string, command ...string) {
	t.Helper()
	args := append([]string{"reap"}, flags...)
	args = append(args, "--", suite.base+"/bin/agentjail", "run", "--quiet", "--")
	c := p.command("probe", append(args, command...)...)
	stdout, stderr, code := finish(t, c)
	if code != 0 {
		t.Fatalf("%v: exit %d\n%s%s", flags, code, stdout, stderr)
	}
}

// TestO05Survivors: nothing that a command leaves behind outlives the run, however well it hides: no process, listener,
// mount or file, and so no namespace.
func TestO05Survivors(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := mounts(t)
	p.write(t, "leave.py", `
import ctypes, os, signal, socket, subprocess, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        for s in range(1, 32):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        tcp = socket.create_server(("127.0.0.1", 7070))
        local = socket.socket(socket.AF_UNIX)
        local.bind("left.sock")
        local.listen()
        open("hidden", "w").close()
        time.sleep(600)
    os._exit(0)
stopped = subprocess.Popen(["sleep", "600"])
os.kill(stopped.pid, signal.SIGSTOP)
subprocess.Popen(["setsid", "nohup", "sh", "-c", "trap '' TERM HUP INT; sleep 600"], stdout=subprocess.DEVNULL)
while not os.path.exists("hidden"): time.sleep(0.01)
for later in lambda: open("/etc/crontab", "a"), lambda: os.makedirs(os.path.expanduser("~/.config/systemd/user")):
    try: later()
    except OSError: pass
`)
	reap(t, p, nil, "python3", "leave.py")
	if !exists(p.project + "/hidden") {
		t.Fatal("the command did not get as far as leaving something behind")
	}
	events := p.ended(t)
	if c, err := net.Dial("unix", p.project+"/left.sock"); err == nil {
		c.Close()
		t.Error("a socket of the run is still served")
	}
	wantEvent(t, events, "deny", "-n", "1", "file", "create|open-write", "/etc/crontab")
	wantEvent(t, events, "deny", "-n", "1", "file", "mkdir", p.home+"/.config/systemd.*")
	clean(t, p, before)
}

// TestO06Killed (O06, Q06): SIGKILL of the launcher, of the supervisor or of the run's first process at any moment, or of the launcher of
// a supervisor that stands still, with the gateway in it, leaves no process, mount, cgroup or file. A launcher that lives writes the end of
// its log; without one the log is good as far as it goes, and the next run reports it. make stress kills 50 of each.
// Containment checks: G07, Q10.
func TestO06Killed(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"supervisor", "stage", "launcher", "stopped"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			before := mounts(t)
			began := time.Now()
			p.must(t, "agentjail", "run", "--quiet", "--", "true")
			whole := time.Since(began) // and so the start is less
			times := max(stress()/20, 12)
			for i := range times {
				// From before the first namespace to well into the command, in no order.
				after := whole * time.Duration(i*7%times) / time.Duration(times)
				reap(t, p, []string{"-kill", who, "-after", after.String()}, "sh", "-c", "sleep 300 & sleep 300")
			}
			p.must(t, "agentjail", "run", "--quiet", "--", "true")
			checkKilled(t, p, who == "launcher" || who == "stopped")
			clean(t, p, before)
		})
	}
}

// checkKilled checks that each log of a place is whole, but for those of launchers that were killed, which are good as far as they go; and
// that those and no others are reported, by runs that came later.
func checkKilled(t *testing.T, p place, launchers bool) {
	t.Helper()
	runs, err := os.ReadDir(p.state + "/agentjail/runs")
	if err != nil {
		t.Fatal(err)
	}
	unended, reported := map[string]bool{}, map[string]bool{}
	for _, run := range runs {
		stdout, stderr, code := p.run(t, "agentjail", "verify", run.Name())
		if code == 3 && launchers {
			unended[run.Name()] = true
		} else if code != 0 {
			t.Errorf("verify of %s: exit %d\n%s%s", run.Name(), code, stdout, stderr)
		}
		data, err := os.ReadFile(p.state + "/agentjail/runs/" + run.Name() + "/events.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		events, _ := parseLog(data[:bytes.LastIndexByte(data, '\n')+1])
		for _, e := range events {
			if e.Action == "run.crashed" {
				reported[e.Target] = true
				if e.Target >= run.Name() {
					t.Errorf("%s reports %s", run.Name(), e.Target)
				}
			}
		}
	}
	for run := range unended {
		if !reported[run] {
			t.Errorf("no run reports %s, whose log has no end", run)
		}
	}
	if !launchers && len(reported) > 0 {
		t.Errorf("reported: %v, though no launcher was killed", reported)
	}
	t.Logf("%d logs, %d without an end, %d runs reported", len(runs), len(unended), len(reported))
}

// TestO06Reported (O06): the run after one whose launcher was killed says so, and the one after that no more. It removes the cgroup, too,
// though it has none itself.
func TestO06Reported(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := mounts(t)
	limit := "--ttl=1h"
	if os.Getuid() == 0 { // an ordinary user may have no cgroup, and systemd removes one of its own
		limit = "--pids=1000"
	}
	c, _ := start(t, p, "agentjail", "run", "--quiet", limit, "--", "sh", "-c", "touch ready; sleep 300")
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	supervisor := children(c.Process.Pid)
	inside := append(supervisor, children(supervisor[0])...)
	c.Process.Kill()
	c.Wait()
	gone(t, inside)
	_, stderr, code := p.run(t, "agentjail", "run", "--", "true")
	if code != 0 || !strings.Contains(stderr, "was killed") {
		t.Fatalf("the run after a crash: exit %d, stderr %q: it must work, and report the crash", code, stderr)
	}
	events := p.ended(t)
	wantEvent(t, events, "report", "-n", "1", "run", "run.crashed")
	i := slices.IndexFunc(events, func(e event) bool { return e.Action == "run.crashed" })
	crashed := events[i].Target
	if stdout, stderr, code := p.run(t, "agentjail", "verify", crashed); code != 3 || !strings.Contains(stdout, crashed) {
		t.Errorf("verify of the killed run %s: exit %d, %q %q", crashed, code, stdout, stderr)
	}
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
	again := p.ended(t)
	if i := slices.IndexFunc(again, func(e event) bool { return e.Action == "run.crashed" }); i >= 0 {
		t.Errorf("reported again: %v", again[i])
	}
	clean(t, p, before)
}

// halt stops a process, and waits until each of its threads stands still: the others go on until one of them has taken the signal.
func halt(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(file string) bool {
			return !strings.Contains(procText(file), "\nState:\tT ")
		})
	})
}

// gone waits until processes are.
func gone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, "the processes are gone", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return exists(fmt.Sprintf("/proc/%d", pid)) })
	})
}

// TestO06Stopped (O06, H01): while the supervisor stands still, with the gateway in it, nothing passes: a call that is asked for waits, and
// so does what was sent to an allowed host. Both come through when it goes on; with the death of its launcher neither does any more.
func TestO06Stopped(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	before := mounts(t)
	mark := "stopped-" + filepath.Base(p.root)
	// What waits to begin looks and does not open, so that it begins while the supervisor stands still.
	p.write(t, "ask.py", `
import os, socket, sys, threading, time
def ask(n, call):
    while not os.path.exists("go-" + n): time.sleep(0.01)
    try: call(n)
    except OSError as err: print(n, call, err, flush=True)
def make(n): open("made-" + n, "w").close()
def talk(n):
    with socket.create_connection(("5.6.7.8", 7)) as s:
        s.sendall(b"%s-%s\n" % (sys.argv[1].encode(), n.encode()))
        s.recv(100)
for n in "1", "2":
    for call in make, talk: threading.Thread(target=ask, args=(n, call), daemon=True).start()
open("ready", "w").close()
threading.Event().wait()
`)
	c, _ := start(t, p, "agentjail", "run", "--quiet", "--allow-net", "5.6.7.8:7", "--", "python3", "ask.py", mark)
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	supervisor := children(c.Process.Pid)[0]
	passed := func(n string) (made, arrived bool) { return exists(p.project + "/made-" + n), s.heard(mark + "-" + n) }
	still := func(n string) {
		t.Helper()
		halt(t, supervisor)
		p.write(t, "go-"+n, "")
		time.Sleep(500 * time.Millisecond) // what passes does so by then
		if made, arrived := passed(n); made || arrived {
			t.Errorf("passed while the supervisor stood still: a file %v, what was sent %v", made, arrived)
		}
	}
	still("1")
	if err := syscall.Kill(supervisor, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both come through", func() bool { made, arrived := passed("1"); return made && arrived })
	still("2")
	inside := children(supervisor)
	if len(inside) == 0 {
		t.Error("the supervisor has no child")
	}
	c.Process.Kill()
	c.Wait()
	gone(t, append(inside, supervisor))
	if made, arrived := passed("2"); made || arrived {
		t.Errorf("passed at the end of the run: a file %v, what was sent %v", made, arrived)
	}
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
	wantEvent(t, p.ended(t), "report", "-n", "1", "run", "run.crashed")
	clean(t, p, before)
}

// children are the processes whose parent is a process.
func children(pid int) []int {
	var pids []int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		for _, word := range strings.Fields(procText(file)) {
			var child int
			fmt.Sscan(word, &child)
			pids = append(pids, child)
		}
	}
	return pids
}

// mounts is the suite's own mount table, in which no run may leave anything.
func mounts(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// clean checks that runs at a place left neither mounts, cgroups, temporary files nor anything but logs, homes and caches in the state.
func clean(t *testing.T, p place, mountsBefore string) {
	t.Helper()
	if now := mounts(t); now != mountsBefore {
		t.Errorf("the mount table was\n%s\nand is\n%s", mountsBefore, now)
	}
	if entries, err := os.ReadDir(p.root + "/tmp"); err == nil && len(entries) > 0 {
		t.Errorf("left in TMPDIR: %v", entries)
	}
	if marks, _ := os.ReadDir(p.state + "/agentjail/live"); len(marks) > 0 {
		t.Errorf("left as alive: %v", marks)
	}
	runs, _ := os.ReadDir(p.state + "/agentjail/runs")
	for _, run := range runs {
		if groups := cgroupsOf(run.Name()); len(groups) > 0 {
			t.Errorf("left: %v", groups)
		}
		files, _ := os.ReadDir(p.state + "/agentjail/runs/" + run.Name())
		for _, f := range files {
			if ok, _ := filepath.Match("events*.jsonl", f.Name()); !ok {
				t.Errorf("left in the state of run %s: %s", run.Name(), f.Name())
			}
		}
	}
}

// cgroupsOf finds the cgroups of a run by its id.
func cgroupsOf(run string) []string {
	var found []string
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.Contains(strings.ToLower(entry.Name()), strings.ToLower(run)) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// TestLateLog: the log of a run that goes on can be followed.
func TestLateLog(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, p.home+"/.netrc", "x")
	c, _ := start(t, p, "agentjail", "run", "--quiet", "--", "sh", "-c", "touch ready; while [ ! -e go ]; do sleep 0.1; done; cat ~/.netrc; sleep 300")
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	follow := p.command("agentjail", "log", "--follow", "--denied")
	r, w := io.Pipe()
	follow.Stdout = w
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { follow.Process.Kill(); follow.Wait() }()
	seen := make(chan bool, 1)
	go func() {
		var all bytes.Buffer
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			all.Write(buf[:n])
			if strings.Contains(all.String(), ".netrc") {
				seen <- true
				return
			}
			if err != nil {
				return
			}
		}
	}()
	p.write(t, "go", "")
	select {
	case <-seen:
	case <-time.After(patience):
		t.Error("the denial does not show")
	}
	c.Process.Signal(syscall.SIGTERM)
	c.Wait()
}
