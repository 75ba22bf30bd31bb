// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// victim is a process that does, or suffers, what a test cannot do itself and a shell cannot do at all.
func victim(args []string) {
	switch args[0] {
	case "umount": // a system call that a filter of the tests asks about
		_, _, errno := unix.Syscall(unix.SYS_UMOUNT2, 0, 0, 0)
		fmt.Println(unix.ErrnoName(errno))
	case "rename":
		fmt.Println(errnoName(os.Rename(args[1], args[2])))
	case "capped": // become the stage, with the capabilities of a mask
		mask, _ := strconv.ParseUint(args[1], 16, 64)
		for c := range lastCap() + 1 {
			if mask>>c&1 == 0 {
				unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
			}
		}
		fmt.Println(unix.Exec("/proc/self/exe", []string{"stage", Arg}, os.Environ()))
	case "filtered": // become the stage, under a filter that answers a system call with an errno
		victimFilter(args[1], args[2])
		fmt.Println(unix.Exec("/proc/self/exe", []string{"stage", Arg}, os.Environ()))
	default:
		os.Exit(99)
	}
}

func errnoName(err error) string {
	if err == nil {
		return "ok"
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	return unix.ErrnoName(errno)
}

// victimFilter refuses a call; of clone only the one for a user namespace.
func victimFilter(call, errno string) {
	nr, _ := strconv.Atoi(call)
	e, _ := strconv.Atoi(errno)
	if nr == -1 {
		return
	}
	f := answer(uint32(nr), unix.SECCOMP_RET_ERRNO|uint32(e))
	if nr == unix.SYS_CLONE { // a Go program needs its threads
		f = []SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNr},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataArg0},
			{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWUSER, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(e)},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
	}
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if failed := loadSelf(f); failed != nil {
		fmt.Println(failed)
		os.Exit(98)
	}
}

// answer is a filter that gives one system call an action, and allows the rest.
func answer(nr, action uint32) []SockFilter {
	return []SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// answerOne takes one notification from the listener and answers it with an errno. It gives the number of the call.
func answerOne(t testing.TB, listener *os.File, errno syscall.Errno) int32 {
	t.Helper()
	var ask struct { // struct seccomp_notif, seccomp_unotify(2)
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	var say struct { // struct seccomp_notif_resp
		id    uint64
		val   int64
		error int32
		flags uint32
	}
	fd := listener.Fd()
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&ask)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			t.Fatalf("NOTIF_RECV: %v", e)
		}
		break
	}
	say.id, say.error = ask.id, -int32(errno)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&say))); e != 0 {
		t.Fatalf("NOTIF_SEND: %v", e)
	}
	return ask.nr
}
