// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Step says what the stage was doing. The numbers travel between the processes of one binary only.
type Step uint32

// The steps, in their order. Those from StepFiles to StepExec are done by the command's own process.
const (
	StepStart    Step = iota + 1 // is this pid 1 with a socket
	StepSpec                     // receive and check the Spec
	StepSession                  // become the leader of a session
	StepTerminal                 // take the terminal, give it to the command
	StepRuleset                  // landlock_create_ruleset
	StepGrant                    // landlock_add_rule
	StepClone                    // clone(CLONE_NEWUSER)
	StepFiles                    // close everything but 0, 1 and 2
	StepMaps                     // write uid_map, setgroups and gid_map
	StepIdentity                 // setresgid, setresuid
	StepCaps                     // empty every capability set
	StepParent                   // PR_SET_PDEATHSIG
	StepLimits                   // prlimit
	StepPrivs                    // PR_SET_NO_NEW_PRIVS
	StepDir                      // chdir
	StepLandlock                 // landlock_restrict_self
	StepSignals                  // the signal mask
	StepFilter                   // seccomp
	StepListener                 // send the listener
	StepExec                     // execve
	StepSelf                     // the stage's own filter
	StepAnswer                   // seen by the supervisor: no answer, or one that makes no sense
	stepEnd
)

var stepNames = [stepEnd]string{
	StepStart:    "start",
	StepSpec:     "spec",
	StepSession:  "setsid",
	StepTerminal: "terminal: TIOCSCTTY",
	StepRuleset:  "landlock: create_ruleset",
	StepGrant:    "landlock: add_rule",
	StepClone:    "user namespace: clone(CLONE_NEWUSER)",
	StepFiles:    "files: close_range",
	StepMaps:     "user namespace: uid_map and gid_map",
	StepIdentity: "identity: setresuid and setresgid",
	StepCaps:     "capabilities: drop",
	StepParent:   "prctl: PR_SET_PDEATHSIG",
	StepLimits:   "prlimit",
	StepPrivs:    "prctl: PR_SET_NO_NEW_PRIVS",
	StepDir:      "chdir",
	StepLandlock: "landlock: restrict_self",
	StepSignals:  "rt_sigprocmask",
	StepFilter:   "seccomp: SECCOMP_SET_MODE_FILTER",
	StepListener: "seccomp: hand over the listener",
	StepExec:     "execve",
	StepSelf:     "seccomp: the stage's own filter",
	StepAnswer:   "answer of the stage",
}

// String names the step as an error message does.
func (s Step) String() string {
	if s == 0 || s >= stepEnd {
		return fmt.Sprintf("step %d", uint32(s))
	}
	return stepNames[s]
}

// Error is the failure of one step. The command was not executed.
type Error struct {
	Step   Step
	Errno  syscall.Errno // 0 where no system call failed
	Detail string        // what it failed on, such as a path; may be empty
}

func (e *Error) Error() string {
	s := e.Step.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Errno != 0 {
		s += fmt.Sprintf(": %v (%s)", e.Errno, unix.ErrnoName(e.Errno))
	}
	return s
}

// Unwrap gives the errno, so that errors.Is(err, fs.ErrNotExist) works.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// ExitCode is the status that the launcher ends with: for a command that could not be executed 127 or 126 as a shell
// would, and 125 for everything else.
func (e *Error) ExitCode() int {
	if e.Step != StepExec {
		return exitRefused
	}
	return execCode(e.Errno)
}

const (
	exitRefused  = 125
	exitCannot   = 126
	exitNotFound = 127
)

// execCode is dash's rule: the errnos that mean "no such file" are 127. It runs after the fork, see clone.go.
//
//go:nosplit
//go:norace
func execCode(errno syscall.Errno) int {
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG:
		return exitNotFound
	}
	return exitCannot
}

// Fix says what the user can do, or is empty.
func (e *Error) Fix() string {
	for _, f := range fixes {
		if f.step == e.Step && (f.errno == 0 || f.errno == e.Errno) {
			return f.text
		}
	}
	return ""
}

const (
	fixLandlock = "boot a kernel with CONFIG_SECURITY_LANDLOCK=y and landlock in lsm=, or let the container's seccomp " +
		"profile allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self"
	fixUserns = "raise user.max_user_namespaces, or let the container's seccomp profile allow clone with CLONE_NEWUSER"
	fixFilter = "boot a kernel with CONFIG_SECCOMP_FILTER=y, or let the container's seccomp profile allow seccomp(2)"
)

// fixes is looked through in order; errno 0 is any.
var fixes = []struct {
	step  Step
	errno syscall.Errno
	text  string
}{
	{StepRuleset, 0, fixLandlock},
	{StepLandlock, unix.E2BIG, "16 Landlock layers are on already: start agentjail outside of the other sandboxes"},
	{StepLandlock, 0, fixLandlock},
	{StepGrant, unix.ENOENT, "the path vanished while the sandbox was built: start again"},
	{StepGrant, 0, fixLandlock},
	{StepClone, unix.ENOSPC, "raise user.max_user_namespaces"},
	{StepClone, unix.EUSERS, "more than 32 user namespaces are nested: start agentjail outside of the other sandboxes"},
	{StepClone, 0, fixUserns},
	{StepMaps, unix.EPERM, "AppArmor or another security module restricts user namespaces: agentjail doctor says which"},
	{StepFilter, unix.EBUSY, "another supervisor listens to this process already: start agentjail outside of that sandbox"},
	{StepFilter, unix.EINVAL, "a kernel older than 5.0, or a bug of agentjail: the filter was not accepted"},
	{StepFilter, 0, fixFilter},
	{StepSelf, 0, fixFilter},
	{StepDir, 0, "start from a directory that the policy grants"},
}
