// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxConnects bounds the connects that are under way, where there are files for them; one above is answered EAGAIN.
	maxConnects = 512
	// lookAfter is how often it is asked whether the callers of those still wait.
	lookAfter = 50 * time.Millisecond
	// interrupt ends a call that a thread of this process is in. Nothing else sends it: it is the last real-time signal.
	interrupt = unix.Signal(64)
)

// pending are the connects that are under way. One can take as long as a server does not accept; when its caller is killed
// meanwhile, it is ended as the kernel would have ended it, and its place is free again.
type pending struct {
	waits  func(id uint64) bool // tells whether the caller of a notification still waits
	places int

	mu      sync.Mutex
	threads map[uint64]int // of this process, by the notification that each carries out
	looking bool
}

func newPending(waits func(id uint64) bool) (*pending, error) {
	if err := interruptible(); err != nil {
		return nil, err
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	return &pending{waits: waits, places: placesFor(files.Cur), threads: map[uint64]int{}}, nil
}

// placesFor is how many connects fit into what this process may have open. A command that has as many of them wait must not
// keep it from opening what its other decisions and their records take. The gateway, too, has its share.
func placesFor(files uint64) int {
	const perConnect, share = 2, 8 // the socket and the file that it goes to; of an eighth of all
	return int(min(max(files/share/perConnect, 1), maxConnects))
}

// enter takes a place; false if there is none.
func (p *pending) enter(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.threads) >= p.places {
		return false
	}
	p.threads[id] = 0
	return true
}

// do makes a call on the calling thread, which takes as long as its caller waits, and gives the place of the notification back.
func (p *pending) do(id uint64, call func() unix.Errno) unix.Errno {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.begin(id)
	defer p.end(id)
	for {
		if errno := call(); errno != unix.EINTR || !p.waits(id) {
			return errno
		}
	}
}

func (p *pending) begin(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.threads[id] = unix.Gettid()
	if !p.looking {
		p.looking = true
		go p.look()
	}
}

func (p *pending) end(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.threads, id)
}

// look interrupts the calls whose callers are gone, until there are no calls. One that has not begun when it is interrupted, or
// is begun again, is interrupted the next time.
func (p *pending) look() {
	for {
		time.Sleep(lookAfter)
		if !p.interruptGone() {
			return
		}
	}
}

// interruptGone tells whether there is more to look after.
func (p *pending) interruptGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, tid := range p.threads {
		if tid != 0 && !p.waits(id) {
			// Under the mutex: the thread is not of another use yet.
			unix.Tgkill(os.Getpid(), tid, interrupt)
		}
	}
	p.looking = len(p.threads) > 0
	return p.looking
}

// sigaction is struct kernel_sigaction (linux/signal_types.h).
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// interruptible has the interrupt signal end a call with EINTR. The Go runtime has a handler for every signal, and has the kernel
// begin a call again after it (SA_RESTART, sigaction(2)), which could then never be ended.
var interruptible = sync.OnceValue(func() error {
	const restart = 0x10000000 // SA_RESTART
	var action sigaction
	if err := rtSigaction(nil, &action); err != nil {
		return err
	}
	action.flags &^= restart
	return rtSigaction(&action, nil)
})

func rtSigaction(to, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interrupt), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(old)), unsafe.Sizeof(sigaction{}.mask), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("rt_sigaction", errno)
	}
	return nil
}
