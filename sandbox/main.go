// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	// libcontainer's own first steps run before the Go runtime: they enter the namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/limits"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
)

// libcontainerArg is the word with which libcontainer starts the program as a container's init.
const libcontainerArg = "init"

// Main runs the program in the role that a run started it for, and does not return then. It returns at once where the
// program was started by its user. Call it first in main.
//
// A role is chosen by an argument and works only with the files that come with it (a connected socket, libcontainer's
// pipes), so that naming it by hand does nothing but end with an error.
func Main(newGateway NewGateway) {
	trace("main " + strings.Join(os.Args[1:min(2, len(os.Args))], ""))
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case stage.Arg:
		stage.Main()
		os.Exit(CodeNotStarted)
	case libcontainerArg:
		if os.Getenv("_LIBCONTAINER_INITPIPE") == "" {
			return
		}
		runtime.LockOSThread()
		// libcontainer gives the death signal to its first process alone, which has been replaced by clones since (prctl(2):
		// it is cleared in a child). Without it an init whose supervisor dies waits for ever for the word to go on. A supervisor
		// that is dead by now is noticed: its end of the pipe is closed.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			os.Exit(CodeNotStarted)
		}
		libcontainer.Init()
	case SupervisorArg:
		// The first thread starts the run's processes, which get a signal when it ends.
		runtime.LockOSThread()
		os.Exit(supervise(newGateway))
	case DoctorArg:
		DoctorChild()
	case limits.ReaperArg:
		os.Exit(limits.Reap())
	}
}
