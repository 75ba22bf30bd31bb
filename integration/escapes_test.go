// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestM05Filter: what a program can make a terminal do beyond showing text reaches it, but not with the filter, which records it.
func TestM05Filter(t *testing.T) {
	t.Parallel()
	const script = `printf 'a\033]52;c;eA==\ab\033[21tc\033[1mbold\033[0m \033]0;title\ag\303\266\n'`
	const clipboard, shown = "\x1b]52;c;eA==\a", "\x1b[1mbold\x1b[0m \x1b]0;title"
	for _, filter := range []bool{false, true} {
		p := newPlace(t)
		args := []string{"run", "--quiet"}
		if filter {
			args = append(args, "--filter-terminal")
		}
		term := openTerminal(t, p.command("agentjail", append(args, "--", "sh", "-c", script)...))
		got := term.line()
		if code := term.wait(); code != 0 {
			t.Fatalf("exit %d", code)
		}
		if passed := strings.Contains(got, clipboard) && strings.Contains(got, "\x1b[21t"); passed == filter {
			t.Errorf("filter %t: the terminal gets %q", filter, got)
		}
		if !strings.Contains(got, shown) || filter && !strings.Contains(got, "abc\x1b[1m") {
			t.Errorf("filter %t: the terminal gets %q", filter, got)
		}
		events, err := newestEvents(p.state)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range events {
			if e.Class == "terminal" {
				kinds = append(kinds, e.Action+" "+e.Decision+" "+e.Target)
			}
		}
		want := map[bool][]string{true: {"filtered deny OSC 52", "filtered deny CSI 21 t"}}[filter]
		if !slices.Equal(kinds, want) {
			t.Errorf("filter %t: recorded %q, want %q", filter, kinds, want)
		}
	}
}

// TestM06Summary: what the command prints can imitate agentjail's summary, and cannot hide the true one, which comes after all of it:
// neither by an escape sequence that it leaves open nor by letters that it makes invisible, nor by lines that are few. There is no prompt to imitate.
func TestM06Summary(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	term := openTerminal(t, p.command("agentjail", "run", "--", "sh", "-c",
		`cat /etc/shadow 2>/dev/null; (sleep 60; echo late) & printf 'agentjail: 0 denied\nallow? [y/N] \033[8m\033]0;'`))
	term.send("y\r")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	eventually(t, "the summary shows", func() bool { return strings.Contains(term.text(), "agentjail: log head ") })
	_, after, found := strings.Cut(term.text(), "\x1b[8m\x1b]0;")
	if !found || !strings.HasPrefix(after, "\x18\x1b\\\x1b[4i\x1b[4l\x1b7\x1b[r\x1b8\x0f\x1b(B\x1b[magentjail: 1 denied ") || strings.Contains(after, "late") {
		t.Errorf("the terminal has %q", term.text())
	}

	c := p.command("agentjail", "run", "--", "cat", "/etc/shadow")
	term = openTerminal(t, c, "TERM=dumb")
	term.wait()
	eventually(t, "the summary shows", func() bool { return strings.Contains(term.text(), "agentjail: log head ") })
	if strings.ContainsAny(term.text(), "\x18\x1b") {
		t.Errorf("a terminal without escape sequences has %q", term.text())
	}
}

// TestM04Killed: a run that is ended gives the terminal's settings and its foreground back, whatever the command has made of them. What
// it has switched on by escape sequences stays, as without agentjail: they are passed on, and agentjail adds none.
// Containment check: M05.
func TestM04Killed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const modes = "\x1b[?1049h\x1b[?1000h\x1b[?2004h\x1b]52;c;eA==\a\x1b]8;;http://x\x1b\\\x1b[6n"
	p.write(t, "modes", modes)
	term := shellOn(t, p)
	before := term.settings()
	term.send("agentjail run --quiet -- sh -c 'stty raw -echo; cat modes; echo up; exec sleep 300'\r")
	term.expect(modes + "up")
	syscall.Kill(term.group(), unix.SIGTERM)
	eventually(t, "the shell has the terminal", term.shells)
	eventually(t, "the settings are the shell's", func() bool { return term.settings() == before })
	term.send("echo code=$?\r")
	term.expect("code=143")
	if text := term.text(); strings.Contains(text, "\x1b[?1049l") {
		t.Errorf("agentjail has written %q", text)
	}
	term.send("exit\r")
	term.wait()
}
