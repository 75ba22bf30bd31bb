// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/ttyfilter"
)

// terminal joins the caller's terminal to the run's own pty, whose slave is all that the command sees: what it writes is
// data for the caller's terminal, and no ioctl of it reaches that terminal (TIOCSTI, CVE-2017-5226).
type terminal struct {
	master  *os.File
	out     *os.File // the caller's terminal as output
	signals chan os.Signal
	copied  chan struct{} // closed when all output has been copied
	shown   atomic.Int64  // how many bytes of it
	showing sync.Mutex    // held from the read of some output to its write
	keys    *keyboard
	filter  *ttyfilter.Filter // nil where all passes
}

// ttys tells which of the caller's standard streams are terminals.
func (o Options) ttys() [3]bool {
	var is [3]bool
	for i, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		is[i] = isTerminal(f)
	}
	return is
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// tty is the first of some standard files that is a terminal and was not opened in a mode that is of no use; else what /dev/tty is to
// all programs of the caller's session, where it has a terminal; else the standard file that is one, opened anew.
func (o Options) tty(useless int, first ...*os.File) *os.File {
	for _, f := range first {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); isTerminal(f) && err == nil && flags&unix.O_ACCMODE != useless {
			return f
		}
	}
	var found *os.File
	for _, f := range []*os.File{o.Stdin, o.Stderr, o.Stdout} {
		if isTerminal(f) {
			found = f
		}
	}
	for _, name := range []string{"/dev/tty", fmt.Sprintf("/proc/self/fd/%d", found.Fd())} {
		if f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
			return f
		}
	}
	return found
}

// alone tells whether the terminal is the command's alone. Behind or before a pipe there may be others that read its keys, such
// as a pager, and that write to it.
func (o Options) alone() bool {
	is := o.ttys()
	return is[0] && is[1]
}

// newTerminal takes over the master of the run's pty.
func newTerminal(master *os.File, o Options) *terminal {
	t := &terminal{master: master, signals: make(chan os.Signal, 4), copied: make(chan struct{})}
	t.out = o.tty(os.O_RDONLY, o.Stdout, o.Stderr, o.Stdin)
	return t
}

// begin shows what the command writes. It takes the keys at once where the command starts in the foreground of the pty; else the
// command has to ask for them. The command's process is there: keys that are signals would have nobody to go to otherwise.
func (t *terminal) begin(o Options, foreground bool) error {
	if err := t.fitSize(); err != nil {
		return err
	}
	keys, err := newKeyboard(o.tty(os.O_WRONLY, o.Stdin), t.master, !o.alone(), foreground)
	if err != nil {
		return err
	}
	t.keys = keys
	signal.Notify(t.signals, unix.SIGWINCH, unix.SIGCONT)
	go t.show()
	return nil
}

// follow does what the caller's terminal goes through, until close.
func (t *terminal) follow(pass func(unix.Signal)) {
	for s := range t.signals {
		t.fitSize()
		switch {
		case s == unix.SIGCONT:
			t.keys.continued()
		case s == unix.SIGWINCH && !t.keys.taken(): // the pty signals its foreground, in which the command is not
			pass(unix.SIGWINCH)
		}
	}
}

// fitSize gives the pty the size of the caller's terminal.
func (t *terminal) fitSize() error {
	size, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	return unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
}

// show copies what the command writes, to the end: what the caller's terminal does not take is lost, and blocks nobody.
func (t *terminal) show() {
	defer close(t.copied)
	buf := make([]byte, 32<<10)
	for err := error(nil); err == nil; { // EIO when the last slave is closed (pty(7))
		t.readable(-1)
		err = t.showSome(buf)
	}
}

func (t *terminal) showSome(buf []byte) error {
	t.showing.Lock()
	defer t.showing.Unlock()
	n, err := t.master.Read(buf)
	if err != nil {
		return err
	}
	t.keys.fitOutput()
	text := buf[:n]
	if t.filter != nil {
		text = t.filter.Append(nil, text)
	}
	if mode, err := unix.IoctlGetTermios(int(t.out.Fd()), unix.TCGETS); err == nil && endsLines(mode) {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) // the pty has added what this terminal adds too
	}
	for len(text) > 0 {
		n, err := t.out.Write(text[:min(len(text), showSize)])
		if err != nil {
			break
		}
		t.shown.Add(int64(n))
		text = text[n:]
	}
	return nil
}

// dropped records a sequence that the filter keeps from the caller's terminal.
func (r *Run) dropped(kind string) {
	r.log.Emit(audit.Event{
		Class: audit.ClassTerminal, Action: "filtered", Decision: audit.Deny, Target: kind, Provenance: audit.FromResolved,
		Reason: "a control sequence that could make the terminal do more than show text",
	})
}

// showSize is how much is written at once: so little that a slow terminal takes some of it within lastPatience.
const showSize = 1 << 10

// lastPatience is how long a terminal that takes nothing is waited for, where the run has been told to end.
const lastPatience = 2 * time.Second

// rest waits until all is shown: a command that writes to a terminal waits for it, too. Once told closes it waits for a terminal that
// takes nothing no longer, as the signal would have ended a command that waits.
func (t *terminal) rest(told <-chan struct{}) {
	select {
	case <-t.copied:
		return
	case <-told:
	}
	for before := int64(-1); before != t.shown.Load(); {
		before = t.shown.Load()
		select {
		case <-t.copied:
			return
		case <-time.After(lastPatience):
		}
	}
}

// readable waits for output, at most some milliseconds unless that is -1, and reports whether there is some.
func (t *terminal) readable(timeout int) bool {
	fds := []unix.PollFd{{Fd: int32(t.master.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, timeout)
		if err != unix.EINTR {
			return fds[0].Revents&unix.POLLIN != 0
		}
	}
}

// settle waits until what the command has written is shown: that comes before the shell says that the command was stopped. The
// kernel takes a moment to pass it on; a terminal that takes none (Ctrl-S) is not waited for.
func (t *terminal) settle() {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !t.readable(20) && t.showing.TryLock() {
			t.showing.Unlock()
			return
		}
	}
}

// endsLines tells whether a terminal turns a newline into the end of a line, as all do that no program has set otherwise
// (termios(3)).
func endsLines(mode *unix.Termios) bool {
	const both = unix.OPOST | unix.ONLCR
	return mode.Oflag&both == both
}

// close waits for the last output and gives the terminal back. It waits for no more than what came where processes are left that
// never end: they have the terminal open. Of told see rest.
func (t *terminal) close(left bool, told <-chan struct{}) {
	if t.keys == nil { // it has not begun
		t.master.Close()
		return
	}
	if left {
		t.settle()
	} else {
		t.rest(told)
	}
	signal.Stop(t.signals)
	close(t.signals)
	t.keys.close()
	t.master.Close()
}
