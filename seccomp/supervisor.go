// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// Config is what a Supervisor needs of a run.
type Config struct {
	Policy   Policy
	Listener *os.File // of the filter; the Supervisor's to close
	// WaitKillable says that the filter was loaded with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: no signal but one that kills takes a caller
	// away from a notification.
	WaitKillable bool
	Init         int        // a process of the run, by its number here: its root and its namespaces are the run's
	ReadOnly     []*os.File // what the command was given open for reading, and may not write by /proc/self/fd either
	Sockets      []string   // paths of the run at which sockets of the host are mounted that it may connect to
	Tree         *Tree      // the run's root, where that does not report for itself; the Policy asks about looks then
	// Unasked completes the event of a rename or a link that the kernel ends at the way from one mount to another, before it asks a root
	// that reports for itself: of Target, which the call would make, if makes says so. onHost tells whether the host has something at a
	// path. It is false where the root would not refuse it.
	Unasked func(e *audit.Event, makes bool, onHost func(path string) bool) bool
	// Protect says whether an action on a path is refused although it lies where the command may write: it is if one of the files
	// returned is older than the run. What the run has made itself is its own.
	Protect func(action, path string) []string
	// Places are mounts of the run, by their paths, on the way to which are directories that another run can move: what Protect says of
	// a path holds while each is where it was. When one is not, all writes are refused.
	Places []string
	Began  time.Time // when the run did, by the clock of file systems (CLOCK_REALTIME_COARSE)
	Sink   audit.Sink
	Caller func(tid int) audit.Process
	// Connects is told that a thread is about to connect a socket of the network, by the inode of that (sockfs) and the thread's own number
	// for it. It is called by a thread that has the run's root. It may be nil.
	Connects func(inode uint64, tid, fd int)
	// Severity is that of a denial at a path, "" for an ordinary one. It may be nil.
	Severity func(path string) string
}

// Supervisor answers the calls that a filter asks about.
type Supervisor struct {
	config   Config
	fd       int
	usher    *usher
	sockets  *sockets
	ports    ports
	granted  []mountedFile // of Config.Sockets
	tree     *tree         // nil without Config.Tree
	places   []mountedFile // of Config.Places
	spaces   *spaces       // nil where a run makes none
	duty     *duty
	stop     *os.File // readable when Close was called
	stopFD   int      // of stop, which tells it by a system call each time
	stopper  *os.File
	connects *pending
	attempts *attempts
	work     sync.WaitGroup
	once     sync.Once
	mu       sync.Mutex // guards what follows
	failed   error
	closed   bool
}

// NewSupervisor prepares a Supervisor; Serve starts it. The calling process must have every capability in the user namespace
// that the run's mount and network namespaces belong to.
func NewSupervisor(c Config) (*Supervisor, error) {
	s := &Supervisor{config: c, fd: int(c.Listener.Fd()), attempts: newAttempts(c.Sink.Emit, c.WaitKillable)}
	for _, step := range []func() error{
		func() (e error) { s.usher, e = newUsher(c.Init); return e },
		func() (e error) { s.sockets, e = newSockets(c.Init); return e },
		func() (e error) { s.granted, e = s.usher.mounted(c.Sockets); return e },
		func() (e error) { s.tree, e = newTree(s.usher, c.Tree); return e },
		func() (e error) { s.places, e = s.usher.mounted(c.Places); return e },
		func() (e error) { s.spaces, e = newSpaces(s.usher, c); return e },
		func() (e error) { s.duty, e = newDuty(); return e },
		func() (e error) {
			s.connects, e = newPending(func(id uint64) bool { return valid(s.fd, id) })
			return e
		},
		func() (e error) { s.stop, s.stopper, e = os.Pipe(); return e },
		func() (e error) { s.stopFD = int(s.stop.Fd()); return nil },
	} {
		if err := step(); err != nil {
			s.release()
			return nil, err
		}
	}
	wakeUpHere(s.fd)
	return s, nil
}

// Serve answers until Close is called or the last process with the filter has ended. An error means that nothing is answered:
// the run must end.
func (s *Supervisor) Serve() error {
	s.begin()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// begin starts the first worker, if Close did not come before.
func (s *Supervisor) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.relieve()
		s.work.Go(s.watch)
	}
}

// relieve has a new worker receive the next notifications.
func (s *Supervisor) relieve() {
	w := &worker{Supervisor: s, path: make([]byte, maxPath), link: make([]byte, maxPath)}
	if s.duty.relieve(w) {
		s.work.Go(w.serve)
	}
}

// watch relieves workers that take long.
func (s *Supervisor) watch() {
	for {
		expired, err := s.duty.expired(s.fd, s.stopFD)
		if err != nil {
			s.fail(err)
		}
		if !expired {
			return
		}
		s.relieve()
	}
}

// fail keeps the first error, and ends Serve.
func (s *Supervisor) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	s.stopper.Close()
}

// describeCaller runs on a thread with the host's root, which a worker's own has not: the runtime starts no goroutine on a
// thread that is locked, nor a thread from it.
func (s *Supervisor) describeCaller(tid uint32) audit.Process {
	result := make(chan audit.Process, 1)
	go func() { result <- s.config.Caller(int(tid)) }()
	return <-result
}

