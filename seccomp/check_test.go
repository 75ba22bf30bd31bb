// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaults: what a policy cannot mean is an error that says where it is. The twins are the rules of Default, which has none.
// Containment check: A13.
func TestFaults(t *testing.T) {
	masked := test{Arg: 1, Mask: 0xff00, In: []uint32{0x5400}}
	for want, r := range map[string]rule{
		"":                                    orElse(allowed, when(refused, is(0, 1)), when(Verdict{Kind: Write}, is(0, 1, 2))),
		"clause 2: contradicts clause 1":      orElse(allowed, when(refused, is(0, 1, 2)), when(Verdict{Kind: Write}, is(0, 2))),
		"clause 3: contradicts clause 1":      orElse(allowed, when(refused, is(0, 1)), when(refused, is(0, 3)), when(Verdict{Kind: Write}, is(0, 1), is(1, 7))),
		"clause 2: can never match: clause 1": orElse(allowed, when(refused, isNot(0, 1, 2)), when(refused, isNot(0, 1, 2, 3))),
		"clause 2: contradicts":               orElse(allowed, when(Verdict{Kind: Write}, masked), when(refused, is(1, 0x5412, 0x5413))),
		"clause 2: changes nothing":           orElse(allowed, when(refused, is(2, 0)), when(allowed, test{Arg: 2, High: true, Mask: all, In: []uint32{0}})),
		"clause 1: can never match: argument 1 cannot be both":           orElse(allowed, when(refused, is(0, 1), is(0, 2))),
		"clause 1: can never match: argument 2 cannot be both":           orElse(allowed, when(refused, is(1, 1), isNot(1, 1, 2))),
		"clause 1: can never match: argument 2 is compared with 0x5412":  orElse(allowed, when(refused, test{Arg: 1, Mask: 0xff00, In: []uint32{0x5412}})),
		"clause 1: can never match: argument 3 is compared with nothing": orElse(allowed, when(refused, hasBits(2, 0))),
		"clause 1: can never match: argument 1 is compared with nothing": orElse(allowed, when(refused, is(0))),
		"clause 2: changes nothing: all else is answered the same":       orElse(allowed, when(refused, is(0, 1)), when(allowed, is(0, 2))),
		"clause 2: contradicts clause 1, which is asked first":           orElse(allowed, when(refused), when(Verdict{Kind: Write}, is(0, 2))),
		"clause 2: can never match: clause 1 has said the same":          orElse(allowed, when(refused, is(0, 1)), when(refused, is(0, 1))),
	} {
		p := Policy{rules: map[string]rule{"prctl": {}}}
		err := p.set("prctl", r)
		var fault *Error
		switch {
		case want == "" && err != nil:
			t.Errorf("a good rule: %v", err)
		case want != "" && (!errors.As(err, &fault) || !strings.HasPrefix(err.Error(), "seccomp: rule of prctl, "+want)):
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for want, l := range map[string]list{
		"seccomp: a list, word 2: opennat is a system call of no architecture": {"a list", "open opennat", allowed},
		"seccomp: a list, word 3: read is on a list already":                   {"a list", "open close read", refused},
		"seccomp: a list, word 2: open is on a list already":                   {"a list", "open\nopen", refused},
	} {
		p := Policy{rules: map[string]rule{"read": {}}}
		if err := p.add(l); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	p := Policy{rules: map[string]rule{}}
	if err := p.set("prctl", rule{}); err == nil || err.Error() != "seccomp: rule of prctl: it is on no list" {
		t.Errorf("a rule without a list: %v", err)
	}
	if err := p.widen("debug"); err == nil || err.Error() != "seccomp: group debug, word 1: kcmp is not refused" {
		t.Errorf("a group that widens nothing: %v", err)
	}
}

// TestTablesAreGenerated: the tables are those of the x/sys that go.mod names.
func TestTablesAreGenerated(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "generate.go", dir).CombinedOutput(); err != nil {
		t.Fatalf("go run generate.go: %v\n%s", err, out)
	}
	for _, file := range []string{"table_x86_64.go", "table_aarch64.go"} {
		got, err1 := os.ReadFile(file)
		want, err2 := os.ReadFile(filepath.Join(dir, file))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what go generate makes: %v", file, err)
		}
	}
}

func TestByKernel(t *testing.T) {
	for _, c := range []struct {
		release string
		newer   bool
	}{{"5.13.0", false}, {"6.18.44-generic", false}, {Newest(), false}, {Newest() + ".3-rc1", false}, {"99.0-rc2", true}, {"", false}} {
		if IsNewer(c.release) != c.newer {
			t.Errorf("%q: %v", c.release, !c.newer)
		}
	}
	if compareVersions("6.9.1", "6.10") >= 0 || compareVersions("", "1.0") >= 0 || compareVersions("5.13-rc1", "5.13.7") != 0 {
		t.Error("versions are not ordered as kernels are")
	}
	got := byKernel(table{{1, "new", "6.10"}, {2, "old", "5.13"}, {3, "newer", "6.9"}, {4, "never", ""}, {5, "also", "6.10"}})
	if got != "newer (6.9), new also (6.10)" {
		t.Errorf("got %q", got)
	}
}
