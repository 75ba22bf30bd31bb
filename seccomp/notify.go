// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif (seccomp_unotify(2)).
type notification struct {
	ID    uint64
	PID   uint32 // the thread, as the listener's reader sees it
	Flags uint32
	NR    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// The requests of a listener (linux/seccomp.h). The sizes in them are those of the structures above.
const (
	ioctlRecv     = 0xc0502100
	ioctlSend     = 0xc0182101
	ioctlIDValid  = 0x40082102
	ioctlSetFlags = 0x40082104

	flagContinue   = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5
	flagSyncWakeUp = 1 // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
)

func ioctl(fd int, request uintptr, p unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// receive waits for a notification. ENOENT is one whose caller is gone.
func receive(fd int, n *notification) error {
	*n = notification{} // the kernel wants zeroes
	return ioctl(fd, ioctlRecv, unsafe.Pointer(n))
}

// valid tells whether the caller still waits: what was read of it before was its own.
func valid(fd int, id uint64) bool { return ioctl(fd, ioctlIDValid, unsafe.Pointer(&id)) == nil }

// carryOn lets the kernel carry the call out.
func carryOn(fd int, id uint64) error {
	return ioctl(fd, ioctlSend, unsafe.Pointer(&response{ID: id, Flags: flagContinue}))
}

// answer ends the call with an errno, or with 0.
func answer(fd int, id uint64, errno unix.Errno) error {
	return ioctl(fd, ioctlSend, unsafe.Pointer(&response{ID: id, Error: -int32(errno)}))
}

// wakeUpHere has the kernel wake caller and supervisor on the same processor. Where it cannot, answers take longer.
func wakeUpHere(fd int) {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlSetFlags, flagSyncWakeUp)
}

// waitReadable waits for a notification, for the end of the last caller, or for the end of stop.
func waitReadable(fd, stop int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		if fds[1].Revents != 0 || fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return false, nil
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			return true, nil
		}
	}
}
