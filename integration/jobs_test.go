// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A run is a job of the shell that it is started from, as the command alone would be.

// TestR08Suspend: Ctrl-Z stops the command and gives the terminal back to the shell that started it; fg goes on with it.
func TestR08Suspend(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("bash", "--norc", "-i"))
	term.send("PS1='rea''dy> '\r") // the echoes of which, the terminal's and the shell's, are not the prompt
	term.expect("ready> ")
	term.send(`agentjail run --quiet -- bash -c 'echo start"ed"; read line; echo "got $line"; exit 6'` + "\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.expect("ready> ")
	term.send("echo code=$?\r")
	term.expect("code=148") // 128+SIGTSTP, as of any job
	term.send("fg\r")
	term.expect("agentjail run")
	term.send("a word\r")
	term.expect("got a word")
	term.expect("ready> ")
	term.send("echo code=$?\r")
	term.expect("code=6")
	term.send("exit\r")
	term.wait()
}

// TestR08SuspendEarly: Ctrl-Z stops a run at every moment of its start, and fg goes on with it.
// Containment check: M07.
func TestR08SuspendEarly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	for i := range 40 {
		term.send("agentjail run --quiet -- sh -c 'echo >ready; exec sleep 300'\r")
		for deadline := time.Now().Add(patience); term.program() != "agentjail"; { // before that it is the shell that ignores the key
			if time.Now().After(deadline) {
				t.Fatal("the run has not begun")
			}
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		term.send("\x1a")
		term.expect("Stopped")
		eventually(t, "the shell has the terminal", term.shells)
		goesOn(t, p, term)
	}
	term.send("exit\r")
	term.wait()
	term.untouched()
}

// TestR08SuspendForked: Ctrl-Z while agentjail forks stops the job, and not what it forked alone.
func TestR08SuspendForked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	for range 20 {
		term.send("agentjail run --quiet -- sh -c 'echo >ready; exec sleep 300'\r")
		eventually(t, "the run begins", func() bool { return term.program() == "agentjail" })
		group := term.group()
		for deadline := time.Now().Add(patience); len(children(group)) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("nothing was forked")
			}
		}
		unix.Kill(-group, unix.SIGTSTP)
		term.expect("Stopped")
		goesOn(t, p, term)
	}
	term.send("exit\r")
	term.wait()
	term.untouched()
}

// goesOn continues a run that was stopped in its start, sees that its command runs, and ends it.
func goesOn(t *testing.T, p place, term *terminal) {
	t.Helper()
	term.fg()
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	p.must(t, "rm", "ready")
	term.send("\x03")
	eventually(t, "the shell has the terminal", term.shells)
}

// shellOn is an interactive shell with job control on a terminal of the test.
func shellOn(t *testing.T, p place) *terminal {
	t.Helper()
	term := openTerminal(t, p.command("bash", "--norc", "-i"))
	term.send("PS1='rea''dy> '\r") // the echoes of which, the terminal's and the shell's, are not the prompt
	term.expect("ready> ")
	return term
}

// stopped waits until the shell says of its job that it was stopped, and why.
func (t *terminal) stopped(why string) {
	t.t.Helper()
	eventually(t.t, "the job is stopped", func() bool {
		t.send("jobs -l\r")
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(t.text(), "Stopped ("+why+")")
	})
	t.expect("Stopped (" + why + ")")
}

// fg continues the shell's job, and waits until the terminal is the job's.
func (t *terminal) fg() {
	t.t.Helper()
	t.send("fg\r")
	eventually(t.t, "the job has the terminal", func() bool { return !t.shells() })
}

// shells tells whether the terminal is the shell's own, and no job's.
func (t *terminal) shells() bool { return t.group() == t.cmd.Process.Pid }

// group is the process group in the foreground of the terminal, and program what its first process executes.
func (t *terminal) group() int {
	t.t.Helper()
	group, err := unix.IoctlGetInt(int(t.master.Fd()), unix.TIOCGPGRP)
	if err != nil {
		t.t.Fatal(err)
	}
	return group
}

