// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"

	"github.com/agentjail/agentjail/sandbox/internal/prefault"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
)

// Package prefault knows the processes of a run by the words that they are started with.
func TestWordsOfRoles(t *testing.T) {
	if prefault.Supervisor != SupervisorArg || prefault.Stage != stage.Arg {
		t.Errorf("%q and %q, want %q and %q", prefault.Supervisor, prefault.Stage, SupervisorArg, stage.Arg)
	}
}

func TestOOMScore(t *testing.T) {
	for _, c := range []struct {
		before int
		limit  int64
		want   int
	}{
		{0, 32 << 20, 1000}, {0, 1 << 20, 1000}, {0, 64 << 20, 500}, {0, 1 << 30, 32}, {0, 1 << 50, 1}, // at least one more
		{100, 1 << 30, 132}, {-500, 64 << 20, 0}, {900, 64 << 20, 1000}, {1000, 1 << 30, 1000},
	} {
		if got := oomScore(c.before, c.limit); got != c.want {
			t.Errorf("a limit of %d and a score of %d: %d, want %d", c.limit, c.before, got, c.want)
		}
	}
}
