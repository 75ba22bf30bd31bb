// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// keepsBirth are the file systems whose time of making (STATX_BTIME, statx(2)) is that of this machine's clock at the making of the
// very directory, and which nothing sets. Elsewhere it is a server's (NFS), can be set (CIFS, NTFS), or is that of a copy which
// the first write makes (overlayfs).
var keepsBirth = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC,
	unix.BCACHEFS_SUPER_MAGIC, 0x2fc12fc1, // the last is ZFS
}

// isOlder tells whether a file is older than the run. What cannot be told is; what is missing is not.
func (w *worker) isOlder(file string) bool {
	fd, err := w.openInRun(file)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false
	}
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return w.isOlderFile(fd)
}

// isDated tells whether a file lies on a file system of keepsBirth.
func isDated(fd int) bool {
	var system unix.Statfs_t
	return unix.Fstatfs(fd, &system) == nil && slices.Contains(keepsBirth, system.Type)
}

func (w *worker) isOlderFile(fd int) bool {
	if !isDated(fd) {
		return true
	}
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return true
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).Before(w.config.Began)
}

// pathOf is a path as a thread names it: by the directory that it begins at.
type pathOf struct {
	tid   uint32
	dirfd int32
	path  string
}

// bringsOlder tells whether a rename gives a name whose own age counts, such as .git, to a file that is older than the run. Such a name was
// not there when the run began, and the file would not be the run's own.
func (w *worker) bringsOlder(in *intent, target func() string) bool {
	if in.moves == nil || w.config.Protect == nil {
		return false
	}
	if at := target(); !slices.Contains(w.config.Protect(in.action, at), at) {
		return false
	}
	file, err := w.usher.open(in.moves.tid, in.moves.dirfd, in.moves.path, false)
	if err != nil {
		return false // the kernel says why
	}
	defer unix.Close(file)
	return w.isOlderFile(file)
}
