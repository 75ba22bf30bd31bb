// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mountedFile is a file as one mount shows it (STATX_MNT_ID, Linux 5.8).
type mountedFile struct{ mount, inode uint64 }

func mountedAt(fd int) (mountedFile, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID|unix.STATX_INO, &st)
	return mountedFile{st.Mnt_id, st.Ino}, err
}

// moved is a mount of Config.Places that is not at its path any more: "" if all are. A path that leads to it through a link is not its own.
func (w *worker) moved() string {
	for i, path := range w.config.Places {
		at, err := w.usher.mounted([]string{path})
		if err != nil || at[0].mount != w.places[i].mount {
			return path
		}
	}
	return ""
}

// mounted looks files of the run up by their paths there, on whose way are no links.
func (u *usher) mounted(paths []string) (files []mountedFile, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	for _, path := range paths {
		fd, err := unix.Openat2(int(u.root.Fd()), path, &how)
		if err != nil {
			return nil, fmt.Errorf("seccomp: %s in the run: %w", path, err)
		}
		file, err := mountedAt(fd)
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("seccomp: %s in the run: %w", path, err)
		}
		files = append(files, file)
	}
	return files, nil
}
