// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is a command on a terminal that the test holds, as a user at a terminal emulator does.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File // kept open, to read its settings after the command's end
	cmd    *exec.Cmd

	mu     sync.Mutex
	output bytes.Buffer
}

func openTerminal(t *testing.T, c *exec.Cmd) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, cmd: c}
	term.resize(24, 80)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.Env = append(c.Env, "TERM=xterm-256color")
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go io.Copy(term, master)
	t.Cleanup(func() {
		c.Process.Kill()
		slave.Close()
		master.Close()
	})
	return term
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.output.Write(p)
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.output.String()
}

// expect waits until a text shows, after all that was expected before.
func (t *terminal) expect(text string) {
	t.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		t.mu.Lock()
		_, after, found := bytes.Cut(t.output.Bytes(), []byte(text))
		if found {
			rest := append([]byte{}, after...)
			t.output.Reset()
			t.output.Write(rest)
		}
		t.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.t.Fatalf("%q does not show; the terminal has %q", text, t.text())
		}
	}
}

// line waits for the rest of the line that was last expected, and returns it.
func (t *terminal) line() string {
	t.t.Helper()
	eventually(t.t, "the line ends", func() bool { return strings.Contains(t.text(), "\n") })
	return firstLine(t.text())
}

func (t *terminal) send(text string) {
	t.t.Helper()
	if _, err := t.master.WriteString(text); err != nil {
		t.t.Fatal(err)
	}
}

func (t *terminal) resize(rows, columns uint16) {
	t.t.Helper()
	if err := pty.Setsize(t.master, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		t.t.Fatal(err)
	}
}

func (t *terminal) wait() int {
	hung := time.AfterFunc(time.Minute, func() { t.cmd.Process.Kill() })
	defer hung.Stop()
	t.cmd.Wait()
	return t.cmd.ProcessState.ExitCode()
}

func (t *terminal) settings() unix.Termios {
	t.t.Helper()
	settings, err := unix.IoctlGetTermios(int(t.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.t.Fatal(err)
	}
	return *settings
}

// TestM01Terminal: the command has a terminal of its own, and the caller's is left as it was.
func TestM01Terminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	script := `tty; test -t 0 && test -t 1 && test -t 2 && echo all-terminals; ls -l /proc/self/fd; stty size; stty raw -echo; stty sane; exit 4`
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", script))
	before := term.settings()
	ours := term.slave.Name()
	term.expect("/dev/pts/")
	if shown := firstLine(term.text()); "/dev/pts/"+shown == ours && shown != "0" {
		t.Errorf("the command's terminal is the caller's, %s", ours)
	}
	term.expect("all-terminals")
	term.expect("24 80")
	if code := term.wait(); code != 4 {
		t.Errorf("exit %d", code)
	}
	if after := term.settings(); after != before {
		t.Errorf("the terminal's settings were %+v and are %+v", before, after)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

// TestM01Devices: the terminal inside is a private one: the caller's device is open nowhere in the run.
func TestM01Devices(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "python3", "-c",
		"import os; print('device', os.fstat(0).st_dev, os.fstat(0).st_rdev, 'end')"))
	var outside unix.Stat_t
	if err := unix.Fstat(int(term.slave.Fd()), &outside); err != nil {
		t.Fatal(err)
	}
	term.expect("device ")
	if got, want := term.line(), fmt.Sprintf("%d %d end", outside.Dev, outside.Rdev); got == want {
		t.Error("the command has the caller's terminal")
	} else if !strings.HasSuffix(got, " end") {
		t.Errorf("the command says %q", got)
	}
	term.wait()
}

// TestM02Tiocsti: nothing can be typed into the caller's terminal.
func TestM02Tiocsti(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(t, "cp", suite.base+"/bin/probe", "probe")
	term := openTerminal(t, p.command("bash", "--norc", "-i"))
	term.send("PS1='ready> '\r")
	term.expect("ready> ")
	term.expect("ready> ")
	term.send("agentjail run --quiet -- ./probe tiocsti; echo 'code='$?\r")
	term.expect("code=")
	term.expect("code=0")
	term.send("echo still'-'here\r")
	term.expect("still-here")
	term.send("exit\r")
	term.wait()
	wantEvent(t, p.ended(t), "deny", "-errno", "EPERM", "syscall", "ioctl", ".*TIOCSTI.*")
}

// TestR08Resize: a new size of the caller's terminal is one of the command's, and is signalled.
func TestR08Resize(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "bash", "-c",
		`trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done`))
	term.expect("ready")
	term.resize(50, 132)
	term.expect("50 132")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TestR08Interrupt: Ctrl-C is the command's.
