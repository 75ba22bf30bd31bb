// SPDX-License-Identifier: Apache-2.0

package denyfs

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_NEWFSTATAT

// legacyAction knows the calls that only x86 has; newer architectures have their *at forms alone.
func legacyAction(c Call) (Action, bool) {
	switch c.Nr {
	case unix.SYS_OPEN:
		return openAction(c.Args[1]), true
	case unix.SYS_CREAT:
		return ActionCreate, true
	case unix.SYS_MKNOD:
		return ActionMknod, true
	case unix.SYS_STAT, unix.SYS_LSTAT:
		return ActionStat, true
	case unix.SYS_ACCESS:
		return ActionAccess, true
	case unix.SYS_READLINK:
		return ActionReadlink, true
	case unix.SYS_MKDIR:
		return ActionMkdir, true
	case unix.SYS_LINK:
		return ActionLink, true
	case unix.SYS_SYMLINK:
		return ActionSymlink, true
	case unix.SYS_RENAME:
		return ActionRename, true
	case unix.SYS_UNLINK:
		return ActionUnlink, true
	case unix.SYS_RMDIR:
		return ActionRmdir, true
	case unix.SYS_CHMOD:
		return ActionChmod, true
	case unix.SYS_CHOWN, unix.SYS_LCHOWN:
		return ActionChown, true
	case unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT:
		return ActionUtime, true
	}
	return "", false
}

func legacyOpenFlags(c Call) uint64 {
	if c.Nr == unix.SYS_OPEN {
		return c.Args[1]
	}
	return 0
}
