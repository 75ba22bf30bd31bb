// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
	"github.com/agentjail/agentjail/seccomp"
)

// confine gives up what the supervisor needed to build the run, before the command may go. The supervisor reads what the command
// sends, with the rights of the caller and the host's network: whoever came to command it shall not start a program of the host's
// or change a file. What it keeps are the capabilities in its own user namespace, by which it looks into the run.
//
// Before, it cannot close itself: what libcontainer writes of its children in /proc would belong to root (PR_SET_DUMPABLE in prctl(2)).
func confine(own seccomp.Program) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return setupError("supervisor", err)
	}
	if err := rootfs.ReadOnly("/"); err != nil {
		return setupError("supervisor", err)
	}
	return setupErrorOrNil("supervisor", own.Load())
}

// WithoutCore keeps this process and those that it starts from leaving a core (core(5)), in a file or with the host's handler. In
// their memory are the key that signs logs, the passwords of proxies and what hosts have sent.
func WithoutCore() {
	var now unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &now) == nil {
		none := min(stage.NoCore, now.Max)
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: none, Max: none}) // to lower a limit is always allowed (setrlimit(2))
	}
}
