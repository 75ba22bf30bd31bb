// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// stress is how many starts the races make: 100, or AGENTJAIL_STRESS (make stress: 1000).
func stress() int {
	if n, err := strconv.Atoi(os.Getenv("AGENTJAIL_STRESS")); err == nil && n > 0 {
		return n
	}
	return 100
}

// flood is how many calls each of the 8 threads of a flood makes: those of half a minute or so with make stress.
func flood() int {
	if stress() < 1000 {
		return 1000
	}
	return 40_000
}

// TestStressStarts: starts and stops leave nothing behind, and each works.
// Containment checks: O05, O09.
func TestStressStarts(t *testing.T) {
	p := newPlace(t)
	before := mounts(t)
	for i := range stress() {
		stdout, stderr, code := p.run(t, "agentjail", "run", "--quiet", "--", "sh", "-c", "echo $0; exit 9", strconv.Itoa(i))
		if code != 9 || stdout != strconv.Itoa(i)+"\n" {
			t.Fatalf("start %d: exit %d\n%s%s", i, code, stdout, stderr)
		}
	}
	clean(t, p, before)
	t.Logf("%d starts", stress())
}

// TestStressTogether: many runs at once in one working directory, each with its own log: 20, or 50 with make stress.
// Containment checks: O05, O09.
func TestStressTogether(t *testing.T) {
	p := newPlace(t)
	p.write(t, p.home+"/.netrc", "CANARY")
	before := mounts(t)
	together := min(max(stress()/20, 20), 50)
	rounds := max(stress()/together/5, 1)
	for round := range rounds {
		var wg sync.WaitGroup
		failures := make([]string, together)
		for i := range together {
			wg.Go(func() {
				script := fmt.Sprintf("cat ~/.netrc; echo %d >made-%d; sleep 0.2; cat made-%d", i, i, i)
				out, err := p.command("agentjail", "run", "--quiet", "--", "sh", "-c", script).Output()
				if err != nil || string(out) != fmt.Sprintln(i) {
					failures[i] = fmt.Sprintf("run %d: %v %q", i, err, out)
				}
			})
		}
		wg.Wait()
		for _, f := range failures {
			if f != "" {
				t.Errorf("round %d: %s", round, f)
			}
		}
	}
	clean(t, p, before)
	runs, err := os.ReadDir(p.state + "/agentjail/runs")
	if err != nil || len(runs) != together*rounds {
		t.Fatalf("%d runs have a log, not %d: %v", len(runs), together*rounds, err)
	}
	q, err := parseQuery("deny", []string{"-n", "1", "file", "open-read", ".*/\\.netrc"})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		events, err := readLog(p.state + "/agentjail/runs/" + run.Name() + "/events.jsonl")
		if err == nil {
			err = sound(events)
		}
		if err == nil {
			err = q.check(events, false)
		}
		if err != nil {
			t.Errorf("%s: %v", run.Name(), err)
		}
	}
}
