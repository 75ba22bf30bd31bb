// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"reflect"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Instruction is one instruction of a classic BPF program, laid out as struct sock_filter (linux/filter.h).
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Program is a filter as seccomp(2) takes it.
type Program []Instruction

// MaxInstructions is the kernel's bound (BPF_MAXINSNS).
const MaxInstructions = 4096

// Offsets in struct seccomp_data (seccomp(2)). Both architectures are little endian: the low half of an argument is first.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// Compile makes the filter for this program's architecture.
func (p Policy) Compile() (Program, error) { return p.CompileFor(NativeArch()) }

// CompileFor makes the filter for an architecture. The program is a binary search over the numbers of the calls: at most
// about ten comparisons for each.
func (p Policy) CompileFor(arch uint32) (Program, error) {
	instructions, err := p.assemble(arch)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	if len(raw) > MaxInstructions {
		return nil, fmt.Errorf("seccomp: the filter has %d instructions, the kernel takes %d", len(raw), MaxInstructions)
	}
	program := make(Program, len(raw))
	for i, in := range raw {
		program[i] = Instruction{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return program, nil
}

func (p Policy) assemble(arch uint32) ([]bpf.Instruction, error) {
	numbers, ok := tables[arch]
	if !ok {
		return nil, fmt.Errorf("seccomp: no table for architecture %#x", arch)
	}
	out := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		ret(killed),
		bpf.LoadAbsolute{Off: offsetNr, Size: 4},
	}
	if arch == ArchAMD64 {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1}, ret(killed))
	}
	return append(out, search(p.spans(numbers))...), nil
}

// span is a range of numbers, from its first to the next span's, that share one rule.
type span struct {
	from uint32
	rule rule
}

// spans covers every number with the rule for it: gaps and what lies beyond the table are unknown calls.
func (p Policy) spans(numbers table) []span {
	spans := []span{{0, rule{Otherwise: unknown}}}
	add := func(from uint32, r rule) {
		if last := &spans[len(spans)-1]; reflect.DeepEqual(last.rule, r) {
			return
		} else if last.from == from {
			last.rule = r
			return
		}
		spans = append(spans, span{from, r})
	}
	next := uint32(0)
	for _, n := range numbers {
		if n.Nr > next {
			add(next, rule{Otherwise: unknown})
		}
		r, ok := p.rules[n.Name]
		if !ok {
			r = rule{Otherwise: refused}
		}
		add(n.Nr, r)
		next = n.Nr + 1
	}
	add(next, rule{Otherwise: unknown})
	return spans
}

// search finds the span of the number in the accumulator.
func search(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		return spans[0].rule.instructions()
	}
	middle := len(spans) / 2
	below, above := search(spans[:middle]), search(spans[middle:])
	out := make([]bpf.Instruction, 0, len(below)+len(above)+2)
	if len(below) <= 255 { // the reach of a conditional jump
		out = append(out, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[middle].from, SkipTrue: uint8(len(below))})
	} else {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[middle].from, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(below))})
	}
	return append(append(out, below...), above...)
}

func (r rule) instructions() []bpf.Instruction {
	var out []bpf.Instruction
	for _, c := range r.Clauses {
		out = append(out, c.instructions()...)
	}
	return append(out, ret(r.Otherwise))
}

// instructions of a clause fall through to the next one where a test fails.
func (c clause) instructions() []bpf.Instruction {
	out := []bpf.Instruction{ret(c.Then)}
	for i := len(c.Tests) - 1; i >= 0; i-- {
		out = append(c.Tests[i].instructions(len(out)), out...)
	}
	return out
}

// instructions of a test go on where it is true, and skip the rest of the clause where it is not. All of it is short enough for the
// reach of a conditional jump.
func (t test) instructions(rest int) []bpf.Instruction {
	offset := uint32(offsetArgs + 8*t.Arg)
	if t.High {
		offset += 4
	}
	out := []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 4}}
	if t.Mask != all {
		out = append(out, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: t.Mask})
	}
	found, missing := 0, rest
	if t.Not {
		found, missing = rest, 0
	}
	return append(out, among(slices.Sorted(slices.Values(t.In)), found, missing)...)
}

// few values are compared in a row; of more, one half is left out first.
const few = 4

// among skips so many instructions behind it where one of the values, which are sorted, is in the accumulator, or none.
func among(values []uint32, found, missing int) []bpf.Instruction {
	if len(values) > few {
		middle := len(values) / 2
		above := among(values[middle:], found, missing)
		below := among(values[:middle], found+len(above), missing+len(above))
		half := bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: values[middle], SkipTrue: uint8(len(below))}
		return slices.Concat([]bpf.Instruction{half}, below, above)
	}
	var out []bpf.Instruction
	for i, v := range values {
		jump := bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i - 1 + found)}
		if i == len(values)-1 {
			jump.SkipFalse = uint8(missing)
		}
		out = append(out, jump)
	}
	return out
}

// ret is the filter's answer. A call that the Supervisor decides and one that it refuses look the same to the kernel.
func ret(v Verdict) bpf.Instruction {
	switch v.Kind {
	case Allow:
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	case Done:
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO} // of 0: the call returns 0 (seccomp(2))
	case Kill:
		return bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
	default:
		return bpf.RetConstant{Val: unix.SECCOMP_RET_USER_NOTIF}
	}
}
