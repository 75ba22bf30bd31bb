// SPDX-License-Identifier: Apache-2.0

// Package caller describes the process behind a thread of the host, for events. What it reads was written by the process
// itself in part (its argv) and is bounded; a process that is gone, or may not be read, is described by what is known.
//
// Its argv is its memory, which may be a mapped file of a file system that does not answer: reading it may hang for ever, and no
// signal ends who waits for it. Such a read has a time, and few of them run at once; the rest is the kernel's, and never hangs.
package caller

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/ask"
	"github.com/agentjail/agentjail/internal/audit"
)

// Bounds of what one process can put into an event: a little more than the log holds, so that it can say what was cut. A byte
// follows each argument.
const (
	maxArgs  = audit.MaxArgs + 1
	maxBytes = audit.MaxArgv + maxArgs
)

// headSize is more than what stands in a status up to PPid: the name, escaped, is the longest of it.
const headSize = 512

const (
	maxReads = 16                     // of arguments, at once
	readWait = 500 * time.Millisecond // for one of them: whoever asks has its caller wait as well
)

var reads = make(ask.Slots, maxReads)

// Of describes the process that thread tid belongs to (proc_pid_status(5), proc_pid_cmdline(5), proc_pid_exe(5)).
func Of(tid int) audit.Process {
	return of("/proc/"+strconv.Itoa(tid)+"/", tid)
}

func of(dir string, tid int) audit.Process {
	p := audit.Process{PID: tid}
	var head [headSize]byte
	for line := range strings.Lines(string(read(dir+"status", head[:]))) {
		if v, ok := strings.CutPrefix(line, "Tgid:"); ok {
			p.PID = number(v, tid)
		} else if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			p.PPID = number(v, 0)
			break
		}
	}
	var err error
	p.Exe, err = os.Readlink(dir + "exe")
	p.Ended = errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) // it has no memory any more
	data, ok := ask.Within(reads, readWait, nil, func() []byte { return read(dir+"cmdline", make([]byte, maxBytes)) })
	p.Argv, p.Unread = argv(data), !ok
	return p
}

// argv splits a command line at its NUL bytes.
func argv(data []byte) []string {
	data = bytes.TrimSuffix(data, []byte{0})
	if len(data) == 0 {
		return nil
	}
	words := strings.Split(string(data), "\x00")
	return words[:min(len(words), maxArgs)]
}

// read returns the first bytes of a file of /proc, as many as the buffer takes.
func read(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func number(s string, otherwise int) int {
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
		return n
	}
	return otherwise
}
