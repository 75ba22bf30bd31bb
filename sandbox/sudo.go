// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeInvoker turns a process that sudo(8) started into one of the user who called it, for good: what the run makes must
// belong to that user, and nothing that serves the command may keep root's rights. It does nothing anywhere else.
//
// The calls of package syscall change every thread of the process (since Go 1.16), which those of x/sys/unix do not.
func becomeInvoker(id Identity) error {
	if unix.Getuid() != 0 || id.UID == 0 {
		return nil
	}
	if err := syscall.Setgroups(groupsOf(id)); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(id.GID, id.GID, id.GID); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(id.UID, id.UID, id.UID); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	// A process that changed its ids is not dumpable, and its files in /proc belong to root (prctl(2), PR_SET_DUMPABLE):
	// the supervisor's id maps could not be written.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

// groupsOf are the supplementary groups of the user, its own group alone where the user database does not say.
func groupsOf(id Identity) []int {
	groups := []int{id.GID}
	u, err := user.LookupId(strconv.Itoa(id.UID))
	if err != nil {
		return groups
	}
	names, err := u.GroupIds()
	if err != nil {
		return groups
	}
	for _, name := range names {
		if gid, err := strconv.Atoi(name); err == nil && gid != id.GID {
			groups = append(groups, gid)
		}
	}
	return groups
}
