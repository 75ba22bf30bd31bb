// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCancelledError: a start that is ended says what a command does that is ended so.
func TestCancelledError(t *testing.T) {
	for sig, want := range map[unix.Signal]struct {
		code int
		word string
	}{
		unix.SIGTERM: {143, "terminated"}, KillSignal: {137, "killed"},
	} {
		e := &CancelledError{sig}
		if e.Code() != want.code || !strings.HasSuffix(e.Error(), ": "+want.word) {
			t.Errorf("%d: exit code %d, %v", sig, e.Code(), e)
		}
	}
}
