// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// numbers are the system calls that tests name, those of every architecture; numbers_amd64.go adds the old ones.
var numbers = map[string]uintptr{
	"acct": unix.SYS_ACCT, "add_key": unix.SYS_ADD_KEY, "bpf": unix.SYS_BPF, "capset": unix.SYS_CAPSET,
	"chdir": unix.SYS_CHDIR, "chroot": unix.SYS_CHROOT, "clock_settime": unix.SYS_CLOCK_SETTIME, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3,
	"close_range": unix.SYS_CLOSE_RANGE, "connect": unix.SYS_CONNECT, "delete_module": unix.SYS_DELETE_MODULE,
	"fanotify_init": unix.SYS_FANOTIFY_INIT, "fanotify_mark": unix.SYS_FANOTIFY_MARK, "fchmod": unix.SYS_FCHMOD,
	"fchmodat": unix.SYS_FCHMODAT, "finit_module": unix.SYS_FINIT_MODULE, "fsconfig": unix.SYS_FSCONFIG,
	"fsmount": unix.SYS_FSMOUNT, "fsopen": unix.SYS_FSOPEN, "fspick": unix.SYS_FSPICK,
	"get_mempolicy": unix.SYS_GET_MEMPOLICY, "getpid": unix.SYS_GETPID, "init_module": unix.SYS_INIT_MODULE,
	"io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "ioctl": unix.SYS_IOCTL, "kcmp": unix.SYS_KCMP,
	"kexec_load": unix.SYS_KEXEC_LOAD, "keyctl": unix.SYS_KEYCTL, "landlock_create_ruleset": unix.SYS_LANDLOCK_CREATE_RULESET,
	"landlock_add_rule": unix.SYS_LANDLOCK_ADD_RULE, "landlock_restrict_self": unix.SYS_LANDLOCK_RESTRICT_SELF,
	"mbind": unix.SYS_MBIND, "memfd_create": unix.SYS_MEMFD_CREATE, "memfd_secret": unix.SYS_MEMFD_SECRET,
	"migrate_pages": unix.SYS_MIGRATE_PAGES, "mknodat": unix.SYS_MKNODAT, "mount": unix.SYS_MOUNT,
	"mount_setattr": unix.SYS_MOUNT_SETATTR, "move_mount": unix.SYS_MOVE_MOUNT, "move_pages": unix.SYS_MOVE_PAGES,
	"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"open_tree": unix.SYS_OPEN_TREE, "openat2": unix.SYS_OPENAT2, "perf_event_open": unix.SYS_PERF_EVENT_OPEN,
	"personality": unix.SYS_PERSONALITY, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "pivot_root": unix.SYS_PIVOT_ROOT, "prlimit64": unix.SYS_PRLIMIT64,
	"prctl": unix.SYS_PRCTL, "membarrier": unix.SYS_MEMBARRIER, "rseq": unix.SYS_RSEQ, "process_madvise": unix.SYS_PROCESS_MADVISE, "process_mrelease": unix.SYS_PROCESS_MRELEASE,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"ptrace": unix.SYS_PTRACE, "quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD,
	"reboot": unix.SYS_REBOOT, "request_key": unix.SYS_REQUEST_KEY, "seccomp": unix.SYS_SECCOMP,
	"set_mempolicy": unix.SYS_SET_MEMPOLICY, "setdomainname": unix.SYS_SETDOMAINNAME, "sethostname": unix.SYS_SETHOSTNAME,
	"setns": unix.SYS_SETNS, "setrlimit": unix.SYS_SETRLIMIT, "setresuid": unix.SYS_SETRESUID, "setsockopt": unix.SYS_SETSOCKOPT, "setuid": unix.SYS_SETUID,
	"socket": unix.SYS_SOCKET, "socketpair": unix.SYS_SOCKETPAIR, "swapoff": unix.SYS_SWAPOFF, "swapon": unix.SYS_SWAPON,
	"syslog": unix.SYS_SYSLOG, "umask": unix.SYS_UMASK, "umount2": unix.SYS_UMOUNT2, "unshare": unix.SYS_UNSHARE, "userfaultfd": unix.SYS_USERFAULTFD,
	"vhangup": unix.SYS_VHANGUP, "clock_adjtime": unix.SYS_CLOCK_ADJTIME, "fchmodat2": unix.SYS_FCHMODAT2, "mkdirat": unix.SYS_MKDIRAT,
	"openat": unix.SYS_OPENAT,
}

// number finds a system call by name or by "@NUMBER".
func number(name string) (uintptr, error) {
	if n, ok := strings.CutPrefix(name, "@"); ok {
		v, err := strconv.ParseUint(n, 0, 64)
		return uintptr(v), err
	}
	if n, ok := numbers[name]; ok {
		return n, nil
	}
	return 0, fmt.Errorf("no system call %q on %s", name, runtime.GOARCH)
}

// calls invokes each NAME[:ARG,...] and prints what the kernel answered. Arguments that are not given are -1: a bad file,
// a bad pointer and a bad flag at once.
func calls(args []string) error {
	for _, arg := range args {
		name, list, given := strings.Cut(arg, ":")
		nr, err := number(name)
		if err != nil {
			return err
		}
		var a [6]uintptr
		for i := range a {
			a[i] = ^uintptr(0)
		}
		if given {
			for i, word := range strings.Split(list, ",") {
				v, err := parseArg(word)
				if err != nil || i >= len(a) {
					return fmt.Errorf("%s: bad argument %q", arg, word)
				}
				a[i] = v
			}
		}
		_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		fmt.Printf("%s %s\n", arg, errnoName(errno))
	}
	return nil
}

func parseArg(word string) (uintptr, error) {
	if v, err := strconv.ParseInt(word, 0, 64); err == nil {
		return uintptr(v), nil
	}
	v, err := strconv.ParseUint(word, 0, 64)
	return uintptr(v), err
}

func errnoName(errno unix.Errno) string {
	if errno == 0 {
		return "OK"
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}

// families of sockets, one more than the kernel has (AF_MAX, bits/socket.h).
const families = 48

// sweep opens a socket of every family, type and protocol, and prints those that the kernel gave.
func sweep([]string) error {
	opened := map[string]bool{}
	for family := range families {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
			for proto := range 24 {
				for _, high := range []uintptr{0, 1 << 32} {
					fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family)|high, uintptr(kind), uintptr(proto))
					if errno == 0 {
						unix.Close(int(fd))
						opened[fmt.Sprintf("%d %d %d", family, kind, proto)] = true
					}
				}
			}
		}
	}
	for family := range families {
		for kind := range 6 {
			for proto := range 24 {
				if line := fmt.Sprintf("%d %d %d", family, kind, proto); opened[line] {
					fmt.Println(line)
				}
			}
		}
	}
	return nil
}

// tiocsti pushes a newline into every terminal in reach (ioctl_tty(2)), with and without bits that the kernel ignores.
func tiocsti([]string) error {
	names := []string{"/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty"}
	if entries, err := os.ReadDir("/dev/pts"); err == nil {
		for _, e := range entries {
			names = append(names, "/dev/pts/"+e.Name())
		}
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		for _, request := range []uintptr{unix.TIOCSTI, unix.TIOCSTI | 1<<32} {
			fmt.Printf("%s %#x %s\n", name, request, errnoName(pushByte(f.Fd(), request)))
		}
		f.Close()
	}
	return nil
}
