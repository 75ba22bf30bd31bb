// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rootSize bounds the tmpfs of a PlainRoot, which holds directories, empty files and links.
const rootSize = "size=16m"

// The names of the stand-ins in the directory of HideNodes.
const (
	HiddenFile = "file"
	HiddenDir  = "dir"
)

// PlainRoot mounts an empty tmpfs as the root of a run that no process serves: what is not granted is not in it. Build fills it, and
// makes it read-only. It has the owner, and so the mode, of a directory that the command may not write: that is what the mount says.
func PlainRoot(dir string) error {
	if err := unix.Mount("agentjail", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+rootSize); err != nil {
		return &Error{"mount a tmpfs at", dir, err}
	}
	return nil
}

// HideNodes makes what is mounted over hidden files and directories of a run with a PlainRoot, in a read-only tmpfs at dir: a file and
// a directory that nobody may open who has no capability to override permissions, which the posture makes sure of.
func HideNodes(dir string) error {
	if err := unix.Mount("agentjail", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,"+rootSize); err != nil {
		return &Error{"mount a tmpfs at", dir, err}
	}
	file, sub := filepath.Join(dir, HiddenFile), filepath.Join(dir, HiddenDir)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Mkdir(sub, 0); err != nil {
		return err
	}
	for _, path := range []string{file, sub} {
		if err := os.Chmod(path, 0); err != nil {
			return err
		}
	}
	return seal(dir, dir)
}

// CheckFUSE says why this process cannot open the host's FUSE device: nil if it can.
func CheckFUSE() error {
	fd, err := unix.Open(FUSEDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return &Error{"open", FUSEDevice, err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &Error{"stat", FUSEDevice, err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return &Error{"open", FUSEDevice, fmt.Errorf("it is no device: %w", unix.ENODEV)}
	}
	return nil
}
