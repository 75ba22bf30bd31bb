// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestM07Storm: signals and sizes of any number, bytes of any kind and more output than a terminal ever shows neither stop a run nor
// make it grow, and every byte arrives.
func TestM07Storm(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const chunks = 256 // of 64 KiB
	p.write(t, "many.py", `
import os, signal, tty
tty.setraw(0)
signal.signal(signal.SIGWINCH, lambda *_: None)
chunk = bytes(range(256)) * 256
os.write(1, b"begin")
for _ in range(`+fmt.Sprint(chunks)+`):
    left = chunk
    while left:
        left = left[os.write(1, left):]
os.write(1, b"end")
while os.read(0, 1) != b"q":
    pass
`)
	term := openTerminal(t, p.command("agentjail", "run", "--quiet", "--", "python3", "many.py"))
	eventually(t, "it begins", func() bool { return strings.Contains(term.text(), "begin") })
	sizes := [][2]uint16{{0, 0}, {65535, 65535}, {1, 1}, {24, 80}}
	for i := range 400 {
		term.resize(sizes[i%4][0], sizes[i%4][1])
		term.cmd.Process.Signal([]syscall.Signal{unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGCONT}[i%4])
	}
	eventually(t, "all is shown", func() bool {
		term.cmd.Process.Signal(unix.SIGCONT) // of so many at once, the Go runtime may have handed on the last SIGTSTP last
		return strings.HasSuffix(term.text(), "end")
	})
	got := []byte(strings.TrimSuffix(term.text(), "end"))
	_, got, _ = bytes.Cut(got, []byte("begin"))
	var want []byte
	for range 256 {
		for b := range 256 {
			want = append(want, byte(b))
		}
	}
	if want = bytes.Repeat(want, chunks); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, or others than the %d that were written", len(got), len(want))
	}
	for _, pid := range append(children(term.cmd.Process.Pid), term.cmd.Process.Pid) {
		var peak int
		_, line, _ := strings.Cut(procText(fmt.Sprintf("/proc/%d/status", pid)), "VmHWM:")
		if fmt.Sscan(line, &peak); peak == 0 || peak > 256<<10 {
			t.Errorf("process %d has had %d KiB", pid, peak)
		}
	}
	term.send("q")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	term.untouched()
}
