// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A second start of a Go program would cost 10 ms, so the command's process is a copy of the stage that never enters the
// Go runtime again, as in syscall.forkAndExecInChild. The functions below that run in it are nosplit (the linker then
// proves that they fit on the stack as it is), allocate nothing, write no pointer and call nothing but RawSyscall6. No
// signal handler can run either: the stage has none (confine), and blocks all signals around clone.

// loaded keeps the image on the heap, where nothing moves.
var loaded *image

// clone starts the command's process. The calling goroutine has to be locked to its thread: PR_SET_PDEATHSIG is about
// the thread.
func (im *image) clone() (pid int, errno syscall.Errno) {
	loaded = im
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before); err != nil {
		return 0, err.(syscall.Errno)
	}
	pid, errno = loaded.fork()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); errno == 0 && err != nil {
		errno = err.(syscall.Errno)
	}
	return pid, errno
}

// fork returns in the stage only. The cgroup namespace is new because libcontainer made the stage's before the stage was moved
// into the run's cgroup: that namespace's root is the caller's, and /proc/self/cgroup would show the way from there.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func (im *image) fork() (int, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_NEWCGROUP|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		im.child()
	}
	return int(pid), errno
}

// child is the command's process. It does not return.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (im *image) child() {
	for i := 0; i < len(im.ops); i++ {
		if errno := im.do(&im.ops[i]); errno != 0 {
			im.fail(im.ops[i].step, errno, exitRefused)
		}
	}
	errno := im.exec()
	im.fail(StepExec, errno, execCode(errno))
}

//go:nosplit
//go:norace
//go:nocheckptr
func (im *image) do(o *op) syscall.Errno {
	if o.how&killable != 0 && im.report.flags&flagWaitKillable != 0 {
		return 0
	}
	first := o.args[0]
	if o.how&use != 0 {
		first = im.kept
	}
	r, _, errno := syscall.RawSyscall6(o.nr, first, o.args[1], o.args[2], o.args[3], o.args[4], o.args[5])
	switch {
	case errno != 0 && errno == o.ignore:
		return 0
	case errno != 0:
		return errno
	case o.how&one != 0 && r != 1:
		exit(exitRefused)
	}
	if o.how&save != 0 {
		im.kept = r
		im.rights.fd = int32(r)
	}
	if o.how&killable != 0 && o.ignore != 0 {
		im.report.flags = flagWaitKillable
	}
	return 0
}

// exec is execvp(3): a file that may not be executed does not end the search, and one without a #! line is a script.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (im *image) exec() syscall.Errno {
	var last, denied syscall.Errno = unix.ENOENT, 0
	argv, env, script := uintptr(unsafe.Pointer(&im.argv[0])), uintptr(unsafe.Pointer(&im.env[0])), uintptr(unsafe.Pointer(&im.script[0]))
	for i := 0; i < len(im.paths); i++ {
		_, _, last = syscall.RawSyscall6(unix.SYS_EXECVE, im.paths[i], argv, env, 0, 0, 0)
		switch last {
		case unix.EACCES:
			denied = last
		case unix.ENOENT, unix.ENOTDIR, unix.ESTALE, unix.ENODEV, unix.ETIMEDOUT:
		case unix.ENOEXEC:
			im.script[1] = im.paths[i]
			syscall.RawSyscall6(unix.SYS_EXECVE, im.shell, script, env, 0, 0, 0)
			return last
		default:
			return last
		}
	}
	if denied != 0 {
		return denied
	}
	return last
}

// fail tells the supervisor and exits.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (im *image) fail(step Step, errno syscall.Errno, code int) {
	im.report.kind = reportFailed
	im.report.step = step
	im.report.errno = uint32(errno)
	syscall.RawSyscall6(unix.SYS_WRITE, handOverFD, uintptr(unsafe.Pointer(&im.report)), reportSize, 0, 0, 0)
	exit(code)
}

//go:nosplit
//go:norace
func exit(code int) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, uintptr(code), 0, 0, 0, 0, 0)
	}
}
