// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// FUSEDevice is where the host has the device of FUSE.
const FUSEDevice = "/dev/fuse"

// nodeName is the name of the device in the file system of FUSENode.
const nodeName = "fuse"

// MountFUSE mounts a FUSE file system at dir and returns its device. The device must be opened by a process of the
// user namespace that mounts it (fuse_fill_super in fs/fuse/inode.c). It is opened by the node that FUSENode made, and by the
// host's where there is none.
func MountFUSE(dir string, node *os.File) (*os.File, error) {
	at, name := unix.AT_FDCWD, FUSEDevice
	if node != nil {
		at, name = int(node.Fd()), nodeName
	}
	fd, err := unix.Openat(at, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{"open", FUSEDevice, err}
	}
	dev := os.NewFile(uintptr(fd), FUSEDevice)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("agentjail", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		dev.Close()
		return nil, &Error{"mount a FUSE file system at", dir, err}
	}
	return dev, nil
}

// FUSENode makes a second node of the host's FUSE device, which belongs to uid alone, and returns the directory that it is
// in. Only the root of the host can make one (mknod(2)), and another user's supervisor needs one where the host's is closed
// to that user: root's rights end at a user namespace in which root does not exist.
//
// The directory is a file system that is mounted nowhere (fsmount(2), Linux 5.2): nobody finds it by a path, and it ends with
// the last copy of the descriptor. Nobody but root can make anything else in it.
func FUSENode(uid int) (*os.File, error) {
	var host unix.Stat_t
	if err := unix.Stat(FUSEDevice, &host); err != nil {
		return nil, &Error{"stat", FUSEDevice, err}
	}
	if host.Mode&unix.S_IFMT != unix.S_IFCHR {
		return nil, &Error{"make another node of", FUSEDevice, unix.ENODEV}
	}
	dir, err := detachedTmpfs()
	if err != nil {
		return nil, err
	}
	fd := int(dir.Fd())
	err = unix.Mknodat(fd, nodeName, unix.S_IFCHR|0o600, int(host.Rdev))
	if err == nil {
		err = unix.Fchownat(fd, nodeName, uid, -1, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		dir.Close()
		return nil, &Error{"make another node of", FUSEDevice, err}
	}
	return dir, nil
}

// detachedTmpfs makes an empty tmpfs that is mounted nowhere, and returns its root. Its devices work, which those of a
// tmpfs of a user namespace do not (SB_I_NODEV, alloc_super in fs/super.c).
func detachedTmpfs() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "mode", "0711"); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), "fuse node"), nil
}
