// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
	"time"
)

// A run that is part of a pipeline shares the terminal with the others: it leaves it alone until the command wants the keys.

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

// TestR08PipelineLines: before a pipe the terminal stays as it is. Lines of the command and of the others end as they should.
func TestR08PipelineLines(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	script := `for i in 1 2 3; do echo line $i; echo note $i >&2; done; echo rea"dy" >/dev/tty; until test -e go; do sleep 0.05; done`
	term := openTerminal(t, p.command("sh", "-c", "agentjail run --quiet -- sh -c '"+script+"' | cat; echo end"))
	eventually(t, "the lines show", func() bool {
		text := term.text()
		return strings.Contains(text, "ready\r\n") && strings.Contains(text, "line 3\r\n")
	})
	term.untouched()
	p.write(t, "go", "")
	eventually(t, "the pipeline ends", func() bool { return strings.Contains(term.text(), "end\r\n") })
	term.wait()
	if text := term.text(); strings.Count(text, "\n") != 8 || strings.Count(text, "\r\n") != 8 || strings.Count(text, "\r") != 8 {
		t.Errorf("the lines end as in %q", text)
	}
	term.untouched()
}

// TestR08Pager: a pager behind the run has its keys, and leaves the terminal as it was.
func TestR08Pager(t *testing.T) {
	t.Parallel()
	needTool(t, "less")
	p := newPlace(t)
	term := openTerminal(t, p.command("bash", "-c", "agentjail run --quiet -- seq 100000 | less; echo end"))
	term.expect("23\r\n")
	term.send("G")
	term.expect("100000\r\n")
	term.send("q")
	term.expect("end\r\n")
	term.wait()
	term.untouched()

	term = openTerminal(t, p.command("bash", "-c", "agentjail run --quiet -- seq 100000 | less; echo end"))
	term.expect("23\r\n")
	term.send("q") // before the command's end
	term.expect("end\r\n")
	term.wait()
	term.untouched()
}

// TestR08PagerSuspend: Ctrl-Z stops the pager and the run before it, and fg goes on with both.
func TestR08PagerSuspend(t *testing.T) {
	t.Parallel()
	needTool(t, "less")
	p := newPlace(t)
	term := shellOn(t, p)
	term.send("agentjail run --quiet -- seq 1000000 | less\r")
	term.expect("23\r\n")
	eventually(t, "the job is stopped", func() bool {
		term.send("\x1a") // less heeds one that comes between its last output and its wait for keys only with the next
		time.Sleep(100 * time.Millisecond)
		return term.shells()
	})
	term.expect("Stopped")
	term.expect("ready> ")
	term.fg()
	term.expect("23\r\n") // once more
	term.send("G")
	term.expect("1000000\r\n")
	term.send("q")
	term.expect("ready> ")
	term.send("exit\r")
	term.wait()
	term.untouched()
}

// TestR08PagerInside: a pager behind a pipe has the keys when it wants them.
func TestR08PagerInside(t *testing.T) {
	t.Parallel()
	needTool(t, "less")
	p := newPlace(t)
	term := openTerminal(t, p.command("bash", "-c", "seq 1000 | agentjail run --quiet -- less; echo end"))
	term.expect("23\r\n")
	term.send("G")
	term.expect("1000\r\n")
	term.send("q")
	term.expect("end\r\n")
	term.wait()
	term.untouched()
}

// TestR08PipelineAsks: a command of a pipeline that asks for something at its terminal, or reads it as its standard input, gets what is
// typed. The lines of the others still end as they should.
func TestR08PipelineAsks(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"behind": `echo piped | agentjail run --quiet -- sh -c 'read x </dev/tty; read y; echo "got $x $y"'`,
		"before": `agentjail run --quiet -- sh -c 'read x; echo "got $x piped"' | cat`,
		"secret": `agentjail run --quiet -- bash -c 'read -s x </dev/tty; echo "got $x piped"' | cat`,
		"file":   `agentjail run --quiet -- sh -c 'read x; echo "got $x piped"' >log; cat log`,
		"errors": `agentjail run --quiet -- sh -c 'read x </dev/tty; echo "got $x piped" >&2' </dev/null >log`,
		"closed": `agentjail run --quiet -- sh -c 'read x; echo "got $x piped"' </dev/tty >log 2>&1; cat log`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			term := openTerminal(t, p.command("sh", "-c", line+`; echo end`))
			term.send("word\r")
			term.expect("got word piped\r\n")
			term.expect("end\r\n")
			term.wait()
			term.untouched()
			if strings.Contains(term.text(), "\r\r") {
				t.Errorf("the lines end as in %q", term.text())
			}
		})
	}
}

