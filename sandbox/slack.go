// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"time"

	"golang.org/x/sys/unix"
)

// lateness is how late timers of the supervisor may be, and until the command runs those of what it starts (timer slack, prctl(2)). In
// each of these processes a thread of the Go runtime looks after the others every 20 microseconds for as long as one of them does
// something, and 10 milliseconds longer. With the kernel's usual slack of 50 it wakes up several hundred times in a start, a tenth of its
// processor time; and sixty times for each question about a system call that comes alone, which takes more than the answer.
const lateness = 500 * time.Microsecond

// timerSlack is what this process was started with, in nanoseconds; 0 for one with a real-time priority, which has none.
func timerSlack() int {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return slack
}

// withSlack has f start a process that inherits lateness. The caller holds its thread.
func withSlack(f func() error) error {
	unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(lateness), 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // what the thread was born with
	return f()
}