func (t *terminal) program() string { return words(procText(fmt.Sprintf("/proc/%d/comm", t.group()))) }

// TestR08Background: a run that was stopped goes on in the background with bg, is stopped there when it reads, has the keys with fg, and
// is ended by kill.
func TestR08Background(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send(`agentjail run --quiet -- bash -c 'echo start"ed"; until test -e go; do sleep 0.05; done; echo went"-on"; read line; echo "got $line"; exit 6'` + "\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.send("bg; jobs\r")
	term.expect("Running")
	term.send("echo mine-$((1+1)); touch go\r") // the keys are the shell's
	term.expect("mine-2")
	term.expect("went-on")
	term.stopped("tty input")
	term.fg()
	term.expect("exit 6'")
	term.send("a word\r")
	term.expect("got a word")
	term.expect("ready> ")
	term.send("echo code=$?\r")
	term.expect("code=6")

	term.send("agentjail run --quiet -- sh -c 'echo start''ed; exec sleep 300'\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.send("kill %1; wait -f %1; echo code=$?\r")
	term.expect("code=143")
	term.send("exit\r")
	term.wait()
}

// TestR08StartedInBackground: a run that is started in the background works there, and leaves the terminal to the shell.
func TestR08StartedInBackground(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send("agentjail run --quiet -- sh -c 'echo start''ed; exit 4' & wait $!; echo code=$?\r")
	term.expect("started")
	term.expect("code=4")
	term.send("echo mine-$((1+1))\r")
	term.expect("mine-2")
	term.send("exit\r")
	term.wait()
}

// TestO08StoppedOnTerminal: a command that stops itself on a terminal stops the launcher, as Ctrl-Z does, but not its deadline.
func TestO08StoppedOnTerminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	p.write(t, "beat.py", `
import os, signal, time
if os.fork():
    os.kill(os.getpid(), signal.SIGSTOP)
beat = os.open("beat", os.O_WRONLY | os.O_CREAT)
while True: # without a path: with the launcher stopped nobody answers for those
    os.pwrite(beat, str(time.time_ns()).encode(), 0)
    time.sleep(0.1)
`)
	term.send("agentjail run --quiet --ttl 5s -- python3 beat.py\r")
	term.expect("Stopped")
	term.expect("ready> ")
	eventually(t, "the background runs", func() bool { return exists(p.project + "/beat") })
	before := p.read(t, "beat")
	eventually(t, "the deadline ends the background", func() bool {
		last := p.read(t, "beat")
		time.Sleep(time.Second)
		return last == p.read(t, "beat")
	})
	if last := p.read(t, "beat"); last == before {
		t.Error("the background of a stopped command did not run")
	}
	term.send("fg\r")
	term.expect("beat.py")
	term.expect("ready> ")
	term.send("echo code=$?\r")
	term.expect("code=124")
	wantEvent(t, p.ended(t), "deny", "limit", "limit.ttl", "5s")
	term.send("exit\r")
	term.wait()
}

// TestR08SuspendAlone: where no shell could go on with it, Ctrl-Z stops nothing for good.
func TestR08SuspendAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "echo start'ed'; read line; echo got-$line"))
	term.expect("started")
	term.send("\x1a")
	term.send("word\r")
	term.expect("got-word")
	term.wait()
}

