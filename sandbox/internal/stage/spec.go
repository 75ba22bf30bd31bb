// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"math"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Spec says what to start and how. The zero Spec is refused.
type Spec struct {
	Argv []string // Argv[0] is looked up along the PATH of Env, as execvp(3) does
	Env  []string
	Dir  string // absolute

	UID, GID int // what the command sees; id 0 of the stage's user namespace outside of it
	Umask    int
	Slack    int // of the command's timers, in nanoseconds (PR_SET_TIMERSLACK, prctl(2)); 0: that of the stage

	// Terminal: the first of the files 0, 1 and 2 that is a terminal becomes the controlling one. Foreground: with the
	// command in its foreground. In the background a command that reads the terminal, or sets its mode, is stopped by
	// SIGTTIN or SIGTTOU: see Continue.
	Terminal, Foreground bool

	// Again are the paths of files among 0, 1 and 2 that are opened anew, for reading and at the same offset: their mount becomes
	// that of the run. An empty path leaves the file as it is.
	Again [3]string

	Filter   []SockFilter
	Landlock Landlock
	Rlimits  []Rlimit
}

// SockFilter is one instruction of a classic BPF program, laid out as the kernel's struct sock_filter.
type SockFilter struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Landlock says what the second layer lets the command write to.
type Landlock struct {
	// Write are files, and directories with everything below them. Each has to exist.
	Write []string
}

// NoCore is the RLIMIT_CORE, in bytes, with which a process leaves no core: too little for a file, and the one number that also keeps
// the kernel from starting the program of a core_pattern that begins with "|" (core(5)). At 0 it would.
const NoCore = 1

// Rlimit is one limit, setrlimit(2). RLIMIT_CORE is always NoCore, whatever a Spec says, or 0 where no more is allowed. Where a Spec does not name
// RLIMIT_NOFILE its soft limit becomes the kernel's default: the Go runtime raised it for agentjail's own processes.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// Bounds of a Spec. The kernel itself takes 6 MiB of arguments and environment (execve(2), 3/4 of an 8 MiB stack), in
// strings of at most 128 KiB, and 4096 instructions a filter (BPF_MAXINSNS).
const (
	maxStrings = 1 << 17
	maxString  = 128 << 10
	maxFilter  = 4096
	maxWrite   = 1 << 14
	maxRlimits = 32
)

// Validate checks what can be checked without a system call.
func (s *Spec) Validate() error {
	for _, c := range []struct {
		bad    bool
		detail string
	}{
		{len(s.Argv) == 0 || s.Argv[0] == "", "no command"},
		{!validStrings(s.Argv, maxStrings), "an argument with a NUL byte, or too many or too long ones"},
		{!validStrings(s.Env, maxStrings), "an environment variable with a NUL byte, or too many or too long ones"},
		{!validAgain(s.Again), "a standard file whose path is not absolute"},
		{!validPath(s.Dir), "the directory is not an absolute path"},
		{!validID(s.UID) || !validID(s.GID), "a user or group id out of range"},
		{s.Umask < 0 || s.Umask > 0o777, "a umask out of range"},
		{s.Slack < 0, "a timer slack out of range"},
		{len(s.Filter) == 0, "no filter"},
		{len(s.Filter) > maxFilter, "a filter that is longer than the kernel takes"},
		{!validStrings(s.Landlock.Write, maxWrite) || !validPaths(s.Landlock.Write), "a writable path that is not absolute"},
		{!validRlimits(s.Rlimits), "an unknown resource limit"},
	} {
		if c.bad {
			return &Error{Step: StepSpec, Detail: c.detail}
		}
	}
	return nil
}

func validStrings(list []string, most int) bool {
	for _, s := range list {
		if len(s) >= maxString || strings.IndexByte(s, 0) >= 0 {
			return false
		}
	}
	return len(list) <= most
}

func validPath(p string) bool {
	return filepath.IsAbs(p) && len(p) < unix.PathMax && strings.IndexByte(p, 0) < 0
}

func validPaths(list []string) bool {
	for _, p := range list {
		if !validPath(p) {
			return false
		}
	}
	return true
}

func validAgain(paths [3]string) bool {
	for _, p := range paths {
		if p != "" && !validPath(p) {
			return false
		}
	}
	return true
}

// validID excludes (uid_t)-1, which means "no change" to setresuid(2).
func validID(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }

func validRlimits(list []Rlimit) bool {
	for _, r := range list {
		if r.Resource < 0 || r.Resource > unix.RLIMIT_RTTIME || r.Soft > r.Hard {
			return false
		}
	}
	return len(list) <= maxRlimits
}
