// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxWorkers decide notifications at the same time. There are as many only where a file system answers slowly.
	maxWorkers = 16
	// patience is how long a worker may take for one before another is there for the next; a look that finds none which has taken so long is
	// followed by another then, for what was begun shortly before. With each looksToDouble that find nothing the timer is set for twice as
	// long between the two, maxDoublings times: the thread that looks takes a tenth of what the answers do.
	patience      = 5 * time.Millisecond
	looksToDouble = 16
	maxDoublings  = 3
)

// duty says which worker receives notifications. One thread receives and decides them all as long as each takes a moment: to
// wake another one for the next costs more than to decide most. Where one takes long, since a file system or its caller is
// slow, it is relieved: the next are another's.
type duty struct {
	timer int // timerfd(2); that of the Go runtime would wake a thread whenever it is set

	mu      sync.Mutex
	holder  *worker
	busy    bool // the holder decides
	late    bool // the holder was to be relieved when all workers were busy
	workers int
	turns   uint64 // how often a holder has begun
	armed   bool   // the timer will expire
	since   uint64 // which turn it was when the timer was set
	looks   int    // how often it has expired since it found one that took long
}

func newDuty() (*duty, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("seccomp: timerfd_create: %w", err)
	}
	return &duty{timer: fd}, nil
}

// begin says that the holder decides from now on. The timer is not set for each notification, of which there may be ten thousand in a
// second, but for all that come until it expires.
func (d *duty) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = true
	d.turns++
	d.arm()
}

// arm sets the timer, unless it is.
func (d *duty) arm() {
	if d.armed {
		return
	}
	d.armed, d.since = true, d.turns
	unix.TimerfdSettime(d.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(d.wait().Nanoseconds())}, nil)
}

// wait is for how long the timer is set.
func (d *duty) wait() time.Duration {
	if d.looks%2 == 1 {
		return patience
	}
	return patience << min(d.looks/looksToDouble, maxDoublings)
}

// end says that a worker has decided, and tells whether it is to receive the next notification. One that is not is done.
func (d *duty) end(w *worker) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.holder == w:
		d.busy, d.late = false, false
	case d.late:
		d.holder, d.busy, d.late = w, false, false
	default:
		d.workers--
		return false
	}
	return true
}

// relieve makes a worker the holder where the holder still decides, unless there are as many as may be.
func (d *duty) relieve(w *worker) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.holder != nil && !d.busy:
		return false
	case d.workers == maxWorkers:
		d.late = true
		return false
	}
	d.workers++
	d.holder, d.busy = w, false
	return true
}

// takesLong tells, when the timer has expired, whether the holder is still at the notification for which it was set. One that is at a
// later one has until the timer expires again.
func (d *duty) takesLong() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	if d.busy && d.turns == d.since {
		d.looks = 0
		return true
	}
	d.looks++
	if d.busy {
		d.arm()
	}
	return false
}

// expired waits until the holder takes long. It is false at the end of the last caller, or of stop.
func (d *duty) expired(listener, stop int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(d.timer), Events: unix.POLLIN}, {Fd: int32(listener)}, {Fd: int32(stop), Events: unix.POLLIN}}
	var count [8]byte
	for {
		_, err := unix.Poll(fds, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("seccomp: poll: %w", err)
		}
		if fds[1].Revents != 0 || fds[2].Revents != 0 {
			return false, nil
		}
		if _, err := unix.Read(d.timer, count[:]); err == nil && d.takesLong() {
			return true, nil
		}
	}
}

func (d *duty) close() { unix.Close(d.timer) }
