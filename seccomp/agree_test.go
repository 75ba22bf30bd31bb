// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// packet is seccomp_data as the VM sees it: it loads big endian words, the kernel native ones.
func packet(arch, nr uint32, args [6]uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offsetNr:], nr)
	binary.BigEndian.PutUint32(b[offsetArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offsetArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offsetArgs+8*i+4:], uint32(a>>32))
	}
	return b
}

func kernelAction(v Verdict) int {
	switch v.Kind {
	case Allow:
		return unix.SECCOMP_RET_ALLOW
	case Done:
		return unix.SECCOMP_RET_ERRNO
	case Kill:
		return unix.SECCOMP_RET_KILL_PROCESS
	default:
		return unix.SECCOMP_RET_USER_NOTIF
	}
}

// options are all that there are; with -short, which the race detector has, the least and the most.
func options() []Options {
	var all []Options
	for choice := range 1 << (len(groups) + 1) {
		o := Options{Looks: choice>>len(groups) != 0}
		for i, g := range groups {
			if choice&(1<<i) != 0 {
				o.Allow = append(o.Allow, g.Name)
			}
		}
		all = append(all, o)
	}
	if testing.Short() {
		return []Options{all[0], all[len(all)-1]}
	}
	return all
}

func (o Options) String() string {
	words := slices.Clone(o.Allow)
	if o.Looks {
		words = append(words, "looks")
	}
	return strings.Join(words, "+")
}

// TestFilterAgreesWithTable (F01, G01, G04, G05, G20): the filter and the table agree on every number, architecture and boundary of an
// argument, with every choice of groups, and for both architectures that there is a filter for.
// Containment checks: G02, G03, G06, G19.
func TestFilterAgreesWithTable(t *testing.T) {
	for _, o := range options() {
		p, err := Default(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, native := range []uint32{ArchAMD64, ArchARM64} {
			t.Run(o.String(), func(t *testing.T) {
				t.Parallel()
				agrees(t, p, native)
			})
		}
	}
}

func agrees(t *testing.T, p Policy, native uint32) {
	instructions, err := p.assemble(native)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[Kind]int{}
	calls(p, native, func(arch, nr uint32, args [6]uint64) {
		got, err := vm.Run(packet(arch, nr, args))
		if err != nil {
			t.Fatal(err)
		}
		want := p.verdictFor(native, arch, nr, args)
		if uint32(got) != uint32(kernelAction(want)) {
			t.Fatalf("arch %#x, call %d, args %#x: filter %#x, table %+v", arch, nr, args, got, want)
		}
		counts[want.Kind]++
	})
	for _, kind := range []Kind{Allow, Deny, Write, Connect, Listen, Done, Kill} {
		if counts[kind] == 0 {
			t.Errorf("no case of kind %d: the test does not test (%v)", kind, counts)
		}
	}
}

// calls makes the calls at which a verdict can change: every number up to 64 beyond the table's, of three architectures and with the
// bit of x32; and of each call that has a rule all values at which a test changes its mind, together.
func calls(p Policy, native uint32, check func(arch, nr uint32, args [6]uint64)) {
	table := tables[native]
	last := table[len(table)-1].Nr
	for _, arch := range []uint32{ArchAMD64, ArchARM64, unix.AUDIT_ARCH_I386, 0} {
		for nr := range last + 65 {
			for _, bits := range []uint32{0, x32Bit, 1 << 31} {
				check(arch, nr|bits, [6]uint64{})
			}
		}
		for _, nr := range []uint32{1 << 29, x32Bit - 1, ^uint32(0)} {
			check(arch, nr, [6]uint64{})
		}
	}
	for _, n := range table {
		if r := p.rules[n.Name]; len(r.Clauses) > 0 {
			r.boundaries(func(args [6]uint64) { check(native, n.Nr, args) })
		}
	}
}

// dropped are bits above those of an argument that the kernel reads.
var dropped = []uint64{0, 1 << 32, 1 << 63}

// boundaries calls f with the values at which a clause of the rule can begin or cease to hold: of all arguments that it tests
// together, without and with bits that the kernel drops.
func (r rule) boundaries(f func(args [6]uint64)) {
	values := make([][]uint32, 12) // of the halves of each argument, the low one first
	for _, c := range r.Clauses {
		for _, t := range c.Tests {
			for _, v := range append(slices.Clone(t.In), t.Mask, t.Mask&-t.Mask) {
				half := 2 * t.Arg
				if t.High {
					half++
				}
				values[half] = append(values[half], v, v-1, v+1, v|1<<31, v^1<<31, v|^t.Mask)
			}
		}
	}
	var args [6]uint64
	var next func(half int)
	next = func(half int) {
		if half == len(values) {
			for _, bits := range dropped {
				with := args
				for i := range with {
					with[i] |= bits
				}
				f(with)
			}
			return
		}
		if len(values[half]) == 0 {
			next(half + 1)
			return
		}
		arg, shift := half/2, half%2*32
		before := args[arg]
		for _, v := range values[half] {
			args[arg] = before | uint64(v)<<shift
			next(half + 1)
		}
		args[arg] = before
	}
	for i, v := range values {
		if len(v) > 0 {
			v = append(v, 0, 1, 1<<31-1, 1<<31, 1<<32-1)
			slices.Sort(v)
			values[i] = slices.Compact(v)
		}
	}
	next(0)
}

// TestEveryClauseDecides: of each clause there is a call about which it decides, and that another verdict awaits without it.
// Containment check: G04.
func TestEveryClauseDecides(t *testing.T) {
	for _, o := range options() {
		p, err := Default(o)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range p.rules {
			for i := range r.Clauses {
				without := rule{slices.Delete(slices.Clone(r.Clauses), i, i+1), r.Otherwise}
				decides := false
				r.boundaries(func(args [6]uint64) { decides = decides || r.verdict(args) != without.verdict(args) })
				if !decides {
					t.Errorf("%v: clause %d of %s decides nothing", o, i+1, name)
				}
			}
		}
	}
}
