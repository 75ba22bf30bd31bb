// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A probe is a call that a black-box test makes in a run, where it must be refused.
type probe struct {
	check string // the script or the test
	call  string
	args  [6]uint64
}

var (
	probeLine = regexp.MustCompile(`(?m)agentjail run (?:--quiet )?-- \./probe calls (.*)$`)
	constant  = regexp.MustCompile("(?s)\\b(deniedCalls|onlyX86|refusedNumbers|absentNumbers) += `([^`]*)`")
)

// probes are the calls of the black-box tests, from their text: those of the scripts, which run under the default policy, and those
// of TestF02EveryDenied. What the policy allows is a twin, and left out.
func probes(t *testing.T, p Policy) []probe {
	t.Helper()
	var all []probe
	add := func(check, words string) {
		for word := range strings.FieldsSeq(words) {
			call, list, given := strings.Cut(word, ":")
			c := probe{check: check, call: call, args: [6]uint64{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}}
			if given {
				for i, number := range strings.Split(list, ",") {
					c.args[i] = parse(t, number)
				}
			}
			if call == "ptrace" && c.args[0] == unix.PTRACE_TRACEME {
				continue // a thread that is traced by the parent stops at the next signal
			}
			if nr, ok := numberOf(call); ok && refuses(p.Verdict(NativeArch(), nr, c.args)) {
				all = append(all, c)
			}
		}
	}
	scripts, _ := filepath.Glob("../integration/testdata/*.txtar")
	for _, script := range scripts {
		for _, m := range probeLine.FindAllStringSubmatch(read(t, script), -1) {
			add(strings.TrimSuffix(filepath.Base(script), ".txtar"), m[1])
		}
	}
	for _, m := range constant.FindAllStringSubmatch(read(t, "../integration/syscalls_test.go"), -1) {
		switch {
		case m[1] == "deniedCalls" || m[1] == "onlyX86" && NativeArch() == ArchAMD64:
			add("TestF02EveryDenied", m[2])
		case NativeArch() == ArchAMD64: // TestF01Matrix
			for word := range strings.FieldsSeq(m[2]) {
				first, last, _ := strings.Cut(word, "-")
				from, to := parse(t, first), parse(t, cmp.Or(last, first))
				for nr := from; nr <= to; nr++ {
					add("TestF01Matrix", Name(uint32(nr)))
				}
			}
		}
	}
	return all
}

// refuses tells of a verdict that the kernel does not carry out the call, whatever its path is.
func refuses(v Verdict) bool { return v.Kind == Deny || v.Kind == Done }

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func parse(t *testing.T, number string) uint64 {
	t.Helper()
	if v, err := strconv.ParseInt(number, 0, 64); err == nil {
		return uint64(v)
	}
	v, err := strconv.ParseUint(number, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// numberOf is the number of a call of this architecture.
func numberOf(name string) (uint32, bool) {
	if n, ok := strings.CutPrefix(name, "@"); ok {
		v, err := strconv.ParseUint(n, 0, 32)
		return uint32(v), err == nil
	}
	table := tables[NativeArch()]
	i := slices.IndexFunc(table, func(n number) bool { return n.Name == name })
	if i < 0 {
		return 0, false
	}
	return table[i].Nr, true
}

// A mutant is the default policy with one rule that refuses less.
type mutant struct {
	what, call string
	rule       rule
}

// mutants drop each rule that refuses, and what it can be split into: each clause, each value and bit that a clause names, each test
// of a clause that allows.
func mutants(p Policy) []mutant {
	var all []mutant
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		r := p.rules[name]
		add := func(what string, r rule) { all = append(all, mutant{name + ": " + what, name, r}) }
		if refuses(r.Otherwise) {
			add("all else is allowed", rule{r.Clauses, allowed})
		}
		for i, c := range r.Clauses {
			with := func(changed clause) rule {
				clauses := slices.Clone(r.Clauses)
				clauses[i] = changed
				return rule{clauses, r.Otherwise}
			}
			if refuses(c.Then) {
				add(fmt.Sprintf("no clause %d", i+1), rule{slices.Delete(slices.Clone(r.Clauses), i, i+1), r.Otherwise})
			}
			for j, one := range c.Tests {
				if !refuses(c.Then) {
					if refuses(r.Otherwise) {
						add(fmt.Sprintf("clause %d: argument %d is not looked at", i+1, one.Arg+1), with(clause{slices.Delete(slices.Clone(c.Tests), j, j+1), c.Then}))
					}
					continue
				}
				for what, weak := range weaker(one) {
					tests := slices.Clone(c.Tests)
					tests[j] = weak
					add(fmt.Sprintf("clause %d, argument %d: %s", i+1, one.Arg+1, what), with(clause{tests, c.Then}))
				}
			}
		}
	}
	return all
}

// weaker are the tests of a clause that refuses less, by one value or bit.
func weaker(t test) map[string]test {
	all := map[string]test{}
	with := func(mask uint32, in ...uint32) test {
		weak := t
		weak.Mask, weak.In = mask, in
		return weak
	}
	for i, v := range t.In {
		if !t.Not && len(t.In) > 1 {
			all[fmt.Sprintf("without %#x", v)] = with(t.Mask, slices.Delete(slices.Clone(t.In), i, i+1)...)
		}
	}
	switch {
	case t.Not && t.Mask == unix.S_IFMT:
		for _, node := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
			all[fmt.Sprintf("with %#x", node)] = with(t.Mask, append(slices.Clone(t.In), node)...)
		}
	case t.Not && t.Mask != ^uint32(0) && slices.Equal(t.In, []uint32{0}): // bits
		for rest := t.Mask; rest != 0; rest &= rest - 1 {
			if bit := rest & -rest; bit != t.Mask {
				all[fmt.Sprintf("without bit %#x", bit)] = with(t.Mask&^bit, t.In...)
			}
		}
	}
	return all
}

