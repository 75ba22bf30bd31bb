// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// maxWorkers answer notifications at the same time: one slow caller does not hold up another. One waits for the first, and
// each that finds nobody left to wait starts the next.
const maxWorkers = 4

// Config is what a Supervisor needs of a run.
type Config struct {
	Policy   Policy
	Listener *os.File // of the filter; the Supervisor's to close
	Init     int      // a process of the run, by its number here: its root and its network namespace are the run's
	Sink     audit.Sink
	Caller   func(tid int) audit.Process

	// HostExists tells whether the host has something at a path: a connection to it from inside is then worth a record.
	HostExists func(path string) bool
}

// Supervisor answers the calls that a filter asks about.
type Supervisor struct {
	config    Config
	fd        int
	usher     *usher
	sockets   *sockets
	stop      *os.File // readable when Close was called
	stopper   *os.File
	connects  chan struct{} // a place for each connect that is under way
	outside   chan func()
	work      sync.WaitGroup
	running   atomic.Int32 // workers
	waiting   atomic.Int32 // of them, for a notification
	receiving sync.Mutex   // held by the one that waits
	once      sync.Once
	mu        sync.Mutex // guards failed
	failed    error
}

// NewSupervisor prepares a Supervisor; Serve starts it. The calling process must have every capability in the user namespace
// that the run's mount and network namespaces belong to.
func NewSupervisor(c Config) (*Supervisor, error) {
	s := &Supervisor{config: c, fd: int(c.Listener.Fd()), connects: make(chan struct{}, maxConnects), outside: make(chan func())}
	var err error
	if s.usher, err = newUsher(c.Init); err != nil {
		return nil, err
	}
	if s.sockets, err = newSockets(c.Init); err != nil {
		s.usher.close()
		return nil, err
	}
	if s.stop, s.stopper, err = os.Pipe(); err != nil {
		s.usher.close()
		s.sockets.close()
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	wakeUpHere(s.fd)
	return s, nil
}

// Serve answers until Close is called or the last process with the filter has ended. An error means that nothing is answered:
// the run must end.
func (s *Supervisor) Serve() error {
	go s.stayOutside()
	s.spawn()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// spawn starts one more worker, up to maxWorkers.
func (s *Supervisor) spawn() {
	if s.running.Add(1) > maxWorkers {
		s.running.Add(-1)
		return
	}
	s.work.Go(s.serve)
}

// fail keeps the first error of a worker.
func (s *Supervisor) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// stayOutside runs what workers cannot: their own threads do not see the host's files.
func (s *Supervisor) stayOutside() {
	for f := range s.outside {
		f()
	}
}

// asHost runs f on a thread with the host's root.
func asHost[T any](s *Supervisor, f func() T) T {
	result := make(chan T, 1)
	s.outside <- func() { result <- f() }
	return <-result
}

func (s *Supervisor) describeCaller(tid uint32) audit.Process {
	return asHost(s, func() audit.Process { return s.config.Caller(int(tid)) })
}

func (s *Supervisor) hostExists(path string) bool {
	return asHost(s, func() bool { return s.config.HostExists(path) })
}

// next receives a notification, or is not ready when there will be none. One worker waits at a time: of several that see the same
// one, all but the first would wait inside of the call, which before Linux 6.11 ends with the next notification alone, and never
// when the last caller is gone.
func (s *Supervisor) next(n *notification) (ready bool, err error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	ready, err = waitReadable(s.fd, int(s.stop.Fd()))
	if err != nil || !ready {
		return false, err
	}
	return true, receive(s.fd, n)
}

func (s *Supervisor) serve() {
	// The thread gets the run's root, and ends with this goroutine.
	runtime.LockOSThread()
	if err := s.usher.enter(); err != nil {
		s.fail(err)
		return
	}
	w := &worker{Supervisor: s, path: make([]byte, maxPath)}
	for {
		s.waiting.Add(1)
		var n notification
		ready, err := s.next(&n)
		left := s.waiting.Add(-1)
		switch {
		case !ready:
			return
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue // its caller was killed
		case err != nil:
			return
		}
		if left == 0 {
			s.spawn()
		}
		w.decide(&n)
	}
}

// Close ends the Supervisor. What is not answered by then is answered ENOSYS by the kernel.
func (s *Supervisor) Close() {
	s.once.Do(func() {
		s.stopper.Close()
		s.work.Wait()
		close(s.outside)
		s.stop.Close()
		s.config.Listener.Close()
		s.usher.close()
		s.sockets.close()
	})
}

// worker decides one notification after the other.
type worker struct {
	*Supervisor
	path []byte // for what is read of the caller's memory
}

func (w *worker) decide(n *notification) {
	v := w.config.Policy.Verdict(n.Arch, uint32(n.NR), n.Args)
	switch v.Kind {
	case Write:
		w.write(n)
	case Connect:
		w.connect(n)
	case Allow:
		// The filter never asks about it.
		answer(w.fd, n.ID, unix.EPERM)
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
			answer(w.fd, n.ID, errno)
			return
		}
		from = audit.FromClaimed
	}
	e := audit.Event{
		Class: audit.ClassSyscall, Action: name, Decision: audit.Deny, Target: target, Errno: unix.ErrnoName(errno),
		Provenance: from, Process: w.describeCaller(n.PID),
	}
	if errno == unix.ENOSYS {
		e.Reason = "answered as an older kernel would: callers fall back"
		e.Severity = audit.SeverityNoise
	}
	w.emit(n, e)
	answer(w.fd, n.ID, errno)
}

// emit records an event of a caller that still waits. One that was killed meanwhile may be another process by now: what
// was read of it is left out.
func (w *worker) emit(n *notification, e audit.Event) {
	if !valid(w.fd, n.ID) {
		e.Process = audit.Process{PID: int(n.PID), Ended: true}
	}
	w.config.Sink.Emit(e)
}
