// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock is the second layer behind the mounts. It handles writing to a file, device nodes, renames and links across
// directories, and the scopes. It leaves alone what another layer reports: were making and removing names, or reading,
// handled here, then the kernel would refuse them before denyfs or the supervisor saw the attempt, and nothing would be
// on record. Landlock has no way to report to an unprivileged supervisor.

// handled gives the rights that are handled under a Landlock ABI. Documentation/userspace-api/landlock.rst: REFER came with
// ABI 2 (Linux 5.19; ABI 1, 5.13, refuses it always), TRUNCATE with ABI 3 (6.2), the scopes with ABI 6 (6.12). TRUNCATE is only
// handled where it is asked for.
func handled(abi int, truncate bool) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK}
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 && truncate {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// granted are the rights of a writable place: all that are handled, without device nodes. On what is no directory the
// kernel takes the rights of files only (EINVAL otherwise).
func granted(handled uint64, directory bool) uint64 {
	const ofFiles = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	rights := handled &^ (unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK)
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
	attr := handled(abi, slices.ContainsFunc(standardFiles, readsFile))
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, 0, &Error{Step: StepRuleset, Errno: errno}
	}
	for _, path := range l.Write {
		if errno := grant(int(r), attr.Handled_access_fs, path); errno != 0 {
			return -1, 0, &Error{Step: StepGrant, Errno: errno, Detail: path}
		}
	}
	for _, fd := range standardFiles {
		if errno := grantStandard(int(r), attr.Handled_access_fs, fd); errno != 0 {
			return -1, 0, &Error{Step: StepGrant, Errno: errno, Detail: standard[fd]}
		}
	}
	return int(r), abi, nil
}

var (
	standardFiles = []int{0, 1, 2}
	standard      = [3]string{"/dev/stdin", "/dev/stdout", "/dev/stderr"}
)

// readsFile tells whether a standard file is a regular one that is not open for writing. The right to truncate is all that keeps
// the command from emptying it: /proc/self/fd/0 leads to the caller's mount of it, and open(2) with O_RDONLY and O_TRUNC, or
// truncate(2), need no file that is open for writing. Whatever else could be emptied lies on a mount of the run's own. So other
// runs do without the right, which costs a walk up the path (0.8 us) at every open, for reading too.
func readsFile(fd int) bool {
	file, writable := regular(fd)
	return file && !writable
}

// regular tells whether a standard file is one that truncate(2) has a meaning for, and whether it is open for writing. What cannot
// be told counts as a file that is not.
func regular(fd int) (file, writable bool) {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || unix.Fstat(fd, &st) != nil {
		return true, false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK:
		return false, false
	}
	return true, flags&unix.O_ACCMODE != unix.O_RDONLY
}

// grantStandard lets a standard file be opened again by its name in /dev, as scripts do: a file that the caller redirects to lies in
// no granted place. One that is not open for writing is not granted. Pipes and the like are no business of Landlock's.
func grantStandard(ruleset int, handled uint64, fd int) syscall.Errno {
	if file, writable := regular(fd); !file || !writable {
		return 0
	}
	errno := addRule(ruleset, fd, granted(handled, false))
	if errno == unix.EBADFD {
		return 0 // of a file system that is mounted nowhere, such as a memfd's
	}
	return errno
}

func grant(ruleset int, handled uint64, path string) syscall.Errno {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errnoOf(err)
	}
	return addRule(ruleset, fd, granted(handled, st.Mode&unix.S_IFMT == unix.S_IFDIR))
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