// marked is the program with an errno that no kernel answers in place of each question to the Supervisor, and of what is answered as done.
const marker = 4000

func marked(t *testing.T, p Policy) Program {
	t.Helper()
	program, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for i := range program {
		if program[i].Code == unix.BPF_RET|unix.BPF_K && (program[i].K == unix.SECCOMP_RET_USER_NOTIF || program[i].K == unix.SECCOMP_RET_ERRNO) {
			program[i].K = unix.SECCOMP_RET_ERRNO | marker
		}
	}
	return program
}

// under makes calls in a thread under a program, which ends with it, and returns the errnos.
func under(t *testing.T, program Program, calls []probe) []unix.Errno {
	t.Helper()
	answers := make([]unix.Errno, len(calls))
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread() // for good: the thread ends
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- unix.EPERM
			return
		}
		filter := struct {
			n      uint16
			filter *Instruction
		}{uint16(len(program)), &program[0]}
		if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
			done <- errno
			return
		}
		for i, c := range calls {
			nr, _ := numberOf(c.call)
			answers[i] = enter(uintptr(nr), c.args)
		}
		done <- 0
	}()
	if errno := <-done; errno != 0 {
		t.Fatalf("load the filter: %v", errno)
	}
	return answers
}

// enter makes a call. One that makes a process ends it, and one that makes a file leaves it to the end of the test.
func enter(nr uintptr, a [6]uint64) unix.Errno {
	pid := os.Getpid()
	_, _, errno := unix.RawSyscall6(nr, uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
	if self, _, _ := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0); int(self) != pid {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return errno
}

// TestEveryRuleIsProbed: without one rule that refuses, or any part of one, a call that a black-box test makes is refused no more.
// Each such policy is loaded and asked.
// Containment checks: F01, F02, F03, F12, F14, F17, G20.
func TestEveryRuleIsProbed(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		p := defaultPolicy(t)
		asked := map[string][]probe{}
		for _, c := range probes(t, p) {
			asked[c.call] = append(asked[c.call], c)
		}
		all := slices.Concat(slices.Collect(maps.Values(asked))...)
		if len(all) < 100 {
			t.Fatalf("only %d probes", len(all))
		}
		for i, errno := range under(t, marked(t, p), all) {
			if errno != marker {
				t.Errorf("%+v: %v, and the policy refuses it", all[i], errno)
			}
		}
		weaker := mutants(p)
		for _, m := range weaker {
			if m.call == "uprobe" || m.call == "uretprobe" {
				continue // the kernel asks no filter about them: see the package comment
			}
			rules := maps.Clone(p.rules)
			rules[m.call] = m.rule
			weak := Policy{rules: rules}
			answers := under(t, marked(t, weak), asked[m.call])
			if !slices.ContainsFunc(asked[m.call], func(c probe) bool { // each in turn, with its answer
				errno := answers[0]
				answers = answers[1:]
				nr, _ := numberOf(c.call)
				return errno != marker || weak.Verdict(NativeArch(), nr, c.args) != p.Verdict(NativeArch(), nr, c.args)
			}) {
				t.Errorf("%s: none of %d probes of black-box tests sees it", m.what, len(asked[m.call]))
			}
		}
		t.Logf("%d weaker policies were seen by %d probes", len(weaker), len(all))
	})
}

// TestEveryAnswerIsProbed: with any one answer of the program that is not to allow turned into that, a black-box test would see it:
// those above, those of numbers that no kernel has (TestF01Matrix), of x32 and i386 (G02-G03-abi), and those that write to a path, each
// of which TestEveryWriteIsAsked makes.
// Containment checks: F01, G02, G03.
func TestEveryAnswerIsProbed(t *testing.T) {
	p := defaultPolicy(t)
	instructions, err := p.assemble(NativeArch())
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for nr := range uint32(600) {
		packets = append(packets, packet(NativeArch(), nr, [6]uint64{}), packet(NativeArch(), nr|x32Bit, [6]uint64{}))
	}
	packets = append(packets, packet(unix.AUDIT_ARCH_I386, 20, [6]uint64{}), packet(NativeArch(), nr(t, "openat"), [6]uint64{2: unix.O_WRONLY}))
	if open, ok := numberOf("open"); ok {
		packets = append(packets, packet(NativeArch(), open, [6]uint64{1: unix.O_WRONLY}))
	}
	for _, c := range probes(t, p) {
		nr, _ := numberOf(c.call)
		packets = append(packets, packet(NativeArch(), nr, c.args))
	}
	answers := func(instructions []bpf.Instruction) (all []int) {
		vm, err := bpf.NewVM(instructions)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range packets {
			answer, err := vm.Run(b)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, answer)
		}
		return all
	}
	want, turned := answers(instructions), 0
	for i, in := range instructions {
		if _, ok := in.(bpf.RetConstant); !ok || in == ret(allowed) {
			continue
		}
		mutant := slices.Clone(instructions)
		mutant[i] = ret(allowed)
		if slices.Equal(answers(mutant), want) {
			t.Errorf("no probe gets the answer of instruction %d", i)
		}
		turned++
	}
	if turned < 50 {
		t.Errorf("only %d answers were turned", turned)
	}
}
