// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVariable tells the second process of a verb that changes the host around a command.
const stageVariable = "PROBE_STAGE"

// again runs this program once more, in namespaces of its own.
func again(attr *syscall.SysProcAttr) error {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), stageVariable+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = attr
	return exitLike(c.Run())
}

// isAgain tells whether this is the second process, and forgets it for those that follow.
func isAgain() bool {
	defer os.Unsetenv(stageVariable)
	return os.Getenv(stageVariable) != ""
}

// userns0 is a host that allows no user namespace: /proc/sys/user/max_user_namespaces counts per namespace (namespaces(7)).
func userns0(args []string) error {
	_, command, err := afterDashes(args)
	if err != nil {
		return err
	}
	if !isAgain() {
		return again(ownUser(0, 0))
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	return execute(command)
}

// disk gives a command a small file system at a directory, of which only some bytes are left.
func disk(args []string) error {
	before, command, err := afterDashes(args)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("disk", flag.ContinueOnError)
	free := flags.Int64("free", 0, "bytes")
	if err := flags.Parse(before); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("which directory?")
	}
	return mounting(command, func() error { return fullTmpfs(flags.Arg(0), *free) })
}

// layers puts a file system of two over a directory, for a command alone: of what is there, and of a tmpfs for what is changed.
func layers(args []string) error {
	before, command, err := afterDashes(args)
	if err != nil || len(before) != 1 {
		return errors.New("usage: layers DIR -- COMMAND")
	}
	return mounting(command, func() error {
		upper, err := os.MkdirTemp("", "layers")
		if err != nil {
			return err
		}
		if err := unix.Mount("layers", upper, "tmpfs", 0, ""); err != nil {
			return err
		}
		for _, dir := range []string{"/files", "/work"} {
			if err := os.Mkdir(upper+dir, 0o755); err != nil {
				return err
			}
		}
		return unix.Mount("layers", before[0], "overlay", 0,
			"userxattr,xino=off,lowerdir="+before[0]+",upperdir="+upper+"/files,workdir="+upper+"/work")
	})
}

// cover puts an empty file that nobody may open over a file, for a command alone.
func cover(args []string) error {
	before, command, err := afterDashes(args)
	if err != nil || len(before) != 1 {
		return errors.New("usage: cover FILE -- COMMAND")
	}
	return mounting(command, func() error {
		empty, err := os.CreateTemp("", "cover")
		if err != nil {
			return err
		}
		defer os.Remove(empty.Name())
		if err := empty.Chmod(0); err != nil {
			return err
		}
		return unix.Mount(empty.Name(), before[0], "", unix.MS_BIND, "")
	})
}

// mounting runs a command in a mount namespace, as the caller again and without any privilege of its own: those of an
// ordinary user end with the exec (capabilities(7)).
func mounting(command []string, mount func() error) error {
	if !isAgain() {
		attr := &syscall.SysProcAttr{}
		if os.Getuid() != 0 {
			attr = ownUser(os.Getuid(), os.Getgid())
			attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE} // the second for the work of an overlay
		}
		attr.Cloneflags |= unix.CLONE_NEWNS
		return again(attr)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := mount(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	return execute(command)
}

// fullTmpfs mounts a file system of 1 MiB and the free bytes, and fills the 1 MiB.
func fullTmpfs(dir string, free int64) error {
	const full = 1 << 20
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", full+free)); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, full), 0o600)
}

// ownUser maps the caller to an id in a new user namespace, in which it has every capability until it executes something.
func ownUser(uid, gid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: os.Getgid(), Size: 1}},
	}
}
