// SPDX-License-Identifier: Apache-2.0

// Package nsinit is the process that libcontainer starts in the run's namespaces: it makes the rest of them, enters the run's
// tree, gives up its capabilities and executes the stage. All of that is libcontainer's own code. A program becomes that
// process by importing this package; there is nothing to call.
//
// It begins in this package's init function and never gets to main, as runc's does: what is initialised after it, most of the
// program, would take longer than its work. A program without this package would not know the word "init", and no run would
// start. What it refuses: to begin without libcontainer's pipes, so that the word typed by hand means nothing.
package nsinit

import (
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	// libcontainer's first steps run before the Go runtime: they enter the namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	"golang.org/x/sys/unix"
)

const (
	arg            = "init" // libcontainer's word for the process
	pipe           = "_LIBCONTAINER_INITPIPE"
	codeNotStarted = 125
)

func init() {
	if len(os.Args) < 2 || os.Args[1] != arg || os.Getenv(pipe) == "" {
		return
	}
	runtime.LockOSThread()
	// libcontainer gives the death signal to its first process alone, which has been replaced by clones since (prctl(2): it is
	// cleared in a child). Without it an init whose supervisor dies waits for ever for the word to go on. A supervisor that is
	// dead by now is noticed: its end of the pipe is closed.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		os.Exit(codeNotStarted)
	}
	// libcontainer prints what it cannot tell the supervisor, which is dead then: the launcher has said why. The command's own file, which
	// is number 2, stays what it is.
	if null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	libcontainer.Init()
}
