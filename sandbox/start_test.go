// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"testing"
)

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

// A supervisor that was started early is taken for the run that it was started for, once.
func TestEarlyFits(t *testing.T) {
	stdio := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	id := Identity{UID: 1000, GID: 100}
	plan := func(change func(*Plan)) Plan {
		p := Plan{Identity: id}
		change(&p)
		return p
	}
	same := plan(func(*Plan) {})
	for name, c := range map[string]struct {
		early *Early
		plan  Plan
		stdio [3]*os.File
		want  bool
	}{
		"the same":      {&Early{id: id, stdio: stdio}, same, stdio, true},
		"none":          {nil, same, stdio, false},
		"taken":         {&Early{id: id, stdio: stdio, taken: true}, same, stdio, false},
		"another file":  {&Early{id: id, stdio: stdio}, same, [3]*os.File{os.Stdin, os.Stderr, os.Stderr}, false},
		"another user":  {&Early{id: id, stdio: stdio}, plan(func(p *Plan) { p.Identity.UID = 0 }), stdio, false},
		"another group": {&Early{id: id, stdio: stdio}, plan(func(p *Plan) { p.Identity.GID = 0 }), stdio, false},
		"a proxy":       {&Early{id: id, stdio: stdio}, plan(func(p *Plan) { p.Proxies = "environment" }), stdio, false},
	} {
		if got := c.early.fits(c.plan, c.stdio); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
