// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
	"github.com/agentjail/agentjail/seccomp"
)

// confine gives up what the supervisor needed to build the run, before the command may go. The supervisor reads what the command
// sends, with the rights of the caller and the host's network: whoever came to command it shall not start a program of the host's
// or change a file. What it keeps are the capabilities in its own user namespace, by which it looks into the run.
func confine(own seccomp.Program) error {
	if err := rootfs.ReadOnly("/"); err != nil {
		return setupError("supervisor", err)
	}
	return setupErrorOrNil("supervisor", own.Load())
}
