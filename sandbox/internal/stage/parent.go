// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the stage may take for its half of Prepare, on a machine that is busy with other things. The stage
// itself waits for nothing on the way but the file system.
const patience = 30 * time.Second

// Parent is the supervisor's half of the conversation. Awake, Prepare, Go, Next and Wait are called in that order by one
// goroutine, but Go may go on while there is a Next; Signal, Continue and Close at any time by any.
type Parent struct {
	conn     *net.UnixConn
	handOver *net.UnixConn
	command  string
	dir      string
	awake    bool
	patience time.Duration
	writing  sync.Mutex
}

// Ready is what Prepare found. The command's process exists, is confined, and waits for Go.
type Ready struct {
	Listener     *os.File // of the seccomp filter; the caller's to close
	PID          int      // in the run's pid namespace
	HostPID      int      // in the caller's, as the kernel says it (SCM_CREDENTIALS)
	WaitKillable bool     // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is on (Linux 5.19)
	LandlockABI  int      // see landlock.go for what is in force under which
}

// NewParent takes over the supervisor's end of the socket, a unix stream.
func NewParent(conn *os.File) (*Parent, error) {
	c, err := fileConn(conn)
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	return &Parent{conn: c, patience: patience}, nil
}

// fileConn makes a connection of a socket, and closes f.
func fileConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a unix socket")
	}
	return u, nil
}

// Awake waits until the stage is there, with all the threads that it will ever have, 30 seconds at most. Nothing of the command
// exists before Prepare, which waits for it, too. The error is an *Error.
func (p *Parent) Awake() error {
	if p.awake {
		return nil
	}
	p.conn.SetDeadline(time.Now().Add(p.patience))
	m, err := p.receive()
	if err == nil && m.kind != kindAwake {
		err = &Error{Step: StepAnswer, Detail: "a message out of turn"}
	}
	p.awake = err == nil
	return err
}

// Prepare sends the Spec and waits until the command's process is ready to execute it, 30 seconds at most. Every error
// is an *Error, and means that nothing was and nothing will be executed: the caller closes the Parent.
func (p *Parent) Prepare(spec Spec) (Ready, error) {
	if err := spec.Validate(); err != nil {
		return Ready{}, err
	}
	p.command, p.dir = spec.Argv[0], spec.Dir
	if err := p.Awake(); err != nil {
		return Ready{}, err
	}
	deadline := time.Now().Add(p.patience)
	p.conn.SetDeadline(deadline)
	if err := p.send(&spec); err != nil {
		return Ready{}, noAnswer(err)
	}
	p.handOver.SetDeadline(deadline)
	m, err := p.receive()
	if err != nil {
		return Ready{}, err
	}
	if m.kind != kindStarted {
		return Ready{}, &Error{Step: StepAnswer, Detail: "a message out of turn"}
	}
	ready := Ready{PID: m.pid, LandlockABI: m.abi}
	if err := p.listener(&ready); err != nil {
		return Ready{}, err
	}
	p.conn.SetDeadline(time.Time{})
	p.handOver.SetDeadline(time.Time{})
	return ready, nil
}

// send makes the hand-over and sends one end of it with the Spec.
func (p *Parent) send(spec *Spec) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(fds[1]), "hand-over")
	defer theirs.Close()
	ours := os.NewFile(uintptr(fds[0]), "hand-over")
	// Before the other end exists anywhere else: the kernel adds the sender's pid from now on, unix(7).
	if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		ours.Close()
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.handOver, err = fileConn(ours); err != nil {
		return err
	}
	b := frame(kindSpec, spec.encode())
	n, _, err := p.conn.WriteMsgUnix(b[:headerSize], unix.UnixRights(int(theirs.Fd())), nil)
	if err == nil && n != headerSize {
		err = io.ErrShortWrite
	}
	if err == nil {
		_, err = p.conn.Write(b[headerSize:])
	}
	return err
}

// receive reads one message of the stage. A failure that the stage tells of is an error.
func (p *Parent) receive() (message, error) {
	data, err := readFrame(p.conn, maxToParent)
	if err != nil {
		return message{}, noAnswer(err)
	}
	m, err := decodeMessage(data)
	if err != nil {
		return message{}, err
	}
	switch m.kind {
	case kindFailed:
		return message{}, &Error{Step: m.step, Errno: m.errno, Detail: m.detail}
	case kindSignal:
		return message{}, &Error{Step: StepAnswer, Detail: "a message out of turn"}
	}
	return m, nil
}

// noAnswer says what a failed read or write means.
func noAnswer(err error) *Error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Error{Step: StepAnswer, Errno: unix.ETIMEDOUT}
	case errors.Is(err, io.EOF):
		return &Error{Step: StepAnswer, Errno: unix.ECONNRESET, Detail: "the stage ended"}
	case errors.As(err, &errno):
		return &Error{Step: StepAnswer, Errno: errno}
	}
	return &Error{Step: StepAnswer, Detail: err.Error()}
}

