// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// executed counts the instructions that a program executes for a call.
func executed(t *testing.T, program []bpf.Instruction, packet []byte) int {
	t.Helper()
	var a uint32
	n := 0
	for i := 0; i < len(program); i++ {
		n++
		switch in := program[i].(type) {
		case bpf.LoadAbsolute:
			a = binary.BigEndian.Uint32(packet[in.Off:])
		case bpf.ALUOpConstant:
			a &= in.Val // the only one that there is
		case bpf.Jump:
			i += int(in.Skip)
		case bpf.JumpIf:
			holds := in.Cond == bpf.JumpEqual && a == in.Val || in.Cond == bpf.JumpGreaterOrEqual && a >= in.Val
			if holds {
				i += int(in.SkipTrue)
			} else {
				i += int(in.SkipFalse)
			}
		case bpf.RetConstant:
			return n
		default:
			t.Fatalf("%v", in)
		}
	}
	t.Fatal("the program does not end")
	return 0
}

// TestCost prints what the program costs the calls that builds and package managers make most. From Linux 5.11 on the kernel does not
// run it for calls that are allowed whatever their arguments are (seccomp_cache_allow): of these it counts only before.
// Containment check: G19.
func TestCost(t *testing.T) {
	p := defaultPolicy(t)
	program, err := p.assemble(NativeArch())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args [6]uint64
	}{
		{"read", [6]uint64{}}, {"write", [6]uint64{}}, {"close", [6]uint64{}}, {"openat", [6]uint64{2: unix.O_CLOEXEC}}, {"newfstatat", [6]uint64{}},
		{"fstat", [6]uint64{}}, {"lseek", [6]uint64{}}, {"mmap", [6]uint64{}}, {"futex", [6]uint64{}}, {"rt_sigaction", [6]uint64{}},
		{"ioctl", [6]uint64{1: unix.TCGETS}}, {"clone", [6]uint64{}}, {"prctl", [6]uint64{15}}, {"socket", [6]uint64{1, 1, 0}}, {"openat", [6]uint64{2: unix.O_WRONLY | unix.O_CREAT, 3: 0o644}},
	} {
		nr := nr(t, c.name)
		n := executed(t, program, packet(NativeArch(), nr, c.args))
		cached := ""
		if r := p.rules[c.name]; len(r.Clauses) == 0 && r.Otherwise == allowed {
			cached = ", not run from Linux 5.11 on"
		}
		t.Logf("%-12s %#x: %d of %d instructions%s", c.name, c.args[2], n, len(program), cached)
		if n > 80 {
			t.Errorf("%s: %d instructions", c.name, n)
		}
	}
}
