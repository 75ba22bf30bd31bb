// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// skip fails instead where the tests must work, which for an ordinary user takes more than this package can ask for.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("AGENTJAIL_MUST_WORK") != "" && os.Getuid() == 0 {
		t.Fatal(why)
	}
	t.Skip(why)
}

// realGroup makes a group on this host, as that of a run.
func realGroup(t *testing.T, s Spec) *Group {
	t.Helper()
	s.Run = ulid.Make().String()
	g, err := Create(s)
	var unavailable *UnavailableError
	if errors.As(err, &unavailable) {
		if unavailable.Fix() == "" {
			t.Errorf("no fix for %v", err)
		}
		skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// startIn starts a shell that waits for a line, puts it into the group, and lets it go.
func startIn(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read go; "+script)
	cmd.Stderr = io.Discard
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func has(hits []Hit, limit string) bool {
	return slices.ContainsFunc(hits, func(h Hit) bool { return h.Limit == limit && h.Count > 0 && h.Reason != "" })
}

// Containment check: O01.
func TestPidsHold(t *testing.T) {
	g := realGroup(t, Spec{Pids: 8})
	cmd := startIn(t, g, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 30 & done; wait")
	for deadline := time.Now().Add(20 * time.Second); !has(g.Hits(), "pids"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no hit was told")
		}
	}
	if n := len(g.places[0].processes()); n > 8 {
		t.Errorf("%d processes, more than 8", n)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process survived Kill")
	}
	if hits := g.Hits(); len(hits) > 0 && has(hits, "memory") {
		t.Errorf("hits of another limit: %v", hits)
	}
}

// Containment check: O02.
func TestMemoryHolds(t *testing.T) {
	g := realGroup(t, Spec{Memory: 24 << 20})
	// tail keeps what it reads, as it waits for the end of the line.
	cmd := startIn(t, g, "head -c 200000000 /dev/zero | tail >/dev/null; exit 3")
	cmd.Wait()
	if !has(g.Hits(), "memory") {
		t.Error("200 MB fit into 24 MiB, or nothing was told")
	}
	if hits := g.Hits(); len(hits) != 0 {
		t.Errorf("told again: %v", hits)
	}
}

func TestAllLimitsAtOnce(t *testing.T) {
	g := realGroup(t, Spec{Memory: 64 << 20, Pids: 20, CPUs: 0.5})
	cmd := startIn(t, g, "exit 7")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if hits := g.Hits(); len(hits) != 0 {
		t.Errorf("hits of a process that did nothing: %v", hits)
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	g := realGroup(t, Spec{Memory: 64 << 20, Pids: 20})
	startIn(t, g, "sleep 60 & sleep 60 & wait")
	var paths []string
	for _, p := range g.places {
		paths = append(paths, p.path)
	}
	if len(paths) == 0 || g.Dir() != paths[0] {
		t.Fatalf("places %v, Dir %q", paths, g.Dir())
	}
	if err := errors.Join(g.Kill(), g.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); g.scope == nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// A launcher that is killed leaves its group; the next one removes it, but not one whose launcher lives.
func TestStaleGroupsAreRemoved(t *testing.T) {
	held := realGroup(t, Spec{Pids: 8})
	if held.scope != nil {
		t.Skip("systemd removes its groups itself")
	}
	stale := filepath.Join(filepath.Dir(held.Dir()), prefix+ulid.Make().String())
	create := func() {
		next, err := Create(Spec{Pids: 8, Run: ulid.Make().String()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { next.Close() })
	}
	for how, remove := range map[string]func(){"Create": create, "RemoveStale": func() { RemoveStale(false) }} {
		if err := os.Mkdir(stale, 0o755); err != nil {
			t.Fatal(err)
		}
		remove()
		if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the stale group is there: %v", how, err)
		}
	}
	if _, err := os.Stat(held.Dir()); err != nil {
		t.Errorf("a group in use was removed: %v", err)
	}
}
