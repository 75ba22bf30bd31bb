// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// limit is how long processes may take to be gone after the command's end.
const limit = 20 * time.Second

// reap runs a command as the parent that its orphans get (PR_SET_CHILD_SUBREAPER, prctl(2)), kills a part of it where asked
// to, and fails when a process is left after all.
func reap(args []string) error {
	before, command, err := afterDashes(args)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("reap", flag.ContinueOnError)
	who := flags.String("kill", "", "launcher, supervisor (its first child), stage (the first of that) or stopped (the launcher, when the supervisor stands still)")
	after := flags.Duration("after", 0, "when")
	if err := flags.Parse(before); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	if *who != "" {
		time.AfterFunc(*after, func() { kill(*who, c.Process.Pid) })
	}
	ended := c.Wait()
	left := settle(limit)
	for _, pid := range left {
		cmdline, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		fmt.Printf("left %d %s\n", pid, strings.ReplaceAll(string(cmdline), "\x00", " "))
		unix.Kill(pid, unix.SIGKILL)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d processes outlived the command", len(left))
	}
	if *who != "" {
		return nil
	}
	return exitLike(ended)
}

// kill ends the launcher, or the first of its children as soon as there is one, or the first of that one's. The first is the supervisor,
// but for one which the Go runtime forks before it, to see whether the kernel gives a descriptor for it (os.checkPidfd, since Go 1.23),
// and which ends at once: so whatever is the first is killed for as long as the launcher lives.
func kill(who string, launcher int) {
	for who != "launcher" && unix.Kill(launcher, 0) == nil {
		child := firstChild(launcher)
		switch {
		case who == "stopped" && isSupervisor(child):
			unix.Kill(child, unix.SIGSTOP)
			time.Sleep(stands)
			who = "launcher"
			continue
		case who == "stage" && child != 0:
			child = firstChild(child)
		}
		if who != "stopped" && child != 0 {
			unix.Kill(child, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
	if who == "launcher" {
		unix.Kill(launcher, unix.SIGKILL)
	}
}

// stands is how long a supervisor stands still before its launcher is killed.
const stands = 50 * time.Millisecond

// isSupervisor tells whether a process is one by now, and not the launcher's copy that will be: what is stopped before it has asked for
// its parent's death signal (prctl(2), PR_SET_PDEATHSIG) gets none.
func isSupervisor(pid int) bool {
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.Contains(string(cmdline), "\x00agentjail-supervisor\x00")
}

func firstChild(pid int) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything; the fields after it are "state ppid" (proc_pid_stat(5)).
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			return child
		}
	}
	return 0
}
