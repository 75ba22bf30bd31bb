// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/ask"
	"github.com/agentjail/agentjail/internal/audit"
)

// Questions to the world may hang: a path on a network file system that is gone; a thread that is replacing its program. And
// while the kernel waits for an answer even SIGKILL does not end the caller. So each question has a time, and those that
// hang are bounded in number, so that the workers that are left always can answer.
const (
	hostSlots = 16
	hostWait  = 5 * time.Second
	callSlots = 16
	callWait  = 500 * time.Millisecond
)

// host looks at the real host, and at the threads that ask.
type host struct {
	lstat  func(string) (fs.FileMode, error)
	caller func(int) audit.Process
	callOf func(int) (Call, bool)
	dirOf  func(tid, dirfd int) (string, error)
	stats  ask.Slots
	calls  ask.Slots
}

func newHost(c *Config) *host {
	h := &host{
		lstat:  c.HostLstat,
		caller: c.Caller,
		callOf: c.CallOf,
		dirOf:  readDir,
		stats:  make(ask.Slots, hostSlots),
		calls:  make(ask.Slots, callSlots),
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
func (h *host) kind(path string, interrupt <-chan struct{}) HostKind {
	kind, ok := ask.Within(h.stats, hostWait, interrupt, func() HostKind { return kindOf(h.lstat(path)) })
	if !ok {
		return HostUnknown
	}
	return kind
}

// HostKindOf is the kind of a path by what lstat(2) says of it.
func HostKindOf(info fs.FileInfo, err error) HostKind {
	if err != nil {
		return kindOf(0, err)
	}
	return kindOf(info.Mode(), nil)
}

func kindOf(mode fs.FileMode, err error) HostKind {
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
	if tid == 0 {
		return Call{}
	}
	call, _ := ask.Within(h.calls, callWait, nil, func() Call {
		if c, ok := h.callOf(int(tid)); ok {
			return c
		}
		return Call{}
	})
	return call
}

// process describes a thread's process.
func (h *host) process(tid uint32) audit.Process {
	if tid == 0 {
		return audit.Process{} // the kernel itself
	}
	return h.caller(int(tid))
}

// readCall tells which system call a thread is blocked in. One that is running is looked at again for a while: it has made its request
// and is about to wait for the answer, but whoever was woken by the request has its processor first.
func readCall(tid int) (Call, bool) {
	for pause := 50 * time.Microsecond; ; pause *= 2 {
		line, err := readSyscall(tid)
		if err != nil {
			return Call{}, false
		}
		if string(line) != "running\n" || pause > lastPause {
			return ParseCall(line)
		}
		time.Sleep(pause)
	}
}

// lastPause is the longest pause between two looks, and half of all of them.
const lastPause = 50 * time.Millisecond

// readSyscall reads /proc/TID/syscall. Reading it takes PTRACE_MODE_ATTACH_FSCREDS, ptrace(2), which the owner of the run's user
// namespace has.
func readSyscall(tid int) ([]byte, error) {
	// Not os.ReadFile: that offers each file to the poller first.
	fd, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/syscall", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, maxSyscallLine)
	n, err := unix.Read(fd, buf)
	return buf[:max(0, n)], err
}

// startsAt tells whether a directory of a thread is the one at a path. Its name begins at the root of the thread's mount
// namespace, which the jail's root may lie below.
func (h *host) startsAt(tid uint32, dirfd int, path string) bool {
	name, err := h.dirOf(int(tid), dirfd)
	return err == nil && strings.HasSuffix(strings.TrimSuffix(name, " (deleted)"), path)
}

// readDir reads a link of /proc/TID, which asks the file system for nothing.
func readDir(tid, dirfd int) (string, error) {
	link := "/proc/" + strconv.Itoa(tid) + "/cwd"
	if dirfd != unix.AT_FDCWD {
		link = "/proc/" + strconv.Itoa(tid) + "/fd/" + strconv.Itoa(dirfd)
	}
	return os.Readlink(link)
}

// ThreadOf returns a function for Config.Ignore that knows the threads of one process.
func ThreadOf(pid int) func(tid int) bool {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	return func(tid int) bool {
		return tid == pid || unix.Access(tasks+strconv.Itoa(tid), unix.F_OK) == nil
	}
}
