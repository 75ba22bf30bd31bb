// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
)

// forInvoker tells whether root runs the program for another user: the one who called sudo(8).
func forInvoker(id Identity) bool { return unix.Getuid() == 0 && id.UID != 0 }

// invoker is what a process of the user who called sudo keeps of root's.
type invoker struct {
	fuse *os.File // a device node of FUSE, see rootfs.FUSENode; nil: the host's is open to the user
	// closed says that there is no way to FUSE: the host's is closed to the user, and no node could be made. It is a
	// *closedError.
	closed error
}

// closedError says that the user who called sudo may not open FUSE, and why root could not help.
type closedError struct {
	uid    int
	err    error // of the user
	refuse error // of root
}

func (e *closedError) Error() string {
	return fmt.Sprintf("open %s as uid %d: %v (and a device node for that user: %v)", rootfs.FUSEDevice, e.uid, e.err, e.refuse)
}
func (e *closedError) Unwrap() error { return e.err }

// Fix says what the user can do.
func (e *closedError) Fix() string {
	return "chmod 0666 " + rootfs.FUSEDevice + "; or, in a container, let its root make device nodes: CAP_SYS_ADMIN and CAP_MKNOD"
}

// files are those of the invoker that the supervisor needs.
func (i invoker) files() []*os.File {
	if i.fuse == nil {
		return nil
	}
	return []*os.File{i.fuse}
}

// close gives up what is left of root's rights.
func (i invoker) close() {
	if i.fuse != nil {
		i.fuse.Close()
	}
}

// becomeInvoker turns a process that sudo(8) started into one of the user who called it, for good: what the run makes must
// belong to that user, and nothing that serves the command may keep root's rights. It does nothing anywhere else.
func becomeInvoker(id Identity) (invoker, error) {
	if !forInvoker(id) {
		return invoker{}, nil
	}
	node, refused := rootfs.FUSENode(id.UID)
	if err := dropRoot(id); err != nil {
		return invoker{}, err
	}
	// The kernel says to whom the host's device is open, now that this is the user.
	err := unix.Access(rootfs.FUSEDevice, unix.R_OK|unix.W_OK)
	switch {
	case !errors.Is(err, unix.EACCES): // it is open, or something else is wrong with it, which the supervisor will say
		if node != nil {
			node.Close()
		}
		return invoker{}, nil
	case refused != nil:
		return invoker{closed: &closedError{id.UID, err, refused}}, nil
	}
	return invoker{fuse: node}, nil
}

// dropRoot changes the ids of the process. The calls of package syscall change every thread of it (since Go 1.16), which
// those of x/sys/unix do not.
func dropRoot(id Identity) error {
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
