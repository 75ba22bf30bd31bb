// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"time"

	"golang.org/x/sys/unix"
)

// mark is a time before which nothing of the run happened, by the clock that gives files their times.
type mark struct {
	real time.Time     // of CLOCK_REALTIME_COARSE, which the kernel's file systems use (current_time() in fs/inode.c)
	boot time.Duration // of CLOCK_BOOTTIME, which nobody sets
}

func now() (mark, error) {
	var real, boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &real); err != nil {
		return mark{}, err
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return mark{}, err
	}
	return mark{time.Unix(real.Sec, real.Nsec), time.Duration(boot.Nano())}, nil
}

// slack is more than two readings of the clocks lie apart, and more than adjtime(3) slows a clock while a run takes a day.
const slack = 50 * time.Millisecond

// since is the earliest time of what a run changed that began at m: earlier than m where the clock was set back meanwhile. Of a
// clock that was set back and forth nothing is seen here; the command cannot set it.
func (m mark) since(end mark) time.Time {
	back := (end.boot - m.boot) - end.real.Sub(m.real)
	if back < slack {
		back = 0
	}
	// Some file systems keep 100 ns or a microsecond.
	return m.real.Add(-back).Truncate(time.Microsecond)
}

// changed tells whether a file was changed at a time or after it. A time without a fraction may be of a file system that keeps none
// (ext4 with inodes of 128 bytes), and counts by its second.
func changed(ctime unix.StatxTimestamp, since time.Time) bool {
	if ctime.Nsec == 0 {
		return ctime.Sec >= since.Unix()
	}
	return !time.Unix(ctime.Sec, int64(ctime.Nsec)).Before(since)
}

// reliable are the types of file systems whose inodes get a change time of this kernel's clock with every change, also with one
// through a shared mapping (page_mkwrite calls file_update_time). Of tmpfs this is not so: of a page that was read first, the first
// write through the mapping leaves no time. What else changes content without one, the seccomp filter refuses: EXT4_IOC_MOVE_EXT and
// XFS_IOC_SWAPEXT. F2FS has more of the kind.
var reliable = map[int64]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true,
}