func TestR08Interrupt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", `trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done`))
	term.expect("ready")
	term.send("\x03")
	term.expect("caught")
	if code := term.wait(); code != 3 {
		t.Errorf("exit %d", code)
	}

	term = openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "echo ready; exec sleep 300"))
	before := term.settings()
	term.expect("ready")
	term.send("\x03")
	if code := term.wait(); code != 130 {
		t.Errorf("exit %d, not 130", code)
	}
	if after := term.settings(); after != before {
		t.Errorf("the terminal's settings were %+v and are %+v", before, after)
	}
}

// TestR08Suspend: Ctrl-Z stops the command and gives the terminal back to the shell that started it; fg goes on with it.
func TestR08Suspend(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("bash", "--norc", "-i"))
	term.send("PS1='ready> '\r")
	term.expect("ready> ")
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

// shellOn is an interactive shell with job control on a terminal of the test.
func shellOn(t *testing.T, p place) *terminal {
	t.Helper()
	term := openTerminal(t, p.command("bash", "--norc", "-i"))
	term.send("PS1='ready> '\r")
	term.expect("ready> ")
	term.expect("ready> ")
	return term
}

// TestR08Background: a run that was stopped goes on in the background with bg, has the keys with fg, and is ended by kill.
func TestR08Background(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := shellOn(t, p)
	term.send(`agentjail run --quiet -- bash -c 'echo start"ed"; until test -e go; do sleep 0.05; done; echo went"-on"; read line; echo "got $line"; exit 6'` + "\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.send("bg; touch go\r")
	term.expect("went-on")
	term.send("echo mine-$((1+1))\r") // the keys are the shell's
	term.expect("mine-2")
	term.send("jobs\r")
	term.expect("Running")
	term.send("fg\r")
	term.expect("exit 6'")
	time.Sleep(300 * time.Millisecond) // no signal tells the run of it
	term.send("a word\r")
	term.expect("got a word")
	term.expect("ready> ")
	term.send("echo code=$?\r")
	term.expect("code=6")

	term.send("agentjail run --quiet -- sh -c 'echo start''ed; exec sleep 300'\r")
	term.expect("started")
	term.send("\x1a")
	term.expect("Stopped")
	term.send("kill %1; wait %1; echo code=$?\r")
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
	term.send("agentjail run --quiet --ttl 1s -- python3 beat.py\r")
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
	wantEvent(t, p.ended(t), "deny", "limit", "limit.ttl", "1s")
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

// TestR08Raw: bytes of a program in raw mode pass through as they are, both ways.
func TestR08Raw(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, "raw.py", `
import os, tty
tty.setraw(0)
os.write(1, b"ready")
got = b""
while len(got) < 6:
    got += os.read(0, 6)
os.write(1, b"[" + got.hex().encode() + b"]\x1b[?1049h\x1b[2Jscreen\x1b[?1049l")
`)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "python3", "raw.py"))
	before := term.settings()
	term.expect("ready")
	term.send("\x03\x1a\x04\r\n\x1b")
	term.expect("[031a040d0a1b]")
	term.expect("\x1b[?1049h\x1b[2Jscreen\x1b[?1049l")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if after := term.settings(); after != before {
		t.Errorf("the terminal's settings were %+v and are %+v", before, after)
	}
}

// TestTerminalKilled: the terminal is usable after the launcher was told to end.
func TestTerminalKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "stty raw; echo ready; exec sleep 300"))
	before := term.settings()
	term.expect("ready")
	term.cmd.Process.Signal(unix.SIGTERM)
	if code := term.wait(); code != 143 {
		t.Errorf("exit %d", code)
	}
	if after := term.settings(); after != before {
		t.Errorf("the terminal's settings were %+v and are %+v", before, after)
	}
}

// TestMixed: with one of the standard files redirected, the rest is still a terminal, and the command's own.
func TestMixed(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"output": `agentjail run --quiet -- sh -c 'test -t 0 && test -t 2 && ! test -t 1 && echo through-pipe' | cat`,
		"input":  `agentjail run --quiet -- sh -c '! test -t 0 && test -t 1 && test -t 2 && echo through-pipe >/dev/tty' </dev/null`,
		"both":   `echo | agentjail run --quiet -- sh -c '! test -t 0 && ! test -t 1 && test -t 2 && echo through-pipe >/dev/tty' | cat`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			term := openTerminal(t, p.command("sh", "-c", line+`; echo end`))
			term.expect("through-pipe")
			term.expect("end")
			term.wait()
		})
	}
}
