// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"runtime"
	"strings"

	"github.com/agentjail/agentjail/sandbox/internal/limits"
	// The process that libcontainer starts begins in this package's init function, as the stage does in package stage's.
	_ "github.com/agentjail/agentjail/sandbox/internal/nsinit"
	"github.com/agentjail/agentjail/sandbox/internal/prefault"
)

// Main runs the program in the role that a run started it for, and does not return then. It returns at once where the
// program was started by its user. Call it first in main.
//
// A role is chosen by an argument and works only with the files that come with it (a connected socket, pipes), so that naming
// it by hand does nothing but end with an error. The two roles inside the run's namespaces never get here: see packages nsinit
// and stage.
func Main(newGateway NewGateway) {
	trace("main " + strings.Join(os.Args[1:min(2, len(os.Args))], ""))
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case SupervisorArg:
		// The first thread starts the run's processes, which get a signal when it ends.
		runtime.LockOSThread()
		prefault.Heap()
		os.Exit(supervise(newGateway))
	case DoctorArg:
		DoctorChild()
	case limits.ReaperArg:
		os.Exit(limits.Reap())
	}
}