// TestR08JobControl: an interactive shell inside has job control of its own.
func TestR08JobControl(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "bash", "--norc", "-i"))
	term.send("PS1='in> '\r")
	term.expect("in> ")
	term.expect("in> ")
	if strings.Contains(term.text(), "no job control") {
		t.Error("the shell has no job control")
	}
	term.send("sleep 300 & jobs; kill %1\r")
	term.expect("Running")
	// The job asks for the terminal before it has it, and is stopped. Were it given the terminal just then, it could be stopped
	// afterwards. It answers when it has it: not before that is an interrupt for it.
	term.send("sh -c 'read x; echo got-$x; sleep 300' &\r")
	eventually(t, "the job is stopped", func() bool {
		term.send("\r")
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(term.text(), "Stopped")
	})
	term.send("echo be''fore; fg\r")
	term.expect("before\r\n")
	term.expect("sleep 300'\r\n")
	term.send("word\r")
	term.expect("got-word")
	interrupts := 0
	eventually(t, "the job is interrupted", func() bool {
		interrupts++
		term.send("\x03echo back-$((1+1))\r")
		time.Sleep(200 * time.Millisecond)
		return strings.Contains(term.text(), "back-2")
	})
	if interrupts > 1 {
		t.Logf("%d interrupts were needed", interrupts)
	}
	term.expect("back-2")
	term.send("exit 8\r")
	if code := term.wait(); code != 8 {
		t.Errorf("exit %d", code)
	}
}

// TestR08InterruptJob: Ctrl-C that ends a command ends the loop or the script that it is part of, and the shell says 130. With a command
// that has a code of its own they go on.
func TestR08InterruptJob(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, "loop.sh", `for i in 1 2 3; do agentjail run --quiet -- sh -c "$@"; code=$?; echo "after $i"; done; echo all-$code`)
	p.write(t, "pipe.sh", `for i in 1 2 3; do agentjail run --quiet -- sh -c "$@" | cat; code=$?; echo "after $i"; done; echo all-$code`)
	p.write(t, "Makefile", "all:\n\t-agentjail run --quiet -- sh -c 'echo start\"ed\"; exec sleep 300'\n\techo after\n")
	needTool(t, "make")
	term := shellOn(t, p)
	command := ` 'echo start"ed"; exec sleep 300'`
	for _, line := range []string{"bash loop.sh" + command, "sh loop.sh" + command, "bash pipe.sh" + command, "set --" + command + "; . ./loop.sh", "make"} {
		term.send(line + "\r")
		term.expect("started\r\n")
		term.send("\x03")
		eventually(t, "the shell has the terminal", term.shells)
		term.send("echo co''de-$?\r")
		eventually(t, "the shell says the code", func() bool { return strings.Contains(term.text(), "code-") })
		text := term.text()
		term.expect("code-")
		code := term.line()
		// GNU make waits for its children in the handler of the signal as well, and can find there that it has none left.
		if line == "make" && strings.Contains(text, "make: *** wait: No child processes.") && code == "2" {
			code = "130"
		}
		if code != "130" || strings.Contains(text, "after") {
			t.Errorf("%s: code %s, and it goes on: %q", line, code, text)
		}
	}
	term.send(`bash loop.sh 'trap "exit 5" INT; echo start"ed"; while :; do sleep 0.05; done'` + "\r")
	for _, text := range []string{"started", "after 1", "started", "after 2", "started", "after 3"} {
		term.expect(text + "\r\n")
		if text == "started" {
			term.send("\x03")
		}
	}
	term.expect("all-5")
	term.send("exit\r")
	term.wait()
	term.untouched()
}

// beats waits until the command in the project's directory works, and rests until it does not.
func (p place) beats(t *testing.T) {
	t.Helper()
	before := p.read(t, "beat")
	eventually(t, "the command works", func() bool { return p.read(t, "beat") != before })
}

func (p place) rests(t *testing.T) {
	t.Helper()
	eventually(t, "the command rests", func() bool {
		before := p.read(t, "beat")
		time.Sleep(300 * time.Millisecond)
		return p.read(t, "beat") == before
	})
}

// TestR08SuspendFiles: Ctrl-Z stops a command none of whose standard files is a terminal, too.
func TestR08SuspendFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send(`agentjail run --quiet -- bash -c 'while echo $((n++)) >beat; do sleep 0.05; done' </dev/null >log 2>&1` + "\r")
	eventually(t, "the command works", func() bool { return exists(p.project + "/beat") })
	p.beats(t)
	term.send("\x1a")
	term.expect("Stopped")
	p.rests(t)
	term.send("bg\r")
	p.beats(t)
	term.fg()
	term.send("\x03")
	eventually(t, "the shell has the terminal", term.shells)
	term.send("echo code=$?\r")
	term.expect("code=130")
	term.send("exit\r")
	term.wait()
}

