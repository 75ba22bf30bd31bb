// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// equal is a test of libseccomp's that all agree on: argument & mask == value.
type equal [3]uint64

// filter is what testdata/libseccomp.py builds.
type filter struct {
	Allow bool         `json:"allow"` // is what is done by default; the rules do the other
	Rules []filterRule `json:"rules"`
}

type filterRule struct {
	Nr   uint32  `json:"nr"`
	Args []equal `json:"args"`
}

// stacked says a policy anew, for filters of which each must allow a call: the first denies what clauses refuse, and the others allow
// what is not said by comparing alone. One filter of libseccomp cannot hold both: the allowing rule wins (G20).
func stacked(t *testing.T, p Policy, table table) []filter {
	filters := []filter{{Allow: true}}
	needed := map[uint32][][][]equal{} // by call; each: one of these must hold
	most := 0
	for _, n := range table {
		r, ok := p.rules[n.Name]
		if !ok {
			r.Otherwise = refused
		}
		if r.Otherwise.Kind != Allow && !slices.ContainsFunc(r.Clauses, func(c clause) bool { return c.Then.Kind == Allow }) {
			continue // all of it is refused
		}
		needs := [][][]equal{}
		var before [][]equal // what earlier clauses allow
		for _, c := range r.Clauses {
			for _, all := range product(t, c) {
				switch {
				case c.Then.Kind == Allow:
					before = append(before, all)
				case c.Tests[len(c.Tests)-1].Not && !isBits(c): // what is not among the values is refused
					needs = append(needs, left(c))
				case meetsAny(all, before):
					needs = append(needs, append(negated(all), before...))
				default:
					filters[0].Rules = append(filters[0].Rules, filterRule{n.Nr, all})
				}
			}
		}
		if r.Otherwise.Kind != Allow {
			needs = append(needs, before)
		}
		needed[n.Nr], most = needs, max(most, len(needs))
	}
	for i := range most {
		var f filter
		for _, nr := range slices.Sorted(maps.Keys(needed)) {
			need := [][]equal{{}} // every call of it
			if i < len(needed[nr]) {
				need = needed[nr][i]
			}
			for _, all := range need {
				f.Rules = append(f.Rules, filterRule{nr, all})
			}
		}
		filters = append(filters, f)
	}
	return filters
}

func isBits(c clause) bool {
	last := c.Tests[len(c.Tests)-1]
	return last.Not && len(last.In) == 1 && last.In[0] == 0 && last.Mask != all
}

// product are the ways in which a clause can hold, by comparing alone.
func product(t *testing.T, c clause) [][]equal {
	ways := [][]equal{{}}
	for _, one := range c.Tests {
		var next [][]equal
		for _, way := range ways {
			add := func(mask, value uint32) {
				shift := 0
				if one.High {
					shift = 32
				}
				longer := slices.Clone(way)
				i := slices.IndexFunc(way, func(e equal) bool { return e[0] == uint64(one.Arg) })
				if i < 0 { // libseccomp takes one for each argument: the halves are one
					i, longer = len(way), append(longer, equal{uint64(one.Arg)})
				}
				longer[i][1] |= uint64(mask) << shift
				longer[i][2] |= uint64(value) << shift
				next = append(next, longer)
			}
			if !one.Not {
				for _, v := range one.In {
					add(one.Mask, v)
				}
				continue
			}
			if len(one.In) == 1 && one.In[0] == 0 && one.Mask != all {
				for rest := one.Mask; rest != 0; rest &= rest - 1 {
					add(rest&-rest, rest&-rest)
				}
				continue
			}
			if len(c.Tests) != 1 {
				t.Fatalf("%+v has no equal in comparisons", c)
			}
			next = append(next, nil)
		}
		ways = next
	}
	return ways
}

// left are the values that a clause of one test leaves.
func left(c clause) (ways [][]equal) {
	for _, v := range c.Tests[0].In {
		ways = append(ways, []equal{{uint64(c.Tests[0].Arg), uint64(c.Tests[0].Mask), uint64(v)}})
	}
	return ways
}

