// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// background is how long a run in the background waits before it looks whether the shell has brought it to the foreground, of
// which no signal tells.
const background = 100 * time.Millisecond

// keyboard copies what is typed to the run's pty, with the caller's terminal in raw mode, so that every key is the command's.
// It does so only in the foreground: a job in the background that reads its terminal is stopped by SIGTTIN, and one that changes
// its mode by SIGTTOU (termios(3)).
type keyboard struct {
	in, master *os.File
	wake, poke *os.File // a pipe: a byte in it has the copier look again, and its end has it end

	mu       sync.Mutex
	saved    *term.State // the mode before
	raw      bool        // the mode is known to be raw
	released bool
}

func newKeyboard(in, master *os.File) (*keyboard, error) {
	k := &keyboard{in: in, master: master}
	if _, err := k.take(); err != nil {
		return nil, err
	}
	var err error
	if k.wake, k.poke, err = os.Pipe(); err != nil {
		k.release()
		return nil, err
	}
	go k.copy()
	return k, nil
}

// take makes the terminal raw if it is this job's now, and reports that.
func (k *keyboard) take() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.released || !k.foreground() {
		return false, nil
	}
	if k.raw {
		return true, nil
	}
	before, err := term.MakeRaw(int(k.in.Fd()))
	if err != nil {
		return false, err
	}
	if k.saved == nil {
		k.saved = before
	}
	k.raw = true
	return true, nil
}

// foreground tells whether the terminal is this job's. One that controls no session has no jobs (ENOTTY, tcgetpgrp(3)).
func (k *keyboard) foreground() bool {
	group, err := unix.IoctlGetInt(int(k.in.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// release gives the terminal its old mode back, until reclaim.
func (k *keyboard) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.saved != nil && k.foreground() {
		term.Restore(int(k.in.Fd()), k.saved)
	}
	k.saved, k.raw, k.released = nil, false, true
}

func (k *keyboard) reclaim() {
	k.mu.Lock()
	k.released = false
	k.mu.Unlock()
	k.continued()
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
		if _, err := k.master.Write(buf[:n]); err != nil {
			return
		}
	}
}

// wait waits until something was typed for this run. It reports false at the run's end.
func (k *keyboard) wait() bool {
	for {
		fds := []unix.PollFd{{Fd: int32(k.wake.Fd()), Events: unix.POLLIN}, {Fd: int32(k.in.Fd()), Events: unix.POLLIN}}
		timeout := -1
		if mine, _ := k.take(); !mine {
			fds, timeout = fds[:1], int(background.Milliseconds())
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
		case len(fds) > 1 && fds[1].Revents != 0 && k.foreground():
			return true
		}
	}
}
