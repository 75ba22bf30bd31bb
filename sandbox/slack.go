// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// lateness is how late timers may be (timer slack, prctl(2)) of the watcher in the supervisor, and of what that starts until the command
// runs. The watcher is the thread by which a Go runtime looks after the others: every 20 microseconds for as long as one of them does
// something, and 10 milliseconds longer. With the kernel's usual slack of 50 it wakes up several hundred times in a start, a tenth of its
// processor time; and later with each question about a system call, for as much as the answer takes. Other threads need theirs: the
// runtime sleeps for 3 microseconds where it hands work from one to another.
const lateness = 10 * time.Millisecond

// sparePlaces are how many threads of the supervisor can wait in the kernel and leave the others a place to run at (GOMAXPROCS), and
// startPlaces how many until the command runs. It is the watcher that takes the place of one that waits, and lateness later.
const (
	sparePlaces = 8
	startPlaces = 1
)

// timerSlack is that of the calling thread, and at the beginning what this process was started with, in nanoseconds; 0 for one with a
// real-time priority, which has none.
func timerSlack() int {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return slack
}

// withSlack has f start a process that inherits lateness.
func withSlack(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := timerSlack()
	unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(lateness), 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
	return f()
}

// letWatcherBeLate gives this process's watcher lateness (proc_pid_timerslack_ns(5)). It takes CAP_SYS_NICE in the process's own user
// namespace, and before Linux 4.20 in the first one: where it fails, nothing is lost but time.
func letWatcherBeLate() error {
	thread, err := watcher()
	if err != nil {
		return err
	}
	return os.WriteFile("/proc/"+thread+"/timerslack_ns", strconv.AppendInt(nil, lateness.Nanoseconds(), 10), 0)
}

// watcher is the number of the watcher: the runtime starts it before any other thread (runtime.main), and the kernel lists threads in
// the order in which they began.
func watcher() (string, error) {
	tasks, err := os.Open("/proc/self/task")
	if err != nil {
		return "", err
	}
	defer tasks.Close()
	threads, err := tasks.Readdirnames(-1)
	if err == nil && len(threads) < 2 {
		err = errors.New("the runtime has no watcher")
	}
	if err != nil {
		return "", err
	}
	return threads[1], nil
}
