// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inSandbox marks the process that chromium starts in namespaces of its own.
const inSandbox = "AGENTJAIL_PROBE_SANDBOX"

// chromium does what Chromium's sandbox does (sandbox/linux/services/namespace_sandbox.cc and credentials.cc): a process in user, pid
// and network namespaces of its own, whose root becomes a directory of a process that is gone, and that lets go of its capabilities.
// It prints what such a process still reaches: the socket at PATH among it.
func chromium(args []string) error {
	if len(args) != 1 {
		return errors.New("no PATH")
	}
	if os.Getenv(inSandbox) != "" {
		return sandboxed(args[0])
	}
	cmd := exec.Command("/proc/self/exe", "chromium", args[0])
	cmd.Env = append(os.Environ(), inSandbox+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT}, // which execve(2) would take
	}
	if os.Getuid() != 0 { // whom it takes CAP_SETFCAP to map
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return cmd.Run()
}

func sandboxed(path string) error {
	runtime.LockOSThread() // the capabilities are this thread's
	fmt.Println("pid", os.Getpid())
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	fmt.Println("pair", nameOf(err))
	unix.Close(pair[0])
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	fmt.Println("internet", nameOf(err))
	// The child shares the root (CLONE_FS), gives itself another, has nothing to execute there, and ends.
	_, err = syscall.ForkExec("/none", nil, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_FS, Chroot: "/proc/self/fdinfo/"}})
	fmt.Println("root", nameOf(err))
	fmt.Println("chdir", nameOf(unix.Chdir("/")))
	if err := dropCapabilities(); err != nil {
		return err
	}
	_, err = os.ReadFile("/etc/passwd")
	fmt.Println("read", nameOf(err))
	fmt.Println("create", nameOf(os.WriteFile("/made", nil, 0o600)))
	fmt.Println("chroot", nameOf(unix.Chroot("/")))
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	fmt.Println("connect", nameOf(unix.Connect(socket, &unix.SockaddrUnix{Name: path})))
	fmt.Println("namespace", nameOf(unix.Unshare(unix.CLONE_NEWPID)))
	return nil
}

func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0); errno != 0 {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}

func nameOf(err error) string {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return strconv.Quote(err.Error())
	}
	return errnoName(errno)
}
