// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// After the clone the stage needs nothing of the run any more: disarm lets go of the command's standard files, of the
// capabilities, and of every system call that waiting, signalling and the Go runtime do not need. The filter is on all
// threads (SECCOMP_FILTER_FLAG_TSYNC), while capset(2) is about the calling one: the runtime's other threads keep what
// libcontainer left to the process in their sets, and no call to use it with.
func disarm() *Error {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			unix.Dup3(null, fd, 0) // else a reader of the command's output would never see its end
		}
		unix.Close(null)
	} else {
		unix.CloseRange(0, 2, 0)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return &Error{Step: StepCaps, Errno: errnoOf(err)}
	}
	return loadSelf(selfFilter(auditArch()))
}

func loadSelf(filter []SockFilter) *Error {
	program := sockFprog{len: uint16(len(filter)), filter: &filter[0]}
	tid, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return &Error{Step: StepSelf, Errno: errno}
	}
	if tid != 0 {
		return &Error{Step: StepSelf, Detail: "a thread did not take it"}
	}
	return nil
}

// selfCalls is what the stage and the Go runtime (with glibc's threads, where it is linked) use from then on. A signal to
// a process inside is the most that they can do.
var selfCalls = []uint32{
	unix.SYS_READ, unix.SYS_SENDMSG, unix.SYS_WAIT4, unix.SYS_KILL, unix.SYS_EXIT_GROUP, // the stage
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_YIELD,
	unix.SYS_SCHED_GETAFFINITY, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_EXIT, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_PREAD64,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
}

// Offsets into struct seccomp_data, seccomp(2); the low half of an argument on a little-endian machine.
const (
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16
	dataArg1 = 24
)

const (
	allow = unix.SECCOMP_RET_ALLOW
	deny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	gone  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// selfFilter is the program for one architecture. clone3 is "not implemented", since its flags are behind a pointer: the
// C library then uses clone. Of ioctl only asking for and setting the foreground group are left.
func selfFilter(arch uint32) []SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		set   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	f := []SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: dataNr},
		{Code: equal, K: unix.SYS_CLONE, Jf: 4},
		{Code: load, K: dataArg0},
		{Code: set, K: newNamespaces, Jf: 1},
		{Code: ret, K: deny},
		{Code: ret, K: allow},
		{Code: equal, K: unix.SYS_IOCTL, Jf: 5},
		{Code: load, K: dataArg1},
		{Code: equal, K: unix.TIOCGPGRP, Jt: 2},
		{Code: equal, K: unix.TIOCSPGRP, Jt: 1},
		{Code: ret, K: deny},
		{Code: ret, K: allow},
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		{Code: ret, K: gone},
	}
	for _, nr := range selfCalls {
		f = append(f, SockFilter{Code: equal, K: nr, Jf: 1}, SockFilter{Code: ret, K: allow})
	}
	return append(f, SockFilter{Code: ret, K: deny})
}

// auditArch is the architecture of this binary as seccomp names it.
func auditArch() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}
