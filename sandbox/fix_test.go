// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
)

// TestFixForLimits: a limit of the process is the fix, in whatever layer it is met.
func TestFixForLimits(t *testing.T) {
	full := fmt.Errorf("start: %w", &os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: unix.EMFILE})
	for _, layer := range []string{"user namespace", "log", "namespaces"} {
		if fix := fixFor(layer, full); !strings.Contains(fix, "ulimit -n") {
			t.Errorf("%s: %q", layer, fix)
		}
		if fix := fixFor(layer, unix.EPERM); strings.Contains(fix, "ulimit") {
			t.Errorf("%s without a limit: %q", layer, fix)
		}
	}
	known := fmt.Errorf("listen: %w: %w", unix.EMFILE, &closedError{}) // one that has a fix of its own
	if fix := fixFor("network namespace", known); !strings.Contains(fix, "ulimit -n") {
		t.Errorf("of an error with a fix: %q", fix)
	}
	for errno, processes := range map[unix.Errno]bool{unix.EAGAIN: true, unix.EPERM: false} {
		if fix := fixFor("filters", &stage.Error{Step: stage.StepClone, Errno: errno}); strings.Contains(fix, "ulimit -u") != processes {
			t.Errorf("no user namespace of the command's own, %v: %q", errno, fix)
		}
	}
}

// TestFixForCopies: what a copy of the log lacks is what is said of it.
func TestFixForCopies(t *testing.T) {
	for errno, want := range map[unix.Errno]string{unix.ENOSPC: "room", unix.EPIPE: "reads"} {
		if fix := fixFor("log", &audit.SinkError{Sink: "fd 5", Err: errno}); !strings.Contains(fix, want) {
			t.Errorf("%v: %q", errno, fix)
		}
	}
}
