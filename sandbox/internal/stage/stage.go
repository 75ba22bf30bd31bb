// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketFD is the file that the supervisor's end of the conversation is inherited as.
const socketFD = 3

// live is the life of the stage, and exits with the command's status (128+N for a signal), or with 125.
func live() {
	runtime.LockOSThread() // on the main thread: it forks, and its death would be the stage's
	os.Exit(run())
}

func run() int {
	if err := checkStart(); err != nil {
		fmt.Fprintf(os.Stderr, "agentjail: %v: this is no command for people\n", err)
		return exitRefused
	}
	s := &stage{socket: socket(socketFD), terminal: -1}
	if failed := s.start(); failed != nil {
		s.socket.send(message{kind: kindFailed, step: failed.Step, errno: failed.Errno, detail: failed.Detail})
		return exitRefused
	}
	go s.obey()
	return s.reap()
}

// stage is the state of pid 1.
type stage struct {
	socket   socket
	terminal int // a file of the controlling terminal, or -1
	command  int // the pid of the command
}

func checkStart() error {
	kind, err := unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_TYPE)
	domain, err2 := unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_DOMAIN)
	switch {
	case err != nil || err2 != nil || kind != unix.SOCK_STREAM || domain != unix.AF_UNIX:
		return &Error{Step: StepStart, Detail: "no socket as file 3"}
	case os.Getpid() != 1:
		return &Error{Step: StepStart, Detail: "not pid 1"}
	}
	return nil
}

// start does everything up to the clone, and what has to be done right after it.
func (s *stage) start() *Error {
	if failed := confine(); failed != nil {
		return failed
	}
	makeThreads()
	s.socket.send(message{kind: kindAwake})
	spec, handOver, failed := s.receive()
	if failed != nil {
		return failed
	}
	if failed := openAgain(spec.Again); failed != nil {
		return failed
	}
	if failed := s.takeTerminal(spec.Terminal); failed != nil {
		return failed
	}
	ruleset, abi, failed := newRuleset(spec.Landlock)
	if failed != nil {
		return failed
	}
	at := surroundings{handOver: handOver, ruleset: ruleset, lastCap: lastCap()}
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &at.files), unix.Getrlimit(unix.RLIMIT_CORE, &at.core)); err != nil {
		return &Error{Step: StepLimits, Errno: errnoOf(err)}
	}
	if spec.Slack > 0 {
		// The command's process is born with that of this thread, which forks it.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(spec.Slack), 0, 0, 0); err != nil {
			return &Error{Step: StepLimits, Errno: errnoOf(err), Detail: "PR_SET_TIMERSLACK"}
		}
	}
	pid, errno := newImage(spec, at).clone()
	if errno != 0 {
		return &Error{Step: StepClone, Errno: errno}
	}
	unix.Close(handOver) // the command's process has its own: its end of file has to be the last one
	unix.Close(ruleset)
	s.command = pid
	if failed := s.group(spec.Foreground); failed != nil {
		return failed
	}
	if failed := disarm(); failed != nil {
		return failed
	}
	s.socket.send(message{kind: kindStarted, pid: pid, abi: abi})
	return nil
}

// confine makes the process deaf and closed to what will run beside it.
func confine() *Error {
	// A pid 1 whose signals have their default action gets none from inside its pid namespace, and of those from outside
	// only SIGKILL and SIGSTOP (pid_namespaces(7)), while the Go runtime's handlers would end it on the command's SIGTERM.
	// The runtime does without: it preempts goroutines by SIGURG only when they do not yield by themselves. The command's
	// process inherits the default actions too.
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP {
			continue
		}
		if failed := act(sig, 0); failed != nil {
			return failed
		}
	}
	// Not dumpable: /proc/1/{mem,environ,fd,...} and ptrace are closed to processes without a capability over the stage's
	// user namespace.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return &Error{Step: StepStart, Errno: errnoOf(err), Detail: "PR_SET_DUMPABLE"}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return &Error{Step: StepPrivs, Errno: errnoOf(err)}
	}
	// Groups go where they can: without privilege over the namespace setgroups is denied (user_namespaces(7)), and the
	// posture shows those that stay. Only this thread's matter.
	unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	return closeInherited()
}

// ignored is SIG_IGN; the default action, SIG_DFL, is 0.
const ignored = 1

// act sets what a signal does.
func act(sig syscall.Signal, action uintptr) *Error {
	set := [4]uintptr{action} // struct sigaction of the kernel: no flags, empty mask
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), address(&set), 0, 8, 0, 0); errno != 0 {
		return &Error{Step: StepSignals, Errno: errno}
	}
	return nil
}

