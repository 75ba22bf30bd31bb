// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// KillSignal asks a run's launcher to kill the command and to write the end of the log, where SIGTERM asks the command to end. No
// terminal, shell or service manager sends a real-time signal of this number of its own accord (signal(7); the C library takes 32 and
// 33, nptl(7), and systemd those from SIGRTMIN to SIGRTMIN+29, systemd(1)). A program that does not know it ends by it.
const KillSignal = unix.Signal(64)

// Reasons for which there is no Launcher of a run; errors.Is finds them.
var (
	ErrNotLive   = errors.New("the run is not live: it has ended, or its launcher was killed")
	ErrElsewhere = errors.New("the run was started in another pid namespace, such as that of a container: ask for it there")
)

// Launcher is the process that a live run ends with: the one that called Start. It is held by a descriptor, so that no signal
// can reach another process that got its number later.
type Launcher struct {
	PID int
	fd  int // of pidfd_open(2)
}

// FindLauncher finds the launcher of a run below a state directory. What the run's mark says of it is believed only where the
// process started when the mark says, belongs to whom the mark belongs to, and the run's log is being written: the number may be
// another process's by now, and the owner of the state directory, who may be less than the caller, can write anything there.
// The error is ErrNotLive, ErrElsewhere or the system's.
func FindLauncher(state, id string) (*Launcher, error) {
	noted, owner, err := readMark(filepath.Join(state, "live", id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotLive
	}
	if err != nil {
		return nil, err
	}
	here, err := pidNamespace()
	if err != nil {
		return nil, err
	}
	log := filepath.Join(state, "runs", id, "events.jsonl")
	if noted.namespace != here && beingWritten(log) {
		return nil, ErrElsewhere
	}
	if noted.namespace != here {
		return nil, ErrNotLive
	}
	fd, err := unix.PidfdOpen(noted.pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, ErrNotLive
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	l := &Launcher{PID: noted.pid, fd: fd}
	found, uid, err := describe(noted.pid)
	// The process has not ended before it was described, or the description could be of its successor.
	if err != nil || found != noted.process || uid != owner || !beingWritten(log) || l.Wait(0) {
		l.Close()
		return nil, ErrNotLive
	}
	return l, nil
}

// Signal sends a signal to the launcher.
func (l *Launcher) Signal(sig unix.Signal) error {
	if err := unix.PidfdSendSignal(l.fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("pidfd_send_signal: %w", err)
	}
	return nil
}

// Wait waits for the launcher's end, and tells whether that has come in time.
func (l *Launcher) Wait(most time.Duration) bool { return ended(l.fd, most) }

// ended waits for the end of a process that is held by a descriptor, and tells whether that has come in time.
func ended(pidfd int, most time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(most); ; {
		left := max(0, time.Until(end))
		n, err := unix.Ppoll(fds, &unix.Timespec{Sec: int64(left / time.Second), Nsec: int64(left % time.Second)}, nil)
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// Close lets go of the process.
func (l *Launcher) Close() error { return unix.Close(l.fd) }

// process tells a process from every other of the same machine since it was booted.
type process struct {
	pid   int
	start uint64 // clock ticks since boot, see proc_pid_stat(5)
}

// noted is what a mark says of a run's launcher.
type noted struct {
	namespace string // of its pid
	process
}

// String is the content of a mark.
func (n noted) String() string { return fmt.Sprintf("%s %d %d\n", n.namespace, n.pid, n.start) }

// self is what this process puts into a mark.
func self() (noted, error) {
	namespace, err := pidNamespace()
	if err != nil {
		return noted{}, err
	}
	p, _, err := describe(os.Getpid())
	return noted{namespace, p}, err
}

func pidNamespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

// maxMark bounds what is read of a mark.
const maxMark = 128

// readMark reads a mark and tells whose it is. A mark without a process is one of an earlier version, or is being made.
func readMark(path string) (n noted, owner uint32, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return n, 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return n, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return n, 0, ErrNotLive
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMark))
	if err != nil {
		return n, 0, err
	}
	if _, err := fmt.Sscan(string(data), &n.namespace, &n.pid, &n.start); err != nil || n.pid <= 0 || n.String() != string(data) {
		return n, 0, ErrNotLive
	}
	return n, st.Uid, nil
}

// describe reads when a process started and whose it is (proc_pid_stat(5), field 22; proc_pid_status(5), the real uid).
func describe(pid int) (process, uint32, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return process{}, 0, err
	}
	// The second field is the name, in parentheses, and may hold any bytes.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return process{}, 0, fmt.Errorf("%sstat has no field 22", dir)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, 0, err
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return process{}, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			var uid uint32
			_, err := fmt.Sscan(ids, &uid)
			return process{pid, start}, uid, err
		}
	}
	return process{}, 0, fmt.Errorf("%sstatus names no uid", dir)
}

func beingWritten(log string) bool {
	f, err := os.OpenFile(log, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return audit.Writing(f)
}
