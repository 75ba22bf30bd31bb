// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// startSlack is how late timers of the supervisor and of what it starts may be while a run starts (timer slack, prctl(2)). In each
// of these processes a thread of the Go runtime looks after the others every 20 microseconds, and with the kernel's usual slack of
// 50 wakes up several hundred times in a start: a tenth of its processor time.
const startSlack = 500 * time.Microsecond

// timerSlack is what this process was started with, in nanoseconds; 0 for one with a real-time priority, which has none.
func timerSlack() int {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return slack
}

// withSlack has f start a process that inherits startSlack. The caller holds its thread.
func withSlack(f func() error) error {
	unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(startSlack), 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // what the thread was born with
	return f()
}

// resetSlack gives the supervisor the timers of its caller: from now on a command may wait for it. Only a supervisor that has the
// capability over itself, as its namespace gives it, can do so for all of its threads; one that stays as it is is late, not wrong.
func resetSlack(slack int) {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if slack > 0 {
			os.WriteFile("/proc/"+thread.Name()+"/timerslack_ns", strconv.AppendInt(nil, int64(slack), 10), 0)
		}
	}
}
