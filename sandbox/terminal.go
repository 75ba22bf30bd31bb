// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal joins the caller's terminal to the run's own pty, whose slave is all that the command sees: what it writes is
// data for the caller's terminal, and no ioctl of it reaches that terminal (TIOCSTI, CVE-2017-5226).
type terminal struct {
	master *os.File
	in     *os.File // the caller's terminal as input, nil if stdin is none
	out    *os.File // the caller's terminal as output
	saved  *term.State
	resize chan os.Signal
	copied chan struct{} // closed when all output has been copied
	mu     sync.Mutex    // guards saved
}

// ttys tells which of the caller's standard streams are terminals.
func (r *Run) ttys() [3]bool {
	var is [3]bool
	for i, f := range []*os.File{r.options.Stdin, r.options.Stdout, r.options.Stderr} {
		is[i] = f != nil && term.IsTerminal(int(f.Fd()))
	}
	return is
}

func newTerminal(master *os.File, o Options) (*terminal, error) {
	t := &terminal{master: master, resize: make(chan os.Signal, 1), copied: make(chan struct{})}
	for _, f := range []*os.File{o.Stdout, o.Stderr, o.Stdin} {
		if f != nil && term.IsTerminal(int(f.Fd())) {
			t.out = f
			break
		}
	}
	if o.Stdin != nil && term.IsTerminal(int(o.Stdin.Fd())) {
		t.in = o.Stdin
	}
	if err := t.fitSize(); err != nil {
		return nil, err
	}
	if t.in == nil {
		// The caller's terminal stays as it is and adds its own carriage returns.
		if err := plainOutput(int(master.Fd())); err != nil {
			return nil, err
		}
	}
	if err := t.resume(); err != nil {
		return nil, err
	}
	signal.Notify(t.resize, unix.SIGWINCH)
	go func() {
		for range t.resize {
			t.fitSize()
		}
	}()
	go func() {
		defer close(t.copied)
		io.Copy(t.out, master) // ends with EIO when the last slave is closed (pty(7))
	}()
	if t.in != nil {
		go io.Copy(master, t.in)
	}
	return t, nil
}

// fitSize gives the pty the size of the caller's terminal.
func (t *terminal) fitSize() error {
	size, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	return unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
}

// plainOutput has a pty pass output through byte for byte (termios(3), OPOST).
func plainOutput(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}

// resume puts the caller's terminal into raw mode: every key goes to the command's own terminal.
func (t *terminal) resume() error {
	if t.in == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	saved, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return err
	}
	t.saved = saved
	t.fitSize()
	return nil
}

// suspend gives the caller's terminal its old mode back.
func (t *terminal) suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saved != nil {
		term.Restore(int(t.in.Fd()), t.saved)
		t.saved = nil
	}
}

// close waits for the last output and gives the terminal back.
func (t *terminal) close() {
	<-t.copied
	signal.Stop(t.resize)
	close(t.resize)
	t.suspend()
	t.master.Close()
}
