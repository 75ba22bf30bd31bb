// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock is the second layer behind the mounts. It handles writing to a file, device nodes, renames and links across
// directories, and the scopes. It leaves alone what another layer reports: were making and removing names, or reading,
// handled here, then the kernel would refuse them before denyfs or the supervisor saw the attempt, and nothing would be
// on record. Landlock has no way to report to an unprivileged supervisor.

// handled gives the rights that are handled under a Landlock ABI. Documentation/userspace-api/landlock.rst: REFER came with
// ABI 2 (Linux 5.19; ABI 1, 5.13, refuses it always), TRUNCATE with ABI 3 (6.2), the scopes with ABI 6 (6.12). TRUNCATE costs
// 1 us at every open, for reading too, since the kernel asks for it there. It is all that keeps the command from emptying a file
// that it has as standard input: /proc/self/fd/0 leads to the caller's mount of it.
func handled(abi int) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK}
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// granted are the rights of a writable place: all that are handled, without device nodes. On what is no directory the
// kernel takes the rights of files only (EINVAL otherwise).
func granted(abi int, directory bool) uint64 {
	const ofFiles = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	rights := handled(abi).Handled_access_fs &^ (unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK)
	if !directory {
		rights &= ofFiles
	}
	return rights
}

// newRuleset makes the ruleset that the command's process puts on, and says which ABI it is of.
func newRuleset(l Landlock) (fd, abi int, failed *Error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return -1, 0, &Error{Step: StepRuleset, Errno: errno}
	}
	abi = int(version)
	// An attribute that is longer than the kernel knows is fine as long as the rest is zero.
	attr := handled(abi)
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, 0, &Error{Step: StepRuleset, Errno: errno}
	}
	for _, path := range l.Write {
		if errno := grant(int(r), abi, path); errno != 0 {
			return -1, 0, &Error{Step: StepGrant, Errno: errno, Detail: path}
		}
	}
	for fd := range 3 {
		if errno := grantStandard(int(r), abi, fd); errno != 0 {
			return -1, 0, &Error{Step: StepGrant, Errno: errno, Detail: standard[fd]}
		}
	}
	return int(r), abi, nil
}

var standard = [3]string{"/dev/stdin", "/dev/stdout", "/dev/stderr"}

// grantStandard lets a standard file be opened again by its name in /dev, as scripts do: a file that the caller redirects to lies in
// no granted place. One that is not open for writing is not granted. Pipes and the like are no business of Landlock's.
func grantStandard(ruleset, abi, fd int) syscall.Errno {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0
	}
	errno := addRule(ruleset, fd, granted(abi, false))
	if errno == unix.EBADFD {
		return 0 // of a file system that is mounted nowhere, such as a memfd's
	}
	return errno
}

func grant(ruleset, abi int, path string) syscall.Errno {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errnoOf(err)
	}
	return addRule(ruleset, fd, granted(abi, st.Mode&unix.S_IFMT == unix.S_IFDIR))
}

func addRule(ruleset, fd int, rights uint64) syscall.Errno {
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	return errno
}

// errnoOf gives the errno of an error of x/sys/unix.
func errnoOf(err error) syscall.Errno {
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return unix.EIO
}