// TestR08PipelineRaw: a program in raw mode gets every key and every byte through, also in a pipeline.
func TestR08PipelineRaw(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, "raw.py", `
import os, tty
f = os.open("/dev/tty", os.O_RDWR)
tty.setraw(f)
os.write(f, b"ready\nbelow")
got = b""
while len(got) < 6:
    got += os.read(f, 6)
os.write(f, b"[" + got.hex().encode() + b"]")
`)
	term := openTerminal(t, p.command("sh", "-c", "echo | agentjail run --quiet -- python3 raw.py"))
	term.expect("ready\nbelow")
	term.send("\x03\x1a\x04\r\n\x1b")
	term.expect("[031a040d0a1b]")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	term.untouched()
}

// TestR08PipelineInterrupt: Ctrl-C and Ctrl-\ are the command's, with the keys and without.
func TestR08PipelineInterrupt(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]string{"keys": "read x </dev/tty; ", "no keys": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			script := `trap "echo caught" INT; trap "echo quit; exit 3" QUIT; ` + ask + `echo ready >/dev/tty; while :; do sleep 0.1; done`
			term := openTerminal(t, p.command("bash", "-c", "trap : INT QUIT; agentjail run --quiet -- sh -c '"+script+"' | (trap '' INT QUIT; exec cat); echo code=${PIPESTATUS[0]}"))
			if ask != "" {
				term.send("\r")
			}
			term.expect("ready")
			term.send("\x03")
			term.expect("caught")
			term.send("\x1c")
			term.expect("quit")
			term.expect("code=3")
			term.wait()
		})
	}
}

// TestR08PipelineSuspend: Ctrl-Z stops the command and the pipeline; bg, fg and kill are as for any job, whether the command has asked
// for the keys or not.
func TestR08PipelineSuspend(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]string{"keys": "read x </dev/tty; ", "no keys": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			term := shellOn(t, p)
			// Not sh: a child of vfork(2) that is stopped before it executes keeps its parent from being stopped, in or out of a jail.
			script := ask + `date >beat; echo start"ed"; while echo $((n++)) >beat; do test -e ask && { read y </dev/tty; echo "got $y"; exit; }; sleep 0.05; done`
			line := "agentjail run --quiet -- bash -c '" + script + "' | cat"
			term.send(line + "\r")
			if ask != "" {
				term.send("\r")
			}
			term.expect("started")
			term.send("\x1a")
			term.expect("Stopped")
			term.expect("ready> ")
			p.rests(t)
			term.send("bg\r")
			p.beats(t)
			term.fg()
			term.expect("cat\r\n")
			term.send("\x1a")
			term.expect("Stopped")
			term.expect("ready> ")
			p.rests(t)
			p.write(t, "ask", "")
			term.send("bg\r")
			term.stopped("tty input")
			term.fg()
			term.expect("cat\r\n")
			term.send("word\r")
			term.expect("got word\r\n")
			term.expect("ready> ")

			p.must(t, "rm", "ask")
			term.send(line + "\r")
			if ask != "" {
				term.send("\r")
			}
			term.expect("started")
			term.send("\x1a")
			term.expect("Stopped")
			term.send("kill %1; wait -f %1; echo all-$((1+1))\r")
			term.expect("all-2")
			p.rests(t)
			term.send("exit\r")
			term.wait()
		})
	}
}

// TestR08PipelineResize: a new size of the terminal is one of a command that has not asked for the keys, too.
func TestR08PipelineResize(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	script := `trap "stty size <&2; exit 0" WINCH; echo ready; while :; do sleep 0.1; done`
	term := openTerminal(t, p.command("sh", "-c", "agentjail run --quiet -- bash -c '"+script+"' </dev/null | cat"))
	term.expect("ready")
	term.resize(50, 132)
	term.expect("50 132")
	term.wait()
}