// TestR08SuspendJob: Ctrl-Z stops the whole job that the run is part of, so that the shell has the terminal again.
func TestR08SuspendJob(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send(`sh -c 'agentjail run --quiet -- sh -c "echo start''ed; read x; echo got-\$x"; echo after'` + "\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.expect("ready> ")
	term.fg()
	term.expect("after'\r\n")
	term.send("word\r")
	term.expect("got-word")
	term.expect("after")
	term.send("exit\r")
	term.wait()
}

// TestR08BackgroundOutput: a run in the background leaves the terminal to the shell, wherever its output goes, and is stopped when it
// wants the keys.
func TestR08BackgroundOutput(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, "Makefile", "all:\n\t@echo made; until test -e go; do sleep 0.05; done; read x </dev/tty; echo got-$$x\n")
	needTool(t, "make")
	for _, files := range []string{">log 2>&1", ">log </dev/null"} {
		term := shellOn(t, p)
		term.send("agentjail run --quiet -- make " + files + " &\r")
		eventually(t, "make runs", func() bool { return exists(p.project+"/log") && strings.Contains(p.read(t, "log"), "made") })
		term.send("echo mine-$((1+1))\r")
		term.expect("mine-2")
		term.send("jobs\r")
		term.expect("Running")
		p.write(t, "go", "")
		term.stopped("tty input")
		term.fg()
		term.send("word\r")
		eventually(t, "the word arrives", func() bool { return strings.Contains(p.read(t, "log"), "got-word") })
		eventually(t, "the shell has the terminal", term.shells)
		term.send("echo code=$?\r")
		term.expect("code=0")
		term.send("exit\r")
		term.wait()
		p.must(t, "rm", "go", "log")
	}
}

// pid is what the shell has written of its job.
func (p place) pid(t *testing.T) string {
	t.Helper()
	eventually(t, "the shell says the pid", func() bool { return exists(p.project+"/pid") && p.read(t, "pid") != "" })
	return strings.TrimSpace(p.read(t, "pid"))
}

// TestR08NobodyToStop: a run in the background of a session whose shell is gone waits, and ends when it is told to.
func TestR08NobodyToStop(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send("(agentjail run --quiet -- sh -c 'echo start''ed; read x </dev/tty' </dev/null & echo $! >pid) \r")
	term.expect("started")
	pid := p.pid(t)
	time.Sleep(300 * time.Millisecond)
	term.send("echo mine-$((1+1))\r")
	term.expect("mine-2")
	p.must(t, "kill", pid)
	eventually(t, "the run ends", func() bool { return !exists("/proc/" + pid) })
	term.send("exit\r")
	term.wait()
}

// TestR08ShellGone: a run in the background that wants keys after its shell has ended gets none, and ends as by a terminal that was
// closed.
// Containment check: O07.
func TestR08ShellGone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send("agentjail run --quiet -- bash -c 'echo start''ed; until test -e go; do sleep 0.05; done; read x </dev/tty; sleep 300' </dev/null & echo $! >pid\r")
	term.expect("started")
	pid := p.pid(t)
	term.send("exit\r")
	term.wait()
	if !exists("/proc/" + pid) {
		t.Fatal("the run has ended with its shell")
	}
	p.write(t, "go", "")
	eventually(t, "the run ends", func() bool { return !exists("/proc/" + pid) })
	term.untouched()
}

// TestR08HangUp: what the end of a terminal tells the run ends a command that is stopped, too.
// Containment check: O07.
func TestR08HangUp(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sh", "-c", "touch ready; kill -STOP $$; exec sleep 300")
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	time.Sleep(300 * time.Millisecond)
	c.Process.Signal(unix.SIGHUP)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 129 {
		t.Errorf("exit %d, output %q", code, out.String())
	}
}
