// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// deniedCalls are the system calls of the deny table that the probe can make on every architecture, and onlyX86 those that are
// older than the others. All arguments are -1, so that none would do anything if it was carried out.
const (
	deniedCalls = `acct add_key bpf chroot clock_settime clone delete_module fanotify_init fanotify_mark finit_module fsconfig
		fsmount fsopen fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_load keyctl mbind
		memfd_secret migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at open_by_handle_at open_tree openat2
		perf_event_open pidfd_getfd pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev
		ptrace quotactl quotactl_fd reboot request_key seccomp set_mempolicy setdomainname sethostname setns socket socketpair
		swapoff swapon syslog umount2 unshare userfaultfd vhangup`
	onlyX86 = `ioperm iopl kexec_file_load lookup_dcookie modify_ldt nfsservctl sysfs uselib ustat`
)

// TestF02EveryDenied: each call of the deny table is refused, and is one event for each attempt, no less and no more. The twin is
// the same run: the calls that print this are allowed, and leave no event.
// Containment checks: E03, F03, G05, Q09.
func TestF02EveryDenied(t *testing.T) {
	t.Parallel()
	denied := strings.Fields(deniedCalls)
	if runtime.GOARCH == "amd64" {
		denied = append(denied, strings.Fields(onlyX86)...)
	}
	const attempts = 3
	args := []string{"run", "--quiet", "--", "./probe", "calls"}
	for range attempts {
		args = append(args, denied...)
	}
	p := newPlace(t)
	p.must(t, "cp", suite.base+"/bin/probe", "probe")
	stdout := p.must(t, "agentjail", args...)
	if n := strings.Count(stdout, " EPERM\n") + strings.Count(stdout, " ENOSYS\n"); n != attempts*len(denied) {
		t.Errorf("%d calls of %d were refused:\n%s", n, attempts*len(denied), stdout)
	}
	got := map[string]int{}
	for _, e := range p.ended(t) {
		if e.Class == "syscall" {
			got[e.Action] += e.attempts()
		}
	}
	for _, name := range denied {
		if got[name] != attempts {
			t.Errorf("%s: %d events for %d attempts", name, got[name], attempts)
		}
	}
	for name, n := range got {
		if !slices.Contains(denied, name) {
			t.Errorf("%s: %d events, and no attempt", name, n)
		}
	}
}

// The whole table of amd64, as a process meets it that enters each number with arguments that mean nothing, and so with those that
// make the filter refuse a call that it allows otherwise (open with a set-user-ID mode, seccomp with a listener). All other numbers
// below firstUnknown are the kernel's to answer.
const (
	refusedNumbers = `2 41 53 83 85 90-91 101 103 112 133-134 136 139 153-156 161 163-168 170-185 212 227 236 246 248-250
		257-259 268 272 298 300-301 303-305 308 310-313 317 320-321 323 438 440 443 447-448 452 460 469`
	absentNumbers = `237-239 256 279 337-423 425-433 435 437 442 450 463 466-467 470`
	firstUnknown  = 472
	// What the kernel itself answers so: setgroups without a privilege; futex, set_thread_area, get_thread_area and the old epoll
	// calls; and what not every kernel has yet, from futex_waitv (Linux 5.16) on.
	refusedByKernel = `116`
	absentByKernel  = `202 205 211 214-215 449 451 453-471`
)

// TestF01Matrix: of all numbers of system calls exactly those of the table are refused, each with its errno, those that no kernel
// has yet are absent, and every refusal is one event. What the kernel answers to all others is the twin: it is asked.
// Containment check: F03.
func TestF01Matrix(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are of amd64")
	}
	p := newPlace(t)
	p.must(t, "cp", suite.base+"/bin/probe", "probe")
	want := map[int]string{}
	for words, errno := range map[string]string{refusedNumbers: "EPERM", absentNumbers: "ENOSYS", fmt.Sprintf("%d-599", firstUnknown): "ENOSYS"} {
		for _, nr := range numbersOf(t, words) {
			want[nr] = errno
		}
	}
	mayBe := map[string][]int{"EPERM": numbersOf(t, refusedByKernel), "ENOSYS": numbersOf(t, absentByKernel)}
	asked, refused := 0, 0
	for line := range strings.Lines(p.must(t, "agentjail", "run", "--quiet", "--", "./probe", "matrix")) {
		var nr int
		var errno string
		fmt.Sscan(line, &nr, &errno)
		switch {
		case want[nr] != "":
			refused++
			if errno != want[nr] {
				t.Errorf("call %d: %s, and the table says %s", nr, errno, want[nr])
			}
		case slices.Contains(mayBe[errno], nr):
		case errno == "EPERM" || errno == "ENOSYS":
			t.Errorf("call %d: %s, and the table allows it", nr, errno)
		default:
			asked++
		}
	}
	if refused != len(want) || asked < 200 {
		t.Errorf("%d calls of %d were refused, and %d answered by the kernel", refused, len(want), asked)
	}
	events := 0
	for _, e := range p.ended(t) {
		if e.Class == "syscall" && e.Decision == "deny" && e.Errno != "EFAULT" { // whose path or address is nowhere
			events += e.attempts()
		}
	}
	// clone3, which asks for nothing here: its arguments cannot be read.
	if events != refused-1 {
		t.Errorf("%d events for %d refused calls", events, refused-1)
	}
}

// numbersOf reads numbers and ranges of them.
func numbersOf(t *testing.T, words string) []int {
	t.Helper()
	var all []int
	for word := range strings.FieldsSeq(words) {
		first, last := 0, 0
		switch n, _ := fmt.Sscanf(word, "%d-%d", &first, &last); n {
		case 1:
			last = first
		case 2:
		default:
			t.Fatalf("%q is no number", word)
		}
		for nr := first; nr <= last; nr++ {
			all = append(all, nr)
		}
	}
	return all
}
