// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What explain says of a path, as docs/policy.md describes it.
type explanation struct {
	Asked, Path, Access, Reason string
	Read, Write                 explainedAttempt
}

type explainedAttempt struct {
	Allowed bool
	Event   string // action, and the rule if there is one
	At      string // its target, if that is not the path
}

// explainedFiles are what every tree of the test has in each of its directories.
var explainedFiles = []string{"f", ".envrc", "Makefile", ".vscode/f"}

// explainedTree makes trees in the working directory, outside of it and in the home, with repositories at the top and below, and links
// between them. It returns what a rule may name, and what is asked about: all of that, and a name in each directory that is not there.
func explainedTree(t *testing.T, p place) (entries, asked []string) {
	t.Helper()
	roots := []string{p.project, p.root + "/data", p.home + "/kept", p.home + "/.config/tool"}
	for _, root := range roots {
		for _, dir := range []string{".", "a", "a/b", "a/b/c"} {
			for _, name := range explainedFiles {
				p.write(t, filepath.Join(root, dir, name), "text\n")
			}
		}
		for _, dir := range []string{".", "a"} {
			for _, name := range []string{"HEAD", "config", "hooks/pre-commit", "objects/x", "refs/x", "info/exclude"} {
				p.write(t, filepath.Join(root, dir, ".git", name), "")
			}
		}
	}
	for link, to := range map[string]string{
		p.project + "/inner": "a/b", p.project + "/outer": p.root + "/data/a", p.root + "/data/up": "../project/a", p.project + "/nowhere": "none",
		p.root + "/alias": "data/a", p.home + "/away": p.root + "/data",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	entries = []string{p.root + "/alias", p.home + "/away"}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			entries = append(entries, path)
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				asked = append(asked, path+"/new", path+"/.mcp.json")
				if _, err := os.Stat(path + "/.git"); err != nil {
					asked = append(asked, path+"/.git")
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return entries, append(asked, entries...)
}

// explainedRules are flags of a policy by chance.
func explainedRules(r *rand.Rand, entries []string) []string {
	args := []string{"--quiet"}
	for range 2 + r.IntN(5) {
		switch n := r.IntN(12); {
		case n < 10:
			args = append(args, []string{"--ro", "--rw", "--rw", "--hide"}[r.IntN(4)], entries[r.IntN(len(entries))])
		case n == 10:
			args = append(args, "--protect", []string{"Makefile", "b/f", "M*", "c"}[r.IntN(4)])
		default:
			args = append(args, "--unprotect", []string{".vscode", ".git", ".envrc"}[r.IntN(3)])
		}
	}
	return args
}

// tryAll tries what explain tells of: to read a file or list a directory, and to write to a file that is there, or make one that is
// not. It says what came of it, and leaves everything as it was.
const tryAll = `
import os, sys
def read(path, kind):
    if kind == "dir": os.listdir(path)
    else: os.close(os.open(path, os.O_RDONLY))
def write(path, kind):
    if kind == "file": os.close(os.open(path, os.O_WRONLY))
    elif kind == "dir": return "not tried"
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        os.unlink(os.path.realpath(path))
for word in sys.argv[1:]:
    reads, writes, path = word.split(":", 2)
    for do, kind in (read, reads), (write, writes):
        try:
            print(do(path, kind) or "done")
        except OSError as e:
            print(e.strerror)
`

// kinds say what is tried of a path, to read and to write it: what the event is of that explain names, or else what the host has there. Of a
// directory no write is tried: a name in it is asked about as well.
func (e explanation) kinds() (reads, writes string) {
	kind := "none"
	if info, err := os.Stat(e.Asked); err == nil {
		kind = map[bool]string{true: "dir", false: "file"}[info.IsDir()]
	}
	of := map[string]string{"open-read": "file", "list": "dir", "open-write": "file", "create": "none"}
	writes = cmp.Or(of[e.Write.action()], kind)
	if kind == "dir" || e.Write.Allowed && e.Access != "read-write" && strings.Contains(e.Asked, "/.config/") {
		writes = "dir" // nor of what the run can make when it has made the directory
	} else if e.Access == "private home" {
		writes = "none" // it can make its own
	}
	return cmp.Or(of[e.Read.action()], kind), writes
}

func (a explainedAttempt) action() string {
	action, _, _ := strings.Cut(a.Event, " ")
	return action
}

// TestExplainAgrees: of policies that chance has made, over trees with repositories, protected names and links, explain says of every path
// what a run then does, and which event it leaves.
// Containment check: A14.
func TestExplainAgrees(t *testing.T) {
	needTool(t, "python3")
	for _, plain := range []bool{false, true} {
		t.Run(map[bool]string{false: "fuse", true: "tmpfs"}[plain], func(t *testing.T) {
			t.Parallel()
			tried := 0
			for seed := range max(stress()/12, 8) {
				if explainAgrees(t, uint64(seed), plain) {
					tried++
				}
			}
			if tried == 0 {
				t.Error("every policy was refused")
			}
			t.Logf("%d policies", tried)
		})
	}
}

// explainAgrees tries one policy, and tells whether it was one that a run takes.
func explainAgrees(t *testing.T, seed uint64, plain bool) bool {
	p := newPlace(t)
	entries, asked := explainedTree(t, p)
	rules := explainedRules(rand.New(rand.NewPCG(seed, 0)), entries)
	agentjail := func(words ...string) (stdout, stderr string, code int) {
		if plain {
			return p.run(t, "probe", append([]string{"cover", "/dev/fuse", "--", suite.base + "/bin/agentjail"}, words...)...)
		}
		return p.run(t, "agentjail", words...)
	}
	said, saidErr, saidCode := agentjail(slices.Concat([]string{"explain", "--json", "--for", "python3"}, rules[1:], asked)...)
	var explained []explanation
	var words []string
	for decoder := json.NewDecoder(strings.NewReader(said)); decoder.More(); {
		var e explanation
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		reads, writes := e.kinds()
		explained, words = append(explained, e), append(words, reads+":"+writes+":"+e.Asked)
	}
	done, doneErr, doneCode := agentjail(slices.Concat([]string{"run"}, rules, []string{"--", "python3", "-c", tryAll}, words)...)
	of := fmt.Sprintf("seed %d, %s", seed, strings.ReplaceAll(strings.Join(rules[1:], " "), p.root, "$WORK"))
	if saidCode != doneCode || saidCode != 0 && saidErr != doneErr {
		t.Errorf("%s: explain ends with %d, run with %d:\n%s\n%s", of, saidCode, doneCode, saidErr, doneErr)
	}
	if saidCode != 0 || doneCode != 0 {
		return false
	}
	results := strings.Split(strings.TrimSpace(done), "\n")
	want := map[string]int{}
	for i, e := range explained {
		for k, attempt := range []explainedAttempt{e.Read, e.Write} {
			result := results[2*i+k]
			if result == "not tried" {
				continue
			}
			if attempt.Allowed != (result == "done") {
				t.Errorf("%s: %s: explain says %+v, the run %q", of, strings.TrimPrefix(e.Asked, p.root), e, result)
			}
			if !attempt.Allowed && attempt.Event != "" {
				want[attempt.Event+" at "+cmp.Or(attempt.At, e.Path)]++
			}
		}
	}
	compareRecords(t, p, of, want)
	return true
}

// compareRecords compares what is on record of a tree with what explain announced.
func compareRecords(t *testing.T, p place, of string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, e := range p.ended(t) {
		if e.Decision == "deny" && e.Class == "file" && strings.HasPrefix(e.Target, p.root) {
			got[strings.TrimSpace(e.Action+" "+e.Rule)+" at "+e.Target] += e.attempts()
		}
	}
	for what := range want {
		if got[what] != want[what] {
			t.Errorf("%s: %s is on record %d times, not %d", of, what, got[what], want[what])
		}
		delete(got, what)
	}
	for what, n := range got {
		t.Errorf("%s: %s is on record %d times, and explain does not say so", of, what, n)
	}
}
