// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reap waits for every child, the orphans that pid 1 inherits among them, until the command ends.
func (s *stage) reap() int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WUNTRACED|unix.WCONTINUED, nil)
		if err != nil && err != unix.EINTR {
			return exitRefused // ECHILD: cannot be, the command is a child
		}
		if err != nil || pid != s.command {
			continue
		}
		m := changed(status)
		if m.kind == kindExited {
			unix.Kill(-1, unix.SIGKILL) // nothing of the run goes on behind the status
		}
		s.socket.send(m)
		if m.kind == kindExited {
			return exitStatus(m)
		}
	}
}

// changed says what a wait status means.
func changed(status unix.WaitStatus) message {
	switch {
	case status.Stopped():
		return message{kind: kindStopped, signal: status.StopSignal()}
	case status.Continued():
		return message{kind: kindContinued}
	case status.Signaled():
		return message{kind: kindExited, signal: status.Signal()}
	}
	return message{kind: kindExited, code: status.ExitStatus()}
}

func exitStatus(m message) int {
	if m.signal != 0 {
		return 128 + int(m.signal)
	}
	return m.code
}

// obey does what the supervisor says. When the supervisor is gone, everything ends: the exit of pid 1 kills all that is
// in its pid namespace.
func (s *stage) obey() {
	for {
		data, err := readFrame(s.socket, maxToStage)
		if err != nil {
			break
		}
		m, err := decodeMessage(data)
		switch {
		case err != nil:
		case m.kind == kindSignal:
			s.deliver(m.signal)
		case m.kind == kindContinue:
			s.resume(m.foreground)
		}
	}
	unix.Kill(-1, unix.SIGKILL)
	os.Exit(exitRefused)
}

// deliver passes a signal on. Where the terminal would have sent it to a whole group, so does the stage: to the one in
// the foreground where there is a terminal, else, or where that is the stage itself, to the command's, as with the command
// alone under a shell.
func (s *stage) deliver(sig syscall.Signal) {
	if !ofTerminal(sig) {
		unix.Kill(s.command, sig)
		return
	}
	group := s.command
	if s.terminal >= 0 {
		if g, err := unix.IoctlGetInt(s.terminal, unix.TIOCGPGRP); err == nil && g > own {
			group = g
		}
	}
	if unix.Kill(-group, sig) != nil {
		unix.Kill(s.command, sig)
	}
}

// resume lets the command's group go on, and says first whether the terminal is its own.
func (s *stage) resume(foreground bool) {
	group := own
	if foreground {
		group = s.command
	}
	if s.terminal >= 0 {
		unix.IoctlSetPointerInt(s.terminal, unix.TIOCSPGRP, group)
	}
	if unix.Kill(-s.command, unix.SIGCONT) != nil { // it has gone to another group
		unix.Kill(s.command, unix.SIGCONT)
	}
}

// ofTerminal is whether a terminal sends the signal, to all of a group (termios(3), setpgid(2)).
func ofTerminal(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGHUP, unix.SIGCONT, unix.SIGWINCH:
		return true
	}
	return false
}
