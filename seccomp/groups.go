// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// group is a set of calls that can be allowed together, for programs that do not work without.
type group struct {
	Name  string
	What  string // that it allows, for people
	Calls string
	Rules func() map[string]rule // in place of argumentRules
}

// noRandomization is ADDR_NO_RANDOMIZE of personality(2), with which a program is at the same addresses each time it is run.
const noRandomization = 0x40000

// groups are sorted by name. None reaches further than the run: its processes are all that ptrace(2) and its like find in the pid
// namespace, but for the stage, which is not dumpable and belongs to the user namespace around; and its places are mounted nosuid.
var groups = []group{
	{"debug", "debuggers and tracers (gdb, strace, delve, rr): a process of the run reads and changes another",
		"kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
		func() map[string]rule {
			return map[string]rule{"personality": personalityRule(noRandomization, noRandomization|0x20000), "prctl": prctlRule()}
		}},
	{nestedGroup, "sandboxes that programs bring (Chromium's, Firefox's): user, pid, net and ipc namespaces of their own, and chroot; no mounts, and " +
		"no network in there", "chroot", nestedRules},
	{"packaging", "the set-user-ID and set-group-ID bits of files (dpkg-deb, tar -p), which have no effect inside", "",
		func() map[string]rule { return modeRules(0) }},
	{"perf", "performance counters (perf), as far as the kernel's perf_event_paranoid lets an ordinary user have them",
		"perf_event_open", func() map[string]rule {
			return map[string]rule{"ioctl": ioctlRule(slices.DeleteFunc(slices.Clone(deniedIoctlTypes), func(t uint32) bool { return t == '$'<<8 })...)}
		}},
}

// UnknownGroupError names a group that there is not.
type UnknownGroupError struct{ Name string }

func (e *UnknownGroupError) Error() string {
	return fmt.Sprintf("seccomp: %q is no group of system calls: there are %s", e.Name, strings.Join(Groups(), ", "))
}

// Groups are the names of all groups, sorted.
func Groups() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	return names
}

// widen adds a group to a policy.
func (p *Policy) widen(name string) error {
	i := slices.IndexFunc(groups, func(g group) bool { return g.Name == name })
	if i < 0 {
		return &UnknownGroupError{name}
	}
	for word, call := range strings.Fields(groups[i].Calls) {
		if r, ok := p.rules[call]; !ok || r.Otherwise.Kind != Deny || len(r.Clauses) > 0 {
			return wrong(fmt.Sprintf("group %s, word %d", name, word+1), "%s is not refused", call)
		}
		p.rules[call] = rule{Otherwise: allowed}
	}
	for call, r := range groups[i].Rules() {
		if err := p.set(call, r); err != nil {
			return err
		}
	}
	p.groups = append(p.groups, groups[i])
	return nil
}

// widened are the default policy with one group each.
var widened = sync.OnceValue(func() []Policy {
	var all []Policy
	for _, g := range groups {
		if p, err := Default(Options{Allow: []string{g.Name}}); err == nil {
			all = append(all, p)
		}
	}
	return all
})

// groupFor is the name of a group that would allow a call which the default policy denies, "" if none would.
func groupFor(arch, nr uint32, args [6]uint64) string {
	for _, p := range widened() {
		if p.Verdict(arch, nr, args).Kind != Deny {
			return p.groups[0].Name
		}
	}
	return ""
}
