// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	before unix.Termios // its settings before the command's start

	mu     sync.Mutex
	output bytes.Buffer
}

func openTerminal(t *testing.T, c *exec.Cmd, env ...string) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, cmd: c}
	term.resize(24, 80)
	term.before = term.settings()
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.Env = append(append(c.Env, "TERM=xterm-256color"), env...)
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

// untouched fails the test if the terminal is not as it was.
func (t *terminal) untouched() {
	t.t.Helper()
	if now := t.settings(); now != t.before {
		t.t.Errorf("the terminal's settings were %+v and are %+v", t.before, now)
	}
}

// TestM01Terminal: the command has a terminal of its own, and the caller's is left as it was.
// Containment check: M04.
func TestM01Terminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	script := `tty; test -t 0 && test -t 1 && test -t 2 && echo all-terminals; ls -l /proc/self/fd; stty size; stty raw -echo; stty sane; exit 4`
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", script))
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
	term.untouched()
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
	term.send("PS1='rea''dy> '\r") // the echoes of which, the terminal's and the shell's, are not the prompt
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
// Containment check: O08.
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
	term.expect("ready")
	term.send("\x03")
	term.wait()
	if s := term.cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != unix.SIGINT {
		t.Errorf("it ends with %v, and not by SIGINT as the command", term.cmd.ProcessState)
	}
	term.untouched()
}

// TestR08Raw: bytes of a program in raw mode pass through as they are, both ways.
// Containment check: M05.
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
	term.expect("ready")
	term.send("\x03\x1a\x04\r\n\x1b")
	term.expect("[031a040d0a1b]")
	term.expect("\x1b[?1049h\x1b[2Jscreen\x1b[?1049l")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	term.untouched()
}

// TestTerminalEarly: a signal at any moment of the start gives the terminal back, and leaves no log without an end.
// Containment checks: M04, O06, O07.
func TestTerminalEarly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const moments = 40
	began := time.Now()
	openTerminal(t, newPlace(t).command("agentjail", "run", "--quiet", "--", "true")).wait()
	start := time.Since(began)
	refused := 0
	for i := range moments {
		term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sleep", "300"))
		time.Sleep(start * time.Duration(i) / moments)
		sig := []syscall.Signal{unix.SIGTERM, unix.SIGINT}[i%2]
		term.cmd.Process.Signal(sig)
		term.wait()
		term.untouched()
		if s := term.cmd.ProcessState.Sys().(syscall.WaitStatus); sig == unix.SIGINT && (!s.Signaled() || s.Signal() != sig) {
			t.Errorf("it ends with %v, and not by SIGINT", term.cmd.ProcessState)
		}
	}
	logs, err := filepath.Glob(p.state + "/agentjail/runs/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		events, err := readLog(log)
		if err == nil {
			err = sound(events)
		}
		if err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		if last := events[len(events)-1]; !strings.Contains(string(last.Detail), `"status":143`) && !strings.Contains(string(last.Detail), `"status":130`) {
			t.Errorf("the log ends with %s %s", last, last.Detail)
		}
		if events[len(events)-2].Action == "run.refused" {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("in %d runs no signal came before the command", len(logs))
	}
}

// unread is a terminal whose output nobody reads yet.
func unread(t *testing.T, c *exec.Cmd) (master *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		master.Close()
	})
	return master
}

// TestTerminalStuck (M07): a run that is to end does so on a terminal that takes nothing, and its log has its end. Otherwise the terminal is
// waited for, and nothing is lost.
func TestTerminalStuck(t *testing.T) {
	t.Parallel()
	for name, ttl := range map[string]string{"deadline": "5s", "signal": "1h"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := p.command("agentjail", "run", "--ttl", ttl, "--", "sh", "-c", "cat /etc/shadow; touch ready; exec yes")
			unread(t, c)
			eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
			want := 124
			if name == "signal" {
				want = 143
				c.Process.Signal(unix.SIGTERM)
			}
			hung := time.AfterFunc(patience, func() { c.Process.Kill() })
			defer hung.Stop()
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != want {
				t.Errorf("exit %d, want %d", code, want)
			}
			p.ended(t)
		})
	}
	t.Run("nothing is lost", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		c := p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "seq 2000; touch ready; seq 2001 2500")
		master := unread(t, c)
		eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
		time.Sleep(5 * time.Second)
		out, _ := io.ReadAll(master) // ends with an error, as terminals do
		c.Wait()
		if n := bytes.Count(out, []byte("\n")); n != 2500 || !bytes.HasSuffix(out, []byte("2500\r\n")) {
			t.Errorf("%d lines, the last of %q", n, out[max(0, len(out)-20):])
		}
	})
}

// TestTerminalKilled (M04): the terminal is usable after the launcher was told to end.
func TestTerminalKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "sh", "-c", "stty raw; echo ready; exec sleep 300"))
	term.expect("ready")
	term.cmd.Process.Signal(unix.SIGTERM)
	if code := term.wait(); code != 143 {
		t.Errorf("exit %d", code)
	}
	term.untouched()
}