// negated are the ways in which not all of the comparisons hold: one bit differs.
func negated(every []equal) (ways [][]equal) {
	for _, e := range every {
		for rest := e[1]; rest != 0; rest &= rest - 1 {
			bit := rest & -rest
			ways = append(ways, []equal{{e[0], bit, ^e[2] & bit}})
		}
	}
	return ways
}

// meetsAny tells whether comparisons can hold together with some of others.
func meetsAny(a []equal, others [][]equal) bool {
	for _, b := range others {
		apart := false
		for _, x := range a {
			for _, y := range b {
				apart = apart || x[0] == y[0] && (x[2]^y[2])&x[1]&y[1] != 0
			}
		}
		if !apart {
			return true
		}
	}
	return false
}

// libseccomp builds filters with it.
func libseccomp(t *testing.T, filters []filter) []*bpf.VM {
	t.Helper()
	input, err := json.Marshal(filters)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-I", "testdata/libseccomp.py")
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var vms []*bpf.VM
	for _, line := range bytes.Fields(out) {
		code, err := hex.DecodeString(string(line))
		if err != nil {
			t.Fatal(err)
		}
		var raw []bpf.RawInstruction
		for ; len(code) >= 8; code = code[8:] { // struct sock_filter
			raw = append(raw, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(code), Jt: code[2], Jf: code[3], K: binary.NativeEndian.Uint32(code[4:])})
		}
		instructions, _ := bpf.Disassemble(raw)
		vm, err := bpf.NewVM(instructions)
		if err != nil {
			t.Fatal(err)
		}
		vms = append(vms, vm)
	}
	if len(vms) != len(filters) {
		t.Fatalf("%d filters were built, want %d", len(vms), len(filters))
	}
	return vms
}

// TestLibseccompAgrees: the table, said to libseccomp, gives the same verdicts.
// Containment check: G04.
func TestLibseccompAgrees(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-I", "-c", "import seccomp; seccomp.Arg").CombinedOutput(); err != nil {
		if os.Getenv("AGENTJAIL_MUST_WORK") == "1" {
			t.Fatalf("must work: python3-seccomp: %s", out)
		}
		t.Skip("python3-seccomp is not installed")
	}
	choices := []Options{{}, {Allow: Groups(), Looks: true}}
	if !testing.Short() {
		choices = append(choices, Options{Allow: []string{"debug"}}, Options{Allow: []string{"packaging"}}, Options{Allow: []string{"perf"}})
	}
	for _, o := range choices {
		t.Run(fmt.Sprint(o), func(t *testing.T) {
			p, err := Default(o)
			if err != nil {
				t.Fatal(err)
			}
			vms := libseccomp(t, stacked(t, p, tables[NativeArch()]))
			counts := map[int]int{}
			calls(p, NativeArch(), func(arch, nr uint32, args [6]uint64) {
				want := kernelAction(p.Verdict(arch, nr, args))
				if want == unix.SECCOMP_RET_ERRNO {
					want = unix.SECCOMP_RET_USER_NOTIF // neither lets the kernel make the call
				}
				if nr == ^uint32(0) && arch == NativeArch() {
					return // of this number alone libseccomp lets a filter say what a tracer wants, and does not ask for x32
				}
				got := unix.SECCOMP_RET_ALLOW
				for _, vm := range vms {
					answer, err := vm.Run(packet(arch, nr, args))
					if err != nil {
						t.Fatal(err)
					}
					switch uint32(answer) {
					case unix.SECCOMP_RET_ALLOW:
					case unix.SECCOMP_RET_ERRNO | 1:
						if got == unix.SECCOMP_RET_ALLOW {
							got = unix.SECCOMP_RET_USER_NOTIF
						}
					default:
						got = unix.SECCOMP_RET_KILL_PROCESS
					}
				}
				if got != want {
					t.Fatalf("arch %#x, call %d %s, args %#x: %#x by libseccomp, %#x by the table", arch, nr, Name(nr), args, got, want)
				}
				counts[got]++
			})
			if len(counts) != 3 {
				t.Errorf("not every answer was given: %v", counts)
			}
			t.Log(counts)
		})
	}
}
