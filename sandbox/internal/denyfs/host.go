// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// Questions to the world that may take long are bounded in number, so that the workers that are left always can
// answer: a path on a network file system that is gone, or a command line that is a mapped file of the home, which
// then is read through this very file system.
const (
	hostSlots   = 16
	hostWait    = time.Second
	callerSlots = 16
	callerWait  = 20 * time.Millisecond
)

// slots bounds how many of something run at once.
type slots chan struct{}

// acquire takes a slot and reports whether it got one in time.
func (s slots) acquire(wait time.Duration) bool {
	select {
	case s <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case s <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (s slots) release() { <-s }

// host looks at the real host, and at the threads that ask.
type host struct {
	lstat     func(string) (fs.FileMode, error)
	caller    func(int) audit.Process
	callOf    func(int) (Call, bool)
	stats     slots
	inquiries slots
}

func newHost(c *Config) *host {
	h := &host{
		lstat:     c.HostLstat,
		caller:    c.Caller,
		callOf:    c.CallOf,
		stats:     make(slots, hostSlots),
		inquiries: make(slots, callerSlots),
	}
	if h.lstat == nil {
		h.lstat = lstat
	}
	if h.caller == nil {
		h.caller = func(tid int) audit.Process { return audit.Process{PID: tid} }
	}
	if h.callOf == nil {
		h.callOf = readCall
	}
	return h
}

func lstat(path string) (fs.FileMode, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

// kind tells what the host has at a path.
func (h *host) kind(path string) HostKind {
	if !h.stats.acquire(hostWait) {
		return HostUnknown
	}
	defer h.stats.release()
	mode, err := h.lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return HostAbsent
	case err != nil:
		return HostUnknown
	case mode.IsDir():
		return HostDir
	}
	return HostFile
}

// call tells which system call a thread is blocked in. It must not be asked for a request that the kernel makes
// while it replaces the thread's program, a flush or release: reading /proc/TID/syscall waits for that to end.
func (h *host) call(tid uint32) Call {
	if tid == 0 || !h.inquiries.acquire(callerWait) {
		return Call{}
	}
	defer h.inquiries.release()
	c, ok := h.callOf(int(tid))
	if !ok {
		return Call{}
	}
	return c
}

// process describes a thread's process.
func (h *host) process(tid uint32) audit.Process {
	if tid == 0 {
		return audit.Process{} // the kernel itself
	}
	if !h.inquiries.acquire(callerWait) {
		return audit.Process{PID: int(tid)}
	}
	defer h.inquiries.release()
	return h.caller(int(tid))
}

// readCall reads /proc/TID/syscall. Reading it takes PTRACE_MODE_ATTACH_FSCREDS, ptrace(2), which the owner of the
// run's user namespace has.
func readCall(tid int) (Call, bool) {
	// Not os.ReadFile: that offers each file to the poller first.
	fd, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/syscall", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Call{}, false
	}
	defer unix.Close(fd)
	var buf [maxSyscallLine]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return Call{}, false
	}
	return ParseCall(buf[:n])
}

// ThreadOf returns a function for Config.Ignore that knows the threads of one process.
func ThreadOf(pid int) func(tid int) bool {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	return func(tid int) bool {
		return tid == pid || unix.Access(tasks+strconv.Itoa(tid), unix.F_OK) == nil
	}
}
