// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/seccomp"
)

// TestF02EveryDenied: each call that the policy refuses is refused, and is one event for each attempt, no less and no more. The
// twin is the same run's output: the probe's own calls, which are allowed, leave no event.
func TestF02EveryDenied(t *testing.T) {
	t.Parallel()
	policy, err := seccomp.Default(seccomp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var args [6]uint64 // as the probe passes them
	for i := range args {
		args[i] = math.MaxUint64
	}
	const attempts = 3
	var calls []string
	denied := map[string]bool{}
	for nr := range uint32(1024) {
		verdict := policy.Verdict(seccomp.NativeArch(), nr, args)
		name := seccomp.Name(nr)
		if name == "uretprobe" || name == "uprobe" {
			continue // no filter is asked (Linux 6.14 and 6.18), and who was not probed gets SIGILL
		}
		// Numbers without a name are all alike.
		if verdict.Kind == seccomp.Deny && (nr < 512 || nr == 1023) {
			for range attempts {
				calls = append(calls, fmt.Sprintf("@%d", nr))
			}
			denied[name] = true
		}
	}
	if len(denied) < 80 {
		t.Fatalf("only %d calls are denied", len(denied))
	}
	p := newPlace(t)
	p.must(t, "cp", suite.base+"/bin/probe", "probe")
	stdout := p.must(t, "agentjail", append([]string{"run", "--quiet", "--", "./probe", "calls"}, calls...)...)
	for line := range strings.Lines(stdout) {
		if !strings.HasSuffix(line, " EPERM\n") && !strings.HasSuffix(line, " ENOSYS\n") {
			t.Errorf("not refused: %s", line)
		}
	}
	got := map[string]int{}
	for _, e := range p.ended(t) {
		if e.Class == "syscall" {
			got[e.Action] += e.attempts()
		}
	}
	for name := range denied {
		if got[name] != attempts {
			t.Errorf("%s: %d events for %d attempts", name, got[name], attempts)
		}
	}
	for name, n := range got {
		if !denied[name] {
			t.Errorf("%s: %d events, and no attempt", name, n)
		}
	}
}
