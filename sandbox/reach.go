// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkReach refuses a plan that shows what the run could not reach. Plans are made with the caller's eyes, and root's see
// more than a run of root's: the capabilities by which root enters the directories of others, and writes there, end at the
// supervisor's user namespace, in which the others do not exist. Under sudo the run is not root's at all.
func checkReach(plan Plan) error {
	return withoutPower(func() error {
		for _, m := range plan.Mounts {
			if m.Kind != Bind || within(plan.State, m.Source) { // what is not there yet, the launcher makes as the user
				continue
			}
			if path := barrier(m.Source, neededAccess(plan, m)); path != "" {
				return unreachable(plan, m, path)
			}
		}
		return nil
	})
}

// neededAccess is what the run must be able to do with the source of a grant, as access(2) has it. An ordinary user knows
// what they cannot write to, with or without a jail; root does not.
func neededAccess(plan Plan, m Mount) uint32 {
	mode := uint32(unix.F_OK)
	if m.Target == plan.Workdir {
		mode |= unix.X_OK
	}
	if m.Writable && plan.Identity.UID == 0 {
		mode |= unix.W_OK
	}
	return mode
}

// withoutPower calls f on a thread without the capabilities that override the permissions of files.
func withoutPower(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return setupError("identity", fmt.Errorf("capget: %w", err))
	}
	less := caps
	less[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&header, &less[0]); err != nil {
		return setupError("identity", fmt.Errorf("capset: %w", err))
	}
	defer unix.Capset(&header, &caps[0])
	return f()
}

// barrier is the file or directory that keeps this thread from a kind of access to a path, "" where nothing does.
func barrier(path string, mode uint32) string {
	// Not the real ids, for which access(2) gives root all capabilities again.
	denied := func(path string, mode uint32) bool {
		return errors.Is(unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS), unix.EACCES)
	}
	if !denied(path, mode) {
		return ""
	}
	above := ""
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if denied(dir, unix.X_OK) {
			above = dir
		}
	}
	if above != "" {
		return above
	}
	return path
}

// unreachable says what keeps a run from a grant, and what its caller can do about it.
func unreachable(plan Plan, m Mount, path string) error {
	e := &SetupError{Layer: "files", Fix: "change its permissions, or name another one"}
	if m.Target == plan.Workdir {
		e.Layer, e.Fix = "working directory", "change its permissions, or change to one that is open to the run"
	}
	owner, name := ownerOf(path)
	switch {
	case plan.Identity.UID != 0:
		e.Err = fmt.Errorf("%q is closed to %s, as whom the command runs", path, plan.Identity.User)
	case owner == 0:
		e.Err = fmt.Errorf("the permissions of %q keep root out, which has no power over them in a run", path)
	default:
		e.Err = fmt.Errorf("%q belongs to %s, and root has no power over the files of others in a run", path, name)
		e.Fix = fmt.Sprintf("run as the owner: sudo -u %s agentjail run ...", name)
		if path == m.Source {
			e.Fix += "; or give it to root: chown -R root " + strconv.Quote(path)
		}
	}
	return e
}

// ownerOf is the owner of a file, by id and as sudo(8) takes it.
func ownerOf(path string) (int, string) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, ""
	}
	uid := strconv.Itoa(int(st.Uid))
	if u, err := user.LookupId(uid); err == nil {
		return int(st.Uid), u.Username
	}
	return int(st.Uid), "'#" + uid + "'"
}