// listener reads the report of the command's process.
func (p *Parent) listener(ready *Ready) error {
	buf := make([]byte, reportSize+1)
	oob := make([]byte, unix.CmsgSpace(4)+unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := p.handOver.ReadMsgUnix(buf, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return noAnswer(err)
	}
	file, pid := control(oob[:oobn])
	r, err := decodeReport(buf[:n])
	if err == nil && (r.kind != reportListener || pid <= 0 || !isListener(file)) {
		err = &Error{Step: StepAnswer, Detail: "a report without a listener"}
	}
	if err == nil {
		err = p.report(reportReady)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return p.explain(err)
	}
	ready.Listener, ready.HostPID, ready.WaitKillable = file, pid, r.flags&flagWaitKillable != 0
	return nil
}

// report reads the next report, which has to be of a kind.
func (p *Parent) report(kind uint32) error {
	buf := make([]byte, reportSize+1)
	n, err := p.handOver.Read(buf)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return noAnswer(err)
	}
	r, err := decodeReport(buf[:n])
	if err == nil && r.kind != kind {
		err = &Error{Step: StepAnswer, Detail: "a report out of turn"}
	}
	return err
}

// explain adds what the command's process could not say.
func (p *Parent) explain(err error) error {
	var e *Error
	if errors.As(err, &e) {
		switch e.Step {
		case StepDir:
			e.Detail = p.dir
		case StepExec:
			e.Detail = p.command
		}
	}
	return err
}

// control takes the one file and the sender's pid out of a control message; any other file is closed.
func control(oob []byte) (file *os.File, pid int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				if file != nil {
					unix.Close(fd)
					continue
				}
				file = os.NewFile(uintptr(fd), "seccomp listener")
			}
		}
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		}
	}
	return file, pid
}

// isListener asks the kernel what the file is: the stage could have sent any.
func isListener(f *os.File) bool {
	if f == nil {
		return false
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return err == nil && link == "anon_inode:seccomp notify"
}

// Go lets the command's process execute. It returns when that is done or has failed: then the error is an *Error of
// StepExec, and its ExitCode is 126 or 127. A process that was killed before is none: Wait tells of it. The caller serves the
// listener and the file system meanwhile.
func (p *Parent) Go() error {
	_, err := p.handOver.Write([]byte{1})
	if errors.Is(err, unix.EPIPE) {
		return nil // nobody has the other end: killed before
	}
	if err != nil {
		return noAnswer(err)
	}
	err = p.report(reportFailed)
	var e *Error
	if errors.As(err, &e) && e.Step == StepAnswer && e.Errno == unix.ECONNRESET {
		return nil // closed on exec; or killed before
	}
	return p.explain(err)
}

// Signal asks the stage to pass a signal on to the command. Before Prepare has sent the Spec it is an error; until the
// command is executed the signal has its default action.
func (p *Parent) Signal(sig syscall.Signal) error {
	if !validSignal(sig) {
		return fmt.Errorf("stage: no such signal: %d", int(sig))
	}
	return p.tell(message{kind: kindSignal, signal: sig})
}

// Continue lets a command that was stopped go on, as a shell does with a job: in the foreground of its terminal, where it
// has the keys, or in the background. Without a terminal it is a SIGCONT.
func (p *Parent) Continue(foreground bool) error {
	return p.tell(message{kind: kindContinue, foreground: foreground})
}

func (p *Parent) tell(m message) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.handOver == nil {
		return errors.New("stage: a message before the spec")
	}
	if _, err := p.conn.Write(m.encode()); err != nil {
		return noAnswer(err)
	}
	return nil
}

// Next waits for the next change of the command's state. After Exited there is none.
func (p *Parent) Next() (Event, error) {
	m, err := p.receive()
	if err != nil {
		return Event{}, err
	}
	switch m.kind {
	case kindStopped:
		return Event{Kind: Stopped, Signal: m.signal}, nil
	case kindContinued:
		return Event{Kind: Continued}, nil
	case kindExited:
		return Event{Kind: Exited, Signal: m.signal, Code: m.code}, nil
	}
	return Event{}, &Error{Step: StepAnswer, Detail: "a message out of turn"}
}

// Status is how the command ended: by a signal, or with a code.
type Status struct {
	Signal syscall.Signal
	Code   int
}

// ExitCode is the status as a shell says it.
func (s Status) ExitCode() int {
	return exitStatus(message{signal: s.Signal, code: s.Code})
}

// Wait returns when the command has ended and everything that it left behind is dead. notify is called for every event
// before, and may be nil.
func (p *Parent) Wait(notify func(Event)) (Status, error) {
	for {
		ev, err := p.Next()
		if err != nil {
			return Status{}, err
		}
		if ev.Kind != Exited {
			if notify != nil {
				notify(ev)
			}
			continue
		}
		// The stage's end is the end of its pid namespace, which the kernel waits for; its socket closes before that, so
		// the last word on "dead" is the wait for the stage's process, the caller's child.
		p.conn.SetReadDeadline(time.Now().Add(p.patience))
		io.Copy(io.Discard, p.conn)
		return Status{Signal: ev.Signal, Code: ev.Code}, nil
	}
}

// Close ends the conversation, and with it everything inside.
func (p *Parent) Close() error {
	err := p.conn.Close() // first: it ends a write that holds the lock
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.handOver != nil {
		err = errors.Join(err, p.handOver.Close())
	}
	return err
}
