// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) and unshare(2) that make a namespace.
const newNamespaces = 0x7E020000

// filter takes system calls away from a command, as an older kernel or a stricter container would. The name "namespaces"
// stands for every way of making one, "listener" and "killable" for seccomp(2) with the flag of Linux 5.0 or 5.19 alone, "transparent"
// for the socket option that TPROXY needs, "netfilter" for sockets that nftables is set up by. SUCCESS makes a call do nothing and say
// that it has worked.
func filter(args []string) error {
	before, command, err := afterDashes(args)
	if err != nil || len(before) != 1 {
		return errors.New("usage: filter NAME=ERRNO,... -- COMMAND")
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 4}} // seccomp_data.nr
	for _, rule := range strings.Split(before[0], ",") {
		name, word, _ := strings.Cut(rule, "=")
		errno, known := errnoByName(word)
		if !known {
			return fmt.Errorf("%s: unknown errno %q", name, word)
		}
		switch name {
		case "namespaces":
			program = append(program, refuseNamespaces(errno)...)
			continue
		case "listener":
			program = append(program, refuseFlag(unix.SYS_SECCOMP, 1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, errno)...)
			continue
		case "transparent": // IP_TRANSPARENT and IPV6_TRANSPARENT (ip(7), ipv6(7))
			program = append(program, refuseArgs(unix.SYS_SETSOCKOPT, errno, map[int]uint32{1: unix.SOL_IP, 2: unix.IP_TRANSPARENT})...)
			program = append(program, refuseArgs(unix.SYS_SETSOCKOPT, errno, map[int]uint32{1: unix.SOL_IPV6, 2: unix.IPV6_TRANSPARENT})...)
			continue
		case "netfilter": // netlink(7)
			program = append(program, refuseArgs(unix.SYS_SOCKET, errno, map[int]uint32{0: unix.AF_NETLINK, 2: unix.NETLINK_NETFILTER})...)
			continue
		case "killable":
			program = append(program, refuseFlag(unix.SYS_SECCOMP, 1, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, errno)...)
			continue
		}
		nr, err := number(name)
		if err != nil {
			return err
		}
		program = append(program, refuse(nr, errno)...)
	}
	program = append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	if err := install(program); err != nil {
		return err
	}
	return execute(command)
}

func errnoByName(word string) (errno uint32, known bool) {
	if word == "SUCCESS" {
		return 0, true
	}
	for errno := unix.Errno(1); errno < 200; errno++ {
		if unix.ErrnoName(errno) == word {
			return uint32(errno), true
		}
	}
	return 0, false
}

// refuseArgs refuses a call whose arguments have these values, by their lower halves.
func refuseArgs(nr uintptr, errno uint32, args map[int]uint32) []bpf.Instruction {
	const low = 16 // seccomp_data.args, on a little-endian machine
	rest := uint8(2 * len(args))
	program := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: rest + 2}}
	for i, value := range args {
		rest -= 2
		program = append(program, bpf.LoadAbsolute{Off: uint32(low + 8*i), Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: rest + 1})
	}
	return append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | errno}, bpf.LoadAbsolute{Off: 0, Size: 4})
}

func refuse(nr uintptr, errno uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | errno},
	}
}

func refuseNamespaces(errno uint32) []bpf.Instruction {
	program := append(refuse(unix.SYS_UNSHARE, errno), refuse(unix.SYS_CLONE3, uint32(unix.ENOSYS))...)
	return append(program, refuseFlag(unix.SYS_CLONE, 0, newNamespaces, errno)...)
}

// refuseFlag refuses a call if an argument has one of some bits.
func refuseFlag(nr uintptr, argument, bits, errno uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: 4},
		bpf.LoadAbsolute{Off: 16 + 8*argument, Size: 4}, // the low half, on machines that begin with it
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: bits, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | errno},
		bpf.LoadAbsolute{Off: 0, Size: 4},
	}
}

func install(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filters := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filters[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

func execute(command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, command, os.Environ())
}

// hold leaves directories, a socket and a pipe open as the files 3 to 200, as a careless parent would.
func hold(args []string) error {
	_, command, err := afterDashes(args)
	if err != nil {
		return err
	}
	for fd := 3; fd <= 200; fd++ {
		var from int
		switch fd % 3 {
		case 0:
			from, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		case 1:
			from, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		default:
			from, err = unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		}
		if err != nil {
			return err
		}
		if from == fd {
			continue
		}
		if err := unix.Dup3(from, fd, 0); err != nil {
			return err
		}
		if from > 200 || from < fd {
			unix.Close(from)
		}
	}
	return execute(command)
}

// forks makes children that do nothing until the parent's end, and says how many there were before the kernel refused.
func forks(args []string) error {
	n, err := strconv.Atoi(strings.Join(args, ""))
	if err != nil {
		return err
	}
	var made []*exec.Cmd
	for range n {
		c := exec.Command("/bin/sleep", "60")
		if err = c.Start(); err != nil {
			break
		}
		made = append(made, c)
	}
	fmt.Printf("made %d: %v\n", len(made), err)
	for _, c := range made {
		c.Process.Kill()
		c.Wait()
	}
	return nil
}

// exitLike ends the program as a child ended.
func exitLike(err error) error {
	var status *exec.ExitError
	if errors.As(err, &status) {
		os.Exit(max(status.ExitCode(), 1))
	}
	return err
}

// printChildren lists the processes whose parent is a process.
func printChildren(args []string) error {
	for _, pid := range children(strings.Join(args, "")) {
		fmt.Println(pid)
	}
	return nil
}

// children are the processes whose parent is a process, which may be self. A thread may end while they are listed.
func children(process string) []int {
	files, _ := filepath.Glob("/proc/" + process + "/task/*/children")
	var pids []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// settle waits until no child is left, and reaps them.
func settle(limit time.Duration) []int {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
		left := children("self")
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}
