// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal joins the caller's terminal to the run's own pty, whose slave is all that the command sees: what it writes is
// data for the caller's terminal, and no ioctl of it reaches that terminal (TIOCSTI, CVE-2017-5226).
type terminal struct {
	master  *os.File
	out     *os.File // the caller's terminal as output
	signals chan os.Signal
	copied  chan struct{} // closed when all output has been copied
	keys    *keyboard     // nil if stdin is no terminal
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
	t := &terminal{master: master, signals: make(chan os.Signal, 4), copied: make(chan struct{})}
	for _, f := range []*os.File{o.Stdout, o.Stderr, o.Stdin} {
		if f != nil && term.IsTerminal(int(f.Fd())) {
			t.out = f
			break
		}
	}
	if err := t.fitSize(); err != nil {
		return nil, err
	}
	var err error
	if o.Stdin != nil && term.IsTerminal(int(o.Stdin.Fd())) {
		t.keys, err = newKeyboard(o.Stdin, master)
	} else {
		// The caller's terminal stays as it is and adds its own carriage returns.
		err = plainOutput(int(master.Fd()))
	}
	if err != nil {
		return nil, err
	}
	signal.Notify(t.signals, unix.SIGWINCH, unix.SIGCONT)
	go t.follow()
	go func() {
		defer close(t.copied)
		io.Copy(t.out, master) // ends with EIO when the last slave is closed (pty(7))
	}()
	return t, nil
}

// follow does what the caller's terminal goes through.
func (t *terminal) follow() {
	for s := range t.signals {
		t.fitSize()
		if s == unix.SIGCONT && t.keys != nil {
			t.keys.continued()
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

// plainOutput has a pty pass output through byte for byte (termios(3), OPOST).
func plainOutput(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}

// suspend gives the caller's terminal its old mode back.
func (t *terminal) suspend() {
	if t.keys != nil {
		t.keys.release()
	}
}

// resume ends what suspend began.
func (t *terminal) resume() {
	t.fitSize()
	if t.keys != nil {
		t.keys.reclaim()
	}
}

// close waits for the last output and gives the terminal back.
func (t *terminal) close() {
	<-t.copied
	signal.Stop(t.signals)
	close(t.signals)
	if t.keys != nil {
		t.keys.close()
	}
	t.master.Close()
}
