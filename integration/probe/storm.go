// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// storm opens a file to write, again and again, in a process that gets a signal every 0.2 ms, and of which the Go runtime stops the
// threads by signals of its own all the time, for its garbage (SIGURG).
func storm(args []string) error {
	if len(args) != 2 {
		return errors.New("a path and a number, please")
	}
	times, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGALRM)
	every := unix.NsecToTimeval(int64(200 * time.Microsecond))
	if _, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Interval: every, Value: every}); err != nil {
		return err
	}
	go func() {
		for {
			runtime.GC()
		}
	}()
	const threads = 4
	answers := make(chan string, threads*times)
	var work sync.WaitGroup
	for range threads {
		work.Go(func() {
			for range times / threads {
				fd, err := unix.Open(args[0], unix.O_CREAT|unix.O_WRONLY, 0o600)
				if err == nil {
					unix.Close(fd)
				}
				errno, _ := err.(unix.Errno)
				answers <- errnoName(errno)
			}
		})
	}
	work.Wait()
	close(answers)
	count := map[string]int{}
	for a := range answers {
		count[a]++
	}
	for a, n := range count {
		fmt.Println(n, a)
	}
	return nil
}
