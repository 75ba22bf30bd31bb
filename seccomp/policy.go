// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Kind says what becomes of a call.
type Kind uint8

// The kinds of verdicts. The zero Kind denies.
const (
	Deny      Kind = iota // recorded, answered with an errno
	Allow                 // by the filter alone
	Write                 // a write to a path: the Supervisor decides
	Connect               // connect(2): the Supervisor carries it out
	Listen                // listen(2): the Supervisor looks at the socket, and the kernel carries it out
	Look                  // a look at a path: the Supervisor records it where it is denied, and the kernel carries it out
	Namespace             // clone(2) or unshare(2) of namespaces: the Supervisor records it, and the kernel carries it out
	Socket                // socket(2): the kernel carries it out in the run's network namespace, and in no other
	Done                  // answered as if it had been carried out, which would change nothing that may change: see coreRules
	Kill                  // the whole process
)

// Verdict is what becomes of a call.
type Verdict struct {
	Kind  Kind
	Errno unix.Errno // of Deny
}

var (
	allowed = Verdict{Kind: Allow}
	done    = Verdict{Kind: Done}
	killed  = Verdict{Kind: Kill}
	refused = Verdict{Errno: unix.EPERM}
	unknown = Verdict{Errno: unix.ENOSYS}
	// absent is the answer of a kernel without a protocol (socket(2)).
	absent = Verdict{Errno: unix.EPROTONOSUPPORT}
)

// test is true for a call whose argument Arg, masked, is one of In (or none of them, where Not is set). It looks at the low half of
// an argument, which is all of an integer, or at the high half of one that is a pointer.
type test struct {
	Arg  int
	High bool
	Mask uint32
	In   []uint32
	Not  bool
}

// clause gives a verdict to calls for which all tests are true.
type clause struct {
	Tests []test
	Then  Verdict
}

// rule is the first clause that is true, or Otherwise.
type rule struct {
	Clauses   []clause
	Otherwise Verdict
}

// Options widen the default policy.
type Options struct {
	Allow []string // groups of calls
	// Looks asks about the calls that look at a path and change nothing, too. For a run whose root does not report for itself: see Tree.
	Looks bool
}

// Policy says what becomes of each call. The zero Policy denies all.
type Policy struct {
	rules  map[string]rule
	groups []group
	looks  bool // see Options.Looks
}

// Default is the policy of every run.
func Default(o Options) (Policy, error) {
	p := Policy{rules: make(map[string]rule)}
	for _, l := range lists {
		if err := p.add(l); err != nil {
			return Policy{}, err
		}
	}
	for name, r := range argumentRules() {
		if err := p.set(name, r); err != nil {
			return Policy{}, err
		}
	}
	for _, name := range o.Allow {
		if err := p.widen(name); err != nil {
			return Policy{}, err
		}
	}
	if o.Looks {
		p.asksAboutLooks()
	}
	return p, nil
}

// Verdict says what becomes of a call of an architecture (AUDIT_ARCH_*). The filter sees the whole number and arguments as
// the process passed them; of an argument that is an integer the low 32 bits count.
func (p Policy) Verdict(arch, nr uint32, args [6]uint64) Verdict {
	return p.verdictFor(NativeArch(), arch, nr, args)
}

// verdictFor is the Verdict of a program that was made for the architecture native.
func (p Policy) verdictFor(native, arch, nr uint32, args [6]uint64) Verdict {
	if arch != native || isX32(arch, nr) {
		return killed
	}
	name, ok := tables[native].name(nr)
	if !ok {
		return unknown
	}
	r, ok := p.rules[name]
	if !ok {
		return refused
	}
	return r.verdict(args)
}

func (r rule) verdict(args [6]uint64) Verdict {
	for _, c := range r.Clauses {
		if c.holds(args) {
			return c.Then
		}
	}
	return r.Otherwise
}

func (c clause) holds(args [6]uint64) bool {
	for _, t := range c.Tests {
		half := args[t.Arg]
		if t.High {
			half >>= 32
		}
		if slices.Contains(t.In, uint32(half)&t.Mask) == t.Not {
			return false
		}
	}
	return true
}

// Architectures, as seccomp_data carries them (linux/audit.h).
const (
	ArchAMD64 = unix.AUDIT_ARCH_X86_64
	ArchARM64 = unix.AUDIT_ARCH_AARCH64
)

// x32Bit marks calls of the x32 interface, which share x86-64's architecture (seccomp(2), "Caveats").
const x32Bit = 0x40000000

func isX32(arch, nr uint32) bool { return arch == ArchAMD64 && nr >= x32Bit }

// NativeArch is the architecture of this program.
func NativeArch() uint32 {
	if runtime.GOARCH == "arm64" {
		return ArchARM64
	}
	return ArchAMD64
}

// Summary is the policy in a few lines, for people.
func (p Policy) Summary() []string {
	count := map[Kind]int{}
	for _, n := range tables[NativeArch()] {
		r := p.rules[n.Name]
		count[r.Otherwise.Kind]++
	}
	lines := []string{
		fmt.Sprintf("allowed: %d calls, some with conditions on their arguments", count[Allow]),
		fmt.Sprintf("writes to a path: %d calls, refused and recorded on read-only places", count[Write]),
		"connect: carried out by the supervisor, to whom listen shows the run's own unix sockets; a host's is refused and recorded",
		fmt.Sprintf("refused and recorded: %d calls, and all that came after Linux %s", count[Deny], Newest()),
		"killed: calls of other architectures and of x32",
		"rules for calls that not every kernel has: " + byKernel(tables[NativeArch()]),
	}
	if p.looks {
		lines = append(lines, fmt.Sprintf("looks at a path: %d calls, recorded where it is not granted", count[Look]))
	}
	for _, g := range p.groups {
		lines = append(lines, "the group "+g.Name+" is allowed: "+g.What)
	}
	return lines
}
