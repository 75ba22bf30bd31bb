// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What becomes of calls that wait for the supervisor's answer when that does not come.

// asking makes calls that are refused, one after the other, in several threads, and connects that are: each that succeeds makes a file.
const asking = `
import ctypes, os, socket, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def got(what):
    os.close(os.open("got-" + what, os.O_CREAT | os.O_WRONLY))
def forever(what, call):
    while True:
        try:
            if call():
                got(what)
        except OSError:
            pass
def connect():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        return True
for what, call in {
    "unshare": lambda: libc.unshare(0x20000) == 0,
    "keyctl": lambda: libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 0) >= 0,
    "open": lambda: os.open("/usr/got", os.O_CREAT | os.O_WRONLY) >= 0,
    "connect": connect,
}.items():
    threading.Thread(target=forever, args=(what, call), daemon=True).start()
open("ready", "w").close()
threading.Event().wait()
`

// askingCommand is a run of it.
func askingCommand(t *testing.T, p place) []string {
	t.Helper()
	p.write(t, "asking.py", asking)
	if err := listenHere(place{project: p.root}, "host.sock"); err != nil {
		t.Fatal(err)
	}
	return []string{"run", "--quiet", "--", "python3", "asking.py", p.root + "/host.sock"}
}

// got are the files that say that a call succeeded.
func (p place) got(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(p.project)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "got-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestG07Killed: the supervisor's death, with calls waiting for it, lets none succeed, and ends the run. The next one works.
func TestG07Killed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	args := askingCommand(t, p)
	for i := range 8 {
		os.Remove(p.project + "/ready")
		c, out := start(t, p, "agentjail", args...)
		eventually(t, "the command asks", func() bool { return exists(p.project + "/ready") })
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		pid := p.commandPID(t)
		if err := syscall.Kill(children(c.Process.Pid)[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 125 {
			t.Errorf("exit %d, output %q", code, out.String())
		}
		if text := procText(fmt.Sprintf("/proc/%d/cmdline", pid)); text != "" {
			t.Errorf("the command goes on: %q", text)
		}
		if got := p.got(t); len(got) > 0 {
			t.Fatalf("what is refused succeeded: %v", got)
		}
		wantEvent(t, p.ended(t), "report", "-reason", "the supervisor died", "run", "run.end")
	}
	p.must(t, "agentjail", "run", "--quiet", "--", "true")
}

// TestG17Stopped: while the supervisor is stopped, as by a debugger, calls that wait for it wait, and none passes. When it goes on they
// are answered, and on record.
func TestG17Stopped(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, out := start(t, p, "agentjail", "run", "--quiet", "--", "sh", "-c", `
touch ready; until test -e go; do sleep 0.02; done
touch asked 2>/dev/null || exit 3
mkdir /usr/made 2>/dev/null && exit 4
exit 7`)
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	supervisor := children(c.Process.Pid)[0]
	halt(t, supervisor)
	p.write(t, "go", "")
	time.Sleep(500 * time.Millisecond)
	if exists(p.project + "/asked") {
		t.Error("a file was made that the supervisor has not allowed")
	}
	if err := syscall.Kill(supervisor, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit %d, output %q", code, out.String())
	}
	if !exists(p.project + "/asked") {
		t.Error("the file was not made when the supervisor went on")
	}
	wantEvent(t, p.ended(t), "deny", "-n", "1", "-errno", "EROFS", "file", "mkdir", "/usr/made")
}
