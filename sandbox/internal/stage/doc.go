// SPDX-License-Identifier: Apache-2.0

// Package stage is the code that runs inside a sandbox as pid 1, and the half of the conversation with it that the
// supervisor holds.
//
//	p, err := stage.NewParent(conn)        // supervisor: its end of the socket that the stage inherits as file 3
//	err = p.Awake()                        // it is there: the time to put it into a cgroup
//	ready, err := p.Prepare(spec)          // identity, capabilities, Landlock and the filter are on; nothing has run yet
//	...                                    // compare the posture of ready.HostPID from outside, serve ready.Listener
//	err = p.Go()                           // execve
//	status, err := p.Wait(onStop)
//
// The stage is the program itself, started again with Arg as its first argument and a unix stream socket as file 3. It begins
// in this package's init function and never gets to main. It forks the command's process with a bare clone(2) into a user namespace of its own, in which the
// command has the caller's ids and no capability, puts Landlock and the seccomp filter on, hands the filter's listener to
// the supervisor, and executes the command when the supervisor says so. From then on it reaps, passes signals on and
// reports, and when the command ends it kills what the command left behind. protocol.go draws the conversation.
//
// What it refuses: every step that fails ends the start with an *Error that names it. No step is optional, apart from
// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which kernels before 5.19 lack; Ready says whether it is on.
//
// Limits: one command in the life of a stage. Landlock handles only what would be silent anyway (see landlock.go), and on
// kernels before 5.19 (ABI 1) it also refuses renames and links from one directory to another. Everything that a stage
// says after Go is treated as said by the command: sizes are bounded and values checked.
package stage

import "os"

// Arg is the first argument of a process that is a stage.
const Arg = "agentjail-stage"

// init is where a stage begins, and ends. Between here and main most of the program's other packages are initialised, which
// the stage needs none of and which takes longer than all that it does itself.
func init() {
	if len(os.Args) > 1 && os.Args[1] == Arg {
		live()
	}
}
