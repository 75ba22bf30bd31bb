// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// victim is the process under the filter: one thread.
func victim(dir string) {
	fail := func(what string, err error) {
		fmt.Fprintln(os.Stderr, "victim:", what, err)
		os.Exit(1)
	}
	ro := filepath.Join(dir, "ro")
	if err := unix.Mount(ro, ro, "", unix.MS_BIND, ""); err != nil {
		fail("bind", err)
	}
	if err := unix.Mount("", ro, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		fail("remount", err)
	}
	_ = layers(dir) // the test that is about it sees whether it worked
	// What is in it is the host's alone.
	if err := unix.Mount("none", filepath.Join(dir, "hosts"), "tmpfs", 0, ""); err != nil {
		fail("tmpfs", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fail("proc", err)
	}
	if err := os.Chdir(dir); err != nil {
		fail("chdir", err)
	}
	policy, err := Default(Options{Looks: os.Getenv(looksEnv) != "", Allow: strings.Fields(os.Getenv(groupsEnv))})
	if err != nil {
		fail("policy", err)
	}
	for _, without := range strings.Fields(os.Getenv(withoutEnv)) {
		policy.rules[without] = rule{Otherwise: allowed}
	}
	program, err := policy.Compile()
	if err != nil {
		fail("compile", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail("no_new_privs", err)
	}
	prog := struct {
		n      uint16
		filter unsafe.Pointer
	}{uint16(len(program)), unsafe.Pointer(&program[0])}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		fail("seccomp", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		fail("sendmsg", err)
	}
	unix.Close(int(fd))
	var one [1]byte
	if n, err := unix.Read(3, one[:]); n != 1 {
		fail("go", err)
	}
	steps()
}

// steps makes the calls that it is told, until the last one.
func steps() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var s step
		if in.Decode(&s) != nil || s.Call == "end" {
			return
		}
		err := s.run()
		var errno syscall.Errno
		errors.As(err, &errno)
		out.Encode(errno)
	}
}

// kept are files that a step leaves open for later ones.
var kept []int

func (s step) run() error {
	closing := func(fd int, err error) error {
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	switch s.Call {
	case "open":
		return closing(unix.Openat(unix.AT_FDCWD, s.A, s.N, 0o644))
	case "openat": // relative to a directory
		dir, err := unix.Openat(unix.AT_FDCWD, s.A, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		return closing(unix.Openat(dir, s.B, s.N, 0o644))
	case "again": // by a path with the number of a descriptor
		fd, err := unix.Openat(unix.AT_FDCWD, s.A, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return closing(unix.Openat(unix.AT_FDCWD, fmt.Sprintf(s.B, fd), s.N, 0))
	case "slow":
		_, err := syscall.ForkExec("/proc/self/exe", slowArgv, &syscall.ProcAttr{Env: []string{slowEnv + "=1"}})
		return err
	case "raw":
		return s.raw()
	case "chdir":
		return unix.Chdir(s.A)
	case "unlink":
		return unix.Unlink(s.A)
	case "mkdir":
		return unix.Mkdir(s.A, 0o755)
	case "rmdir":
		return unix.Rmdir(s.A)
	case "rename":
		return unix.Rename(s.A, s.B)
	case "link":
		return unix.Link(s.A, s.B)
	case "symlink":
		return unix.Symlink(s.A, s.B)
	case "chmod":
		return unix.Chmod(s.A, uint32(s.N))
	case "fchmod":
		fd, err := unix.Openat(unix.AT_FDCWD, s.A, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchmod(fd, uint32(s.N))
	case "truncate":
		return unix.Truncate(s.A, 0)
	case "touch":
		return unix.UtimesNanoAt(unix.AT_FDCWD, s.A, nil, 0)
	case "unshare":
		return unix.Unshare(s.N)
	case "nest": // what follows, up to "end", is done by a process in namespaces of its own
		cmd := exec.Command("/proc/self/exe")
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(os.Environ(), nestedEnv+"=1"), os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  uintptr(s.N),
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		return cmd.Run()
	case "chroot":
		return unix.Chroot(s.A)
	case "setxattr":
		return unix.Setxattr(s.A, s.B, []byte("x"), 0)
	case "newcall":
		_, _, errno := unix.Syscall(5000, 0, 0, 0)
		return errno
	}
	return s.socket()
}

// socket makes the calls of sockets.
func (s step) socket() error {
	switch s.Call {
	case "socket":
		fd, err := unix.Socket(s.N, unix.SOCK_STREAM, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	case "close":
		last := len(kept) - 1
		err := unix.Close(kept[last])
		kept = kept[:last]
		return err
	case "listen", "bind":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		kept = append(kept, fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: s.A}); err != nil || s.Call == "bind" {
			return err
		}
		return unix.Listen(fd, 100)
	case "connect":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrUnix{Name: s.A})
	case "connect4", "connect4 without waiting":
		kind := unix.SOCK_STREAM
		if s.Call != "connect4" {
			kind |= unix.SOCK_NONBLOCK
		}
		fd, err := unix.Socket(unix.AF_INET, kind, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrInet4{Port: s.N, Addr: [4]byte{127, 0, 0, 1}})
	}
	return s.looking()
}
