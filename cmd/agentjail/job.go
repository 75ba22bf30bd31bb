// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox"
)

// job is this process as one of a shell's job: a process group that gets the signals of a terminal.
type job struct {
	told atomic.Int32 // what has come since the last stop: see below
}

const (
	untold    = iota
	suspended // SIGTSTP, and to the others of the job too if the terminal sent it
	resumed   // SIGCONT after that
)

// passedOn are the signals that this process gets for the command, but for those of a terminal's Ctrl-Z, which heedStops adds.
func passedOn() chan os.Signal {
	return heed(make(chan os.Signal, 16), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, sandbox.KillSignal)
}

func heedStops(c chan os.Signal) { heed(c, unix.SIGTSTP, unix.SIGCONT) }

// ending are the signals that end a start: there is no command yet to do what it likes with them. Without this they would end this
// process alone, and leave the terminal as the run has set it and the log without an end.
func ending() chan os.Signal {
	return heed(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, sandbox.KillSignal)
}

// heed has signals come to a channel. One that the caller has ignored stays so, as the command alone would have inherited it: nohup(1),
// and a shell's background jobs.
func heed(c chan os.Signal, signals ...os.Signal) chan os.Signal {
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

// pass passes signals on to the command, but for SIGCONT. SIGTSTP stops that; then stop stops this process.
func (j *job) pass(signals <-chan os.Signal, send func(unix.Signal)) {
	for s := range signals {
		switch s {
		case unix.SIGCONT:
			j.told.CompareAndSwap(suspended, resumed)
			continue
		case unix.SIGTSTP:
			j.told.Store(suspended)
		case sandbox.KillSignal:
			s = unix.SIGKILL
		}
		if n, ok := s.(unix.Signal); ok {
			send(n)
		}
		if s == unix.SIGHUP {
			send(unix.SIGCONT) // a terminal that is closed sends both, since what is stopped would not end
		}
	}
}

// stop stops the job as the terminal would have, and returns when the shell continues it; at once where there is no shell that
// could (signal(7): the kernel stops no orphaned process group by the signals of a terminal), or where it has done so already.
func (j *job) stop(sig unix.Signal) {
	told := j.told.Swap(untold)
	if sig != unix.SIGTSTP {
		told = untold
	}
	before := act(sig, action{})
	defer act(sig, before)
	if before.handler == ignored || told == resumed {
		return
	}
	// Sent to its own thread, the signal arrives when that stops blocking it. Until then the others get theirs, and a SIGCONT of
	// a shell that is quick takes it back.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set unix.Sigset_t
	set.Val[0] = 1 << (sig - 1)
	unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
	unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	if told != suspended {
		unix.Kill(0, sig)
	}
	unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil)
	act(sig, action{handler: ignored}) // what no thread of this process has taken is void
}

// interrupt ends this process as the command was ended, by SIGINT. After an exit code, a shell would go on with its loop or script.
// The others of the job get the signal too, where the terminal has not sent it. It returns where the signal is ignored or blocked.
func interrupt(others bool) {
	if before := act(unix.SIGINT, action{}); before.handler == ignored {
		act(unix.SIGINT, before)
		return
	}
	pid := os.Getpid()
	if others {
		pid = 0
	}
	unix.Kill(pid, unix.SIGINT)
	time.Sleep(100 * time.Millisecond)
}

// action is the kernel's struct sigaction.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const ignored = 1 // SIG_IGN; the default action, SIG_DFL, is 0

// act sets what a signal does and returns what it did. Package os/signal cannot: its Reset leaves the runtime's handler in place,
// which does nothing where the default is to stop (Go 1.26, runtime.sigdisable).
func act(sig unix.Signal, a action) (before action) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	return before
}
