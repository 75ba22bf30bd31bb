// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownCalls are what the process that serves a run needs beside what a command may do: to look at paths as the run sees them, at
// the memory and files of its processes, and to connect for them.
const ownCalls = ` bind chroot connect kcmp listen openat2 pidfd_getfd process_vm_readv setns unshare`

// startCalls are those of a command that make a process of it, or another program. Of clone(2), threads are left.
const startCalls = `execve execveat fork vfork`

// Own is the filter for the process that serves a run, the one of the Supervisor, from when the run is built: it makes no
// process, starts no program, changes nothing by a path, puts nothing into a terminal's input, and gets no other namespace than
// the run's network. What it refuses is answered ENOSYS, at which the C library goes on from clone3(2) to clone(2).
//
// The flags of openat2(2) lie behind a pointer and are not judged: read-only mounts must stand behind this.
func Own() (Program, error) {
	p := Policy{rules: map[string]rule{}}
	for _, l := range []list{{"allowList", allowList, allowed}, {"ownCalls", ownCalls, allowed}} {
		if err := p.add(l); err != nil {
			return nil, err
		}
	}
	for name := range strings.FieldsSeq(startCalls) {
		delete(p.rules, name)
	}
	for name, r := range map[string]rule{
		"clone":   orElse(refused, when(allowed, hasBits(0, unix.CLONE_THREAD))),
		"open":    orElse(allowed, when(refused, hasBits(1, writeFlags))),
		"openat":  orElse(allowed, when(refused, hasBits(2, writeFlags))),
		"unshare": orElse(refused, when(allowed, is(0, unix.CLONE_FS))),
		"setns":   orElse(refused, when(allowed, is(1, unix.CLONE_NEWNET))),
		"ioctl":   orElse(allowed, when(refused, is(1, unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCCONS, unix.TIOCSETD))),
	} {
		if err := p.set(name, r); err != nil {
			return nil, err
		}
	}
	program, err := p.Compile()
	for i := range program {
		if program[i].Code == unix.BPF_RET|unix.BPF_K && program[i].K == unix.SECCOMP_RET_USER_NOTIF {
			program[i].K = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // nobody is asked
		}
	}
	return program, err
}

// Load puts the program on every thread of this process, and on all that they start, together with no_new_privs: for good.
func (p Program) Load() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("seccomp: PR_SET_NO_NEW_PRIVS: %w", err)
	}
	// struct sock_fprog, linux/filter.h. The threads take no_new_privs over with the filter (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC).
	program := struct {
		n      uint16
		filter *Instruction
	}{uint16(len(p)), &p[0]}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	switch {
	case errno != 0:
		return fmt.Errorf("seccomp: SECCOMP_SET_MODE_FILTER: %w", errno)
	case tid != 0:
		return fmt.Errorf("seccomp: thread %d did not take the filter", tid)
	}
	return nil
}