// closeInherited closes what a careless parent left open. Files of the Go runtime are close-on-exec, so one above the
// socket that is not came from the parent.
func closeInherited() *Error {
	unix.SetNonblock(socketFD, false)
	unix.CloseOnExec(socketFD)
	names, err := openFiles()
	if err != nil {
		return &Error{Step: StepFiles, Errno: errnoOf(err), Detail: "/proc/self/fd"}
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= socketFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// makeThreads has the Go runtime make the threads that it will ever need here. Later the command may have used up what the run's
// cgroup allows, and a runtime that cannot make one ends the process, and so the run. GOMAXPROCS is 1: this thread waits in
// reap, one in obey, and one runs what is left. As many are there once a goroutine with a thread of its own and this one have
// waited for each other, since a third thread hands over between the two.
func makeThreads() {
	there, enough, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		there <- struct{}{}
		<-enough
		runtime.UnlockOSThread()
		close(gone)
	}()
	<-there
	close(enough)
	<-gone
}

func openFiles() (names []string, err error) {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if n <= 0 || err != nil {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func (s *stage) receive() (*Spec, int, *Error) {
	data, handOver, err := s.socket.first()
	if err != nil {
		return nil, -1, &Error{Step: StepSpec, Errno: errnoOf(err), Detail: "receive"}
	}
	if kind(data[0]) != kindSpec || handOver < 0 {
		return nil, -1, &Error{Step: StepSpec, Detail: "the first message holds none, or no file"}
	}
	spec, err := decodeSpec(data[1:])
	var failed *Error
	if errors.As(err, &failed) {
		return nil, -1, failed
	}
	return spec, handOver, nil
}

// takeTerminal makes the stage the leader of a session, and the terminal the session's. The command then is in a process
// group of its own below a parent of the same session, as under a shell. Were it the leader itself, its group would be
// orphaned, and the kernel does not stop orphaned groups: Ctrl-Z would do nothing (setpgid(2), "orphaned").
func (s *stage) takeTerminal(terminal bool) *Error {
	if _, err := unix.Setsid(); err != nil {
		if sid, _ := unix.Getsid(0); sid != os.Getpid() {
			return &Error{Step: StepSession, Errno: errnoOf(err)}
		}
	}
	if !terminal {
		return nil
	}
	// Any of the three may be the terminal: the others were redirected.
	err := error(unix.ENOTTY)
	for fd := 0; fd < socketFD && err == unix.ENOTTY; fd++ {
		if err = unix.IoctlSetInt(fd, unix.TIOCSCTTY, 0); err == nil {
			s.terminal, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, socketFD+1)
		}
	}
	if err != nil {
		return &Error{Step: StepTerminal, Errno: errnoOf(err)}
	}
	return nil
}

// own is the group of the stage, which leads its session. While it is in the foreground of the terminal, nobody is.
const own = 1

// group puts the command in a group of its own, and that in the foreground where the Spec says so. The command's process is
// still in the list of its operations, or waits for the supervisor: setpgid(2) refuses a child that has called execve.
func (s *stage) group(foreground bool) *Error {
	if err := unix.Setpgid(s.command, s.command); err != nil && err != unix.ESRCH { // ESRCH: it failed, and tells why
		return &Error{Step: StepSession, Errno: errnoOf(err), Detail: "setpgid"}
	}
	if s.terminal < 0 {
		return nil
	}
	// From here on the stage may be in the background, where TIOCSPGRP is an error unless the signal is ignored
	// (tcsetpgrp(3)). The command's process has been born with the default action.
	if failed := act(unix.SIGTTOU, ignored); failed != nil || !foreground {
		return failed
	}
	if err := unix.IoctlSetPointerInt(s.terminal, unix.TIOCSPGRP, s.command); err != nil && err != unix.ESRCH {
		return &Error{Step: StepTerminal, Errno: errnoOf(err), Detail: "TIOCSPGRP"}
	}
	return nil
}

// lastCap is the highest capability that the kernel knows.
func lastCap() int {
	for c := 0; ; c++ {
		if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(c), 0); errno != 0 {
			return c - 1
		}
	}
}

// socket is the stage's end of the stream. It is no os.File: the runtime's poller has no place in pid 1.
type socket int

func (s socket) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(s), b)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && err == nil {
			return 0, syscall.ECONNRESET
		}
		return max(n, 0), err
	}
}

// send fails only when the supervisor is gone, which obey sees.
func (s socket) send(m message) {
	for b := m.encode(); len(b) > 0; {
		n, err := unix.SendmsgN(int(s), b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EINTR {
			return
		}
		b = b[max(n, 0):]
	}
}

// first reads the first message and the file that rides on it, or -1.
func (s socket) first() (data []byte, file int, err error) {
	var header [headerSize]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(s), header[:], oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
	if err != nil {
		return nil, -1, err
	}
	if n != headerSize {
		return nil, -1, unix.ECONNRESET
	}
	file = -1
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			file = fds[0]
		}
	}
	data, err = readBody(s, header, maxToStage)
	return data, file, err
}
