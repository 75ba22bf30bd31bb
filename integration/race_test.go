// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestA21Race: while runs start, another process of the user puts symbolic links in the place of every directory that is granted,
// protected or holds what is hidden, and takes them away again. A start fails or works; nothing is ever mounted, read or written where the
// links lead, and what is read-only or hidden in a run that works stays so. What is protected and not there at the start is so by its name
// alone, and so not against this (docs/policy.md). A21 B08.
func TestA21Race(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dirs := []string{"ro", "rw", "deep", ".vscode", ".git/hooks"}
	for _, dir := range dirs {
		p.write(t, dir+"/key", "own\n")
	}
	p.write(t, "deep/hidden/key", "HIDDEN\n")
	p.write(t, ".git/HEAD", "ref: refs/heads/main\n")
	p.write(t, p.home+"/secret/key", "CANARY\n")
	p.write(t, p.home+"/secret/hidden/key", "CANARY\n")
	before := p.must(t, "find", p.home, "-printf", "%p %m %i %T@ %s\n")

	stop, swapped := make(chan struct{}), make(chan int)
	go func() { swapped <- swap(p, dirs, stop) }()
	worked, starts := 0, max(stress()/4, 2)
	for range starts {
		if startRaced(t, p) {
			worked++
		}
	}
	close(stop)
	swaps := <-swapped
	t.Logf("%d of %d starts worked, during %d swaps", worked, starts, swaps)
	if swaps < starts {
		t.Errorf("%d swaps during %d starts", swaps, starts)
	}
	if !startRaced(t, p) {
		t.Error("nor does a start work when nobody interferes")
	}
	if after := p.must(t, "find", p.home, "-printf", "%p %m %i %T@ %s\n"); after != before {
		t.Errorf("what the links led to was\n%s\nand is\n%s", before, after)
	}
	for _, dir := range []string{"ro", "deep/hidden"} {
		if exists(p.project + "/" + dir + "/made") {
			t.Errorf("a command wrote into %s", dir)
		}
	}
}

// swap puts a link in the place of each directory in turn, until it is to stop, and says how often.
func swap(p place, dirs []string, stop <-chan struct{}) (swaps int) {
	for {
		for _, name := range dirs {
			select {
			case <-stop:
				return swaps
			case <-time.After(2 * time.Millisecond): // some starts are to work
			}
			dir := p.project + "/" + name
			if os.Rename(dir, dir+".away") != nil {
				continue
			}
			if os.Symlink(p.home+"/secret", dir) == nil {
				os.Remove(dir)
			}
			os.Rename(dir+".away", dir)
			swaps++
		}
	}
}

// startRaced tells whether a run started, and what its command got.
func startRaced(t *testing.T, p place) bool {
	t.Helper()
	stdout, stderr, code := p.run(t, "agentjail", "run", "--quiet", "--ro", "ro", "--rw", "rw", "--hide", "deep/hidden", "--", "sh", "-c", `
for d in ro rw deep deep/hidden .vscode .git/hooks; do cat $d/key; echo x >$d/made; done 2>/dev/null
echo started`)
	switch {
	case strings.Contains(stdout, "CANARY"), strings.Contains(stdout, "HIDDEN"):
		t.Errorf("the command read what is hidden, or what a link led to: %s", stdout)
	case code == 0 && strings.HasSuffix(stdout, "started\n"):
		return true
	case code != 125 || !strings.HasPrefix(stderr, "agentjail: "):
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	return false
}