// serve receives and decides notifications until there are no more, or until the worker was relieved.
func (w *worker) serve() {
	// The thread gets the run's root, and ends with this goroutine.
	runtime.LockOSThread()
	if err := w.usher.enter(); err != nil {
		w.fail(err)
		return
	}
	for {
		// One worker waits at a time: of several that see the same notification, all but the first would wait inside of the call
		// that receives it, which before Linux 6.11 ends with the next notification alone, and never when the last caller is gone.
		ready, err := waitReadable(w.fd, w.stopFD)
		if err != nil {
			w.fail(err)
		}
		if !ready {
			return
		}
		var n notification
		switch err := receive(w.fd, &n); {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue // its caller was killed
		case err != nil:
			w.fail(fmt.Errorf("seccomp: receive: %w", err))
			return
		}
		w.duty.begin()
		w.decide(&n)
		if !w.duty.end(w) {
			return
		}
	}
}

// Close ends the Supervisor. What is not answered by then is answered ENOSYS by the kernel.
func (s *Supervisor) Close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.stopper.Close()
		s.work.Wait()
		s.attempts.close()
		s.stop.Close()
		s.config.Listener.Close()
		s.release()
	})
}

// release closes what NewSupervisor opened, as far as it got.
func (s *Supervisor) release() {
	if s.usher != nil {
		s.usher.close()
	}
	if s.sockets != nil {
		s.sockets.close()
	}
	if s.duty != nil {
		s.duty.close()
	}
}

// worker decides one notification after the other.
type worker struct {
	*Supervisor
	path []byte // for what is read of the caller's memory
	link []byte // for what links lead to

	wanted   uint64 // usher.wanting when the decision began
	nested   bool   // the caller has a user namespace of its own: see asCaller
	away     bool   // this thread's root is another than the run's
	rootless bool   // the caller's root cannot be this thread's
}

func (w *worker) decide(n *notification) {
	v := w.config.Policy.Verdict(n.Arch, uint32(n.NR), n.Args)
	switch v.Kind {
	case Write:
		w.asCaller(n, w.write)
	case Connect:
		w.asCaller(n, w.connect)
	case Listen:
		w.listen(n)
	case Look:
		w.asCaller(n, w.look)
	case Namespace:
		w.namespace(n)
	case Socket:
		w.socket(n)
	case Allow:
		// The filter never asks about it.
		w.answer(n, unix.EPERM)
	default:
		w.deny(n, v.Errno)
	}
}

// deny records a refused call, then answers. A clone3(2) that asks for no more than clone(2) gives is no denial.
func (w *worker) deny(n *notification, errno unix.Errno) {
	name := Name(uint32(n.NR))
	target, from := describe(name, n.Args), audit.FromKernel
	if name == "clone3" {
		var plain bool
		if target, plain = describeClone3(n); plain {
			w.answer(n, errno)
			return
		}
		from = audit.FromClaimed
	}
	e := audit.Event{
		Class: audit.ClassSyscall, Action: name, Decision: audit.Deny, Target: target, Errno: unix.ErrnoName(errno),
		Provenance: from, Process: w.describeCaller(n.PID),
	}
	if errno == unix.ENOSYS || errno == unix.EPROTONOSUPPORT {
		e.Reason = "answered as an older kernel would: callers fall back"
		if name != "clone3" { // of which only those that ask for a namespace or a cgroup come here
			e.Severity = audit.SeverityNoise
		}
	} else {
		e.Reason, e.Fix = w.whyRefused(n, name)
	}
	w.emit(n, e)
	w.answer(n, errno)
}

// whyRefused says why a call is refused and which flag would allow it, "" where there is nothing to say.
func (w *worker) whyRefused(n *notification, name string) (reason, fix string) {
	if group := groupFor(n.Arch, uint32(n.NR), n.Args); group != "" {
		return fmt.Sprintf("of the group %s of system calls, which the policy does not list", group), audit.Flag("--allow-syscalls", group)
	}
	if name == "clone" || name == "unshare" || name == "setns" {
		return w.noNamespace(), ""
	}
	return whyNoGroup(name, n.Args), ""
}

// emit records an event of a caller that still waits. One that was killed meanwhile may be another process by now: what
// was read of it is left out.
func (w *worker) emit(n *notification, e audit.Event) {
	waits := valid(w.fd, n.ID)
	if !waits {
		e.Process = audit.Process{PID: int(n.PID), Ended: true}
	}
	if e.Severity == "" && e.Decision == audit.Deny && e.Class != audit.ClassSyscall && w.config.Severity != nil {
		e.Severity = w.config.Severity(e.Target)
	}
	w.attempts.record(n, e, waits)
}

// answer ends a call with an errno, or with 0.
func (s *Supervisor) answer(n *notification, errno unix.Errno) {
	s.attempts.settle(n, func() error { return answer(s.fd, n.ID, errno) })
}

// carryOn lets the kernel carry a call out.
func (s *Supervisor) carryOn(n *notification) {
	s.attempts.settle(n, func() error { return carryOn(s.fd, n.ID) })
}
