// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/limits"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
)

// The messages between launcher (A) and supervisor (B).
//
//	A -> B  build     the plan, and where the run's files are; + a device node of FUSE, where sudo has to open it for the user
//	B -> A  fuse      + the device: A serves the run's root from here on; not without FUSE, see Plan.WithoutFUSE
//	B -> A  terminal  + the master of the run's pty, where there is one
//	B -> A  place     the pid of the run's first process: A puts it into the cgroup
//	A -> B  placed    where the cgroup is, for the command to see, or why it cannot be had
//	B -> A  ready     the command's pid and its posture; the command is waiting
//	A -> B  go        run.start and the posture are in the log
//	B -> A  started
//	B -> A  event     an event for the log; dropped: how many of each class there is none for
//	A -> B  signal    for the command
//	B -> A  taken     one that is to end the run has been passed on
//	B -> A  stopped   the command was stopped, and by which signal: Ctrl-Z, or that it wants the keys of the terminal
//	A -> B  continue  it goes on, in the foreground of the terminal or in the background
//	B -> A  over      the command's status; the run's cgroup is still there: A counts what hit its limits
//	A -> B  counted
//	B -> A  ended     nothing of the run is left
//	B -> A  failed    nothing was started, and why
const (
	msgBuild    = "build"
	msgFuse     = "fuse"
	msgTerminal = "terminal"
	msgPlace    = "place"
	msgPlaced   = "placed"
	msgReady    = "ready"
	msgGo       = "go"
	msgStarted  = "started"
	msgEvent    = "event"
	msgDropped  = "dropped"
	msgSignal   = "signal"
	msgTaken    = "taken"
	msgContinue = "continue"
	msgStopped  = "stopped"
	msgOver     = "over"
	msgCounted  = "counted"
	msgEnded    = "ended"
	msgFailed   = "failed"
)

// buildOrder is the body of msgBuild.
type buildOrder struct {
	ID    string        `json:"id"`
	Dir   string        `json:"dir"` // the run's directory; mnt below it is the mount point
	Plan  Plan          `json:"plan"`
	TTYs  [3]bool       `json:"ttys"`  // which of stdin, stdout and stderr become the run's pty
	Keys  bool          `json:"keys"`  // the command starts in the foreground of the pty
	Slack int           `json:"slack"` // see timerSlack
	Group posture.Group `json:"group"` // the cgroup that was made, where there is one: B asks to be placed
}

// placed is the body of msgPlaced.
type placed struct {
	Refused string        `json:"refused,omitempty"`
	Views   []limits.View `json:"views,omitempty"`
}

// readyReport is the body of msgReady.
type readyReport struct {
	PID         int                 `json:"pid"`  // of the command, on the host
	Init        int                 `json:"init"` // of the run's first process
	Posture     map[string]any      `json:"posture"`
	Differences posture.Differences `json:"differences,omitempty"`
	Coverage    []string            `json:"coverage,omitempty"`
}

// endReport is the body of msgOver.
type endReport struct {
	Code   int         `json:"code"`             // as a shell says it: 128+N for signal N
	Signal unix.Signal `json:"signal,omitempty"` // that ended it
	Exec   string      `json:"exec,omitempty"`   // why the command could not be executed
	Late   bool        `json:"late,omitempty"`   // the supervisor had to end it, after its deadline
}

// failure is the body of msgFailed: a SetupError on the wire.
type failure struct {
	Layer string `json:"layer"`
	Err   string `json:"err"`
	Fix   string `json:"fix,omitempty"`
}

// files of the three standard streams.
type stdio [3]*os.File
