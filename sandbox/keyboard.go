// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// background is how long a run in the background waits before it looks whether the shell has brought it to the foreground, of
// which no signal tells.
const background = 100 * time.Millisecond

// keyboard copies what is typed to the run's pty, with the caller's terminal in raw mode, so that every key is the command's.
// It does so when the command wants the keys, and only in the foreground: a job in the background that reads its terminal is
// stopped by SIGTTIN, and one that changes its mode by SIGTTOU (termios(3)). Otherwise the terminal is neither read nor changed.
type keyboard struct {
	in, master *os.File
	shared     bool     // with programs that are not inside
	controls   bool     // this process's session, which has jobs
	wake, poke *os.File // a pipe: a byte in it has the copier look again, and its end has it end

	interrupt atomic.Bool // the key of an interrupt was passed on, as such

	mu     sync.Mutex
	saved  *unix.Termios // the mode before
	raw    bool          // the mode is known to be raw
	wanted bool
}

func newKeyboard(in, master *os.File, shared, wanted bool) (*keyboard, error) {
	_, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCGPGRP)
	k := &keyboard{in: in, master: master, shared: shared, wanted: wanted, controls: err == nil}
	if _, err := k.take(); err != nil {
		return nil, err
	}
	if k.wake, k.poke, err = os.Pipe(); err != nil {
		k.release()
		return nil, err
	}
	go k.copy()
	return k, nil
}

// take makes the terminal raw if the keys are wanted and the terminal is this job's now, and reports that.
func (k *keyboard) take() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.takeLocked()
}

func (k *keyboard) takeLocked() (bool, error) {
	if !k.wanted || !k.foreground() {
		return false, nil
	}
	if k.raw {
		return true, nil
	}
	mode, err := unix.IoctlGetTermios(int(k.in.Fd()), unix.TCGETS)
	if err != nil {
		return false, err
	}
	if k.saved == nil {
		before := *mode
		k.saved = &before
	}
	makeRaw(mode)
	if k.shared {
		mode.Oflag = k.saved.Oflag // see fitOutput
	}
	if err := unix.IoctlSetTermios(int(k.in.Fd()), unix.TCSETS, mode); err != nil {
		return false, err
	}
	k.raw = true
	return true, nil
}

// makeRaw does what cfmakeraw(3) does.
func makeRaw(mode *unix.Termios) {
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Oflag &^= unix.OPOST
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
}

// fitOutput has a shared terminal end lines as long as the pty does: those that others write to it are not the pty's. A program
// that has turned that off in its pty gets every byte through.
func (k *keyboard) fitOutput() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.shared || !k.raw || !k.foreground() {
		return
	}
	pty, err := unix.IoctlGetTermios(int(k.master.Fd()), unix.TCGETS)
	mode, err2 := unix.IoctlGetTermios(int(k.in.Fd()), unix.TCGETS)
	if err != nil || err2 != nil {
		return
	}
	oflag := k.saved.Oflag
	if !endsLines(pty) {
		oflag &^= unix.OPOST
	}
	if mode.Oflag != oflag {
		mode.Oflag = oflag
		unix.IoctlSetTermios(int(k.in.Fd()), unix.TCSETS, mode)
	}
}

// foreground tells whether the terminal is this job's.
func (k *keyboard) foreground() bool { return inForeground(k.in) && !k.gone() }

// gone tells whether the terminal was this session's and is no longer: it was closed, or the shell has ended.
func (k *keyboard) gone() bool {
	_, err := unix.IoctlGetInt(int(k.in.Fd()), unix.TIOCGPGRP)
	return k.controls && err != nil
}

// inForeground tells whether a terminal is this job's. One that controls no session has no jobs (ENOTTY, tcgetpgrp(3)).
func inForeground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// release gives the terminal its old mode back, until claim.
func (k *keyboard) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.saved != nil && k.foreground() {
		unix.IoctlSetTermios(int(k.in.Fd()), unix.TCSETS, k.saved)
	}
	k.saved, k.raw, k.wanted = nil, false, false
}

// claim has the keys copied from now on, unless the terminal is another job's now.
func (k *keyboard) claim() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted, k.raw = true, false
	k.wanted, _ = k.takeLocked()
	k.poke.Write([]byte{0})
	return k.wanted
}

func (k *keyboard) taken() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wanted
}

// continued has the mode set anew: whoever stopped this process, the shell has used its terminal since.
func (k *keyboard) continued() {
	k.mu.Lock()
	k.raw = false
	k.mu.Unlock()
	k.poke.Write([]byte{0})
}

func (k *keyboard) close() {
	k.release()
	k.poke.Close()
}

// copy copies until the terminal, the pty or the run ends.
func (k *keyboard) copy() {
	defer k.wake.Close()
	buf := make([]byte, 4096)
	for k.wait() {
		n, err := k.in.Read(buf)
		if err != nil {
			return
		}
		k.look(buf[:n])
		if _, err := k.master.Write(buf[:n]); err != nil {
			return
		}
	}
}

// look looks for the key by which the pty is about to interrupt what is in its foreground.
func (k *keyboard) look(keys []byte) {
	mode, err := unix.IoctlGetTermios(int(k.master.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ISIG == 0 || mode.Cc[unix.VINTR] == 0 {
		return
	}
	if bytes.IndexByte(keys, mode.Cc[unix.VINTR]) >= 0 {
		k.interrupt.Store(true)
	}
}

// wait waits until something was typed for this run. It reports false at the run's end.
func (k *keyboard) wait() bool {
	for {
		fds := []unix.PollFd{{Fd: int32(k.wake.Fd()), Events: unix.POLLIN}, {Fd: int32(k.in.Fd()), Events: unix.POLLIN}}
		timeout := -1
		if mine, _ := k.take(); !mine {
			fds = fds[:1]
			if k.taken() {
				timeout = int(background.Milliseconds())
			}
		}
		if _, err := unix.Poll(fds, timeout); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return false
		}
		switch {
		case fds[0].Revents&unix.POLLIN != 0:
			var bytes [64]byte
			if _, err := k.wake.Read(bytes[:]); err != nil {
				return false
			}
		case fds[0].Revents != 0:
			return false
		case len(fds) > 1 && fds[1].Revents != 0 && k.mine():
			return true
		}
	}
}

// mine tells whether what was typed is this run's.
func (k *keyboard) mine() bool { return k.taken() && k.foreground() }
