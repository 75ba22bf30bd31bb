// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// job is this process as one of a shell's job: a process group that gets the signals of a terminal.
type job struct {
	told atomic.Bool // SIGTSTP came, and to the others of the job too if the terminal sent it
}

// passedOn are the signals that this process gets for the command. One that the caller has ignored stays so, as the command
// alone would have inherited it: nohup(1), and a shell's background jobs.
func passedOn() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// pass passes signals on to the command. SIGTSTP stops that; then stop stops this process.
func (j *job) pass(signals <-chan os.Signal, send func(unix.Signal)) {
	for s := range signals {
		if n, ok := s.(unix.Signal); ok {
			if n == unix.SIGTSTP {
				j.told.Store(true)
			}
			send(n)
		}
	}
}

// stop stops the job as the terminal would have, and returns when the shell continues it; at once where there is no shell that
// could (signal(7): the kernel stops no orphaned process group by the signals of a terminal). A signal to its own thread arrives
// before the call returns.
func (j *job) stop(sig unix.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := act(sig, action{handler: ignored})
	defer act(sig, before)
	if before.handler == ignored {
		return
	}
	if told := j.told.Swap(false); !told || sig != unix.SIGTSTP {
		unix.Kill(0, sig) // the others; this process ignores it
	}
	act(sig, action{})
	unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
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
