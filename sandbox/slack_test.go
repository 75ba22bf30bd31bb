// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The watcher is the thread that sleeps most, again and again, while another is busy.
func TestWatcher(t *testing.T) {
	want, err := watcher()
	if err != nil {
		t.Fatal(err)
	}
	asleep := map[string]int{}
	for asleep[want] < 20 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			// Of a thread that has ended there is nothing to read (proc_pid_syscall(5)).
			call, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/syscall")
			if strings.HasPrefix(string(call), strconv.Itoa(unix.SYS_NANOSLEEP)+" ") {
				asleep[thread.Name()]++
			}
		}
		for thread, n := range asleep {
			if n > asleep[want]+100 {
				t.Fatalf("thread %s was asleep %d times, the watcher %s %d times", thread, n, want, asleep[want])
			}
		}
	}
}
