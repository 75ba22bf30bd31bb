// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// Action says what an access tried to do.
type Action string

// The actions of events. connect and bind are of class unix, exec of class exec, all others of class file.
const (
	ActionOpenRead  Action = "open-read"
	ActionOpenWrite Action = "open-write"
	ActionOpen      Action = "open" // openat2, whose flags the kernel does not show
	ActionStat      Action = "stat"
	ActionAccess    Action = "access"
	ActionExec      Action = "exec"
	ActionReadlink  Action = "readlink"
	ActionList      Action = "list"
	ActionCreate    Action = "create"
	ActionMkdir     Action = "mkdir"
	ActionMknod     Action = "mknod"
	ActionLink      Action = "link"
	ActionSymlink   Action = "symlink"
	ActionRename    Action = "rename"
	ActionUnlink    Action = "unlink"
	ActionRmdir     Action = "rmdir"
	ActionTruncate  Action = "truncate"
	ActionChmod     Action = "chmod"
	ActionChown     Action = "chown"
	ActionUtime     Action = "utime"
	ActionXattr     Action = "xattr"
	ActionWatch     Action = "watch"
	ActionChdir     Action = "chdir"
	ActionConnect   Action = "connect"
	ActionBind      Action = "bind"
	ActionOther     Action = "other"
)

// maxSyscallLine is more than the longest line of /proc/TID/syscall: nine numbers of 18 characters and their spaces.
const maxSyscallLine = 256

// Call is the system call that a thread is blocked in. The zero Call is an unknown one.
type Call struct {
	Known bool
	Nr    int // -1 where the thread is blocked outside of a call
	Args  [6]uint64
}

// ParseCall reads a line of /proc/TID/syscall, proc_pid_syscall(5): "running", "-1 SP PC", or the number in decimal,
// six arguments, SP and PC in hexadecimal.
func ParseCall(line []byte) (Call, bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) > maxSyscallLine {
		return Call{}, false
	}
	fields := bytes.Split(line, []byte(" "))
	nr, err := strconv.ParseInt(string(fields[0]), 10, 32)
	if err != nil {
		return Call{}, false // "running" is one of these
	}
	c := Call{Known: true, Nr: int(nr)}
	want := 9
	if nr == -1 {
		want = 3
	}
	if nr < -1 || len(fields) != want || !hexadecimal(fields[1:want-2], c.Args[:]) || !hexadecimal(fields[want-2:], nil) {
		return Call{}, false
	}
	return c, true
}

// hexadecimal checks that all fields are numbers as the kernel prints them and keeps as many as fit.
func hexadecimal(fields [][]byte, into []uint64) bool {
	for i, f := range fields {
		digits, ok := bytes.CutPrefix(f, []byte("0x"))
		if !ok {
			return false
		}
		n, err := strconv.ParseUint(string(digits), 16, 64)
		if err != nil {
			return false
		}
		if i < len(into) {
			into[i] = n
		}
	}
	return true
}

// Action says what the call tries to do with the path that is looked up for it.
func (c Call) Action() Action {
	if !c.Known {
		return ActionOther
	}
	if a, ok := legacyAction(c); ok {
		return a
	}
	switch c.Nr {
	case unix.SYS_OPENAT:
		return openAction(c.Args[2])
	case unix.SYS_OPENAT2:
		return ActionOpen
	case unix.SYS_TRUNCATE:
		return ActionTruncate
	case sysFstatat, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_NAME_TO_HANDLE_AT:
		return ActionStat
	case unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2:
		return ActionAccess
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT:
		return ActionExec
	case unix.SYS_READLINKAT:
		return ActionReadlink
	case unix.SYS_MKNODAT:
		return ActionMknod
	case unix.SYS_MKDIRAT:
		return ActionMkdir
	case unix.SYS_LINKAT:
		return ActionLink
	case unix.SYS_SYMLINKAT:
		return ActionSymlink
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return ActionRename
	case unix.SYS_UNLINKAT:
		if c.Args[2]&unix.AT_REMOVEDIR != 0 {
			return ActionRmdir
		}
		return ActionUnlink
	case unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2:
		return ActionChmod
	case unix.SYS_FCHOWNAT:
		return ActionChown
	case unix.SYS_UTIMENSAT:
		return ActionUtime
	case unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_FANOTIFY_MARK:
		return ActionWatch
	case unix.SYS_CHDIR, unix.SYS_CHROOT, unix.SYS_FCHDIR:
		return ActionChdir
	case unix.SYS_CONNECT, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return ActionConnect
	case unix.SYS_BIND:
		return ActionBind
	}
	if c.Nr == 468 { // file_getattr: the same number everywhere, Linux 6.17
		return ActionStat
	}
	if c.xattr() {
		return ActionXattr
	}
	return ActionOther
}

func (c Call) xattr() bool {
	switch c.Nr {
	case unix.SYS_GETXATTR, unix.SYS_LGETXATTR, unix.SYS_LISTXATTR, unix.SYS_LLISTXATTR, unix.SYS_SETXATTR,
		unix.SYS_LSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR:
		return true
	}
	// setxattrat, getxattrat, listxattrat, removexattrat: the same numbers everywhere, Linux 6.13.
	return c.Nr >= 463 && c.Nr <= 466
}

// starts are the directories that the paths of the call are relative to, for the calls that make names.
func (c Call) starts() []int {
	at := func(i int) int { return int(int32(c.Args[i])) }
	switch c.Nr {
	case unix.SYS_MKDIRAT, unix.SYS_MKNODAT:
		return []int{at(0)}
	case unix.SYS_SYMLINKAT:
		return []int{at(1)}
	case unix.SYS_LINKAT:
		return []int{at(0), at(2)}
	}
	return []int{unix.AT_FDCWD}
}

// openAction reads the flags of open(2).
func openAction(flags uint64) Action {
	switch {
	case flags&unix.O_PATH != 0:
		return ActionStat // such a descriptor names the file and gives no access to it
	case flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0:
		return ActionOpenWrite
	}
	return ActionOpenRead
}

// makesNames reports whether the call may go on to make a name that was not found: the kernel then asks a second
// time, to make it, and that is where the attempt is reported.
func (c Call) makesNames() bool {
	if !c.Known {
		return false
	}
	switch c.Action() {
	case ActionCreate, ActionMkdir, ActionMknod, ActionLink, ActionSymlink, ActionRename, ActionBind, ActionOpen:
		return true
	}
	return c.openFlags()&unix.O_CREAT != 0
}

// openFlags returns the flags of an open, and 0 for every other call.
func (c Call) openFlags() uint64 {
	if c.Nr == unix.SYS_OPENAT {
		return c.Args[2]
	}
	return legacyOpenFlags(c)
}
