// SPDX-License-Identifier: Apache-2.0

package integration

import (
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
