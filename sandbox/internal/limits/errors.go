// SPDX-License-Identifier: Apache-2.0

package limits

import "fmt"

// UnavailableError says that the limits that were asked for cannot be set on this host by this user.
type UnavailableError struct {
	What string // the part that failed, such as "cgroup v2: controller memory"
	Err  error
	fix  string
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }

func (e *UnavailableError) Unwrap() error { return e.Err }

// Fix is what the user can do about it.
func (e *UnavailableError) Fix() string { return e.fix }

// The fixes, by what is missing.
const (
	fixMount = "mount cgroups at /sys/fs/cgroup; in a container, put the limits on the container (docker run --memory --pids-limit --cpus)"
	fixV1    = "cgroup v1 lets only root set limits: run as root, boot with systemd.unified_cgroup_hierarchy=1, or leave --memory, --pids and --cpus out"
	fixV2    = "in a container, put the limits on the container (docker run --memory --pids-limit --cpus); elsewhere run from a login session, so that systemd's user manager can make the group (loginctl enable-linger starts one)"
	fixHand  = "let systemd hand the controllers to users: Delegate=cpu memory pids in /etc/systemd/system/user@.service.d/delegate.conf, then systemctl daemon-reload and log in again"
	fixRoot  = "journalctl -b _PID=1 says why systemd refuses the scope; leave --memory, --pids and --cpus out, or put the limits on agentjail itself (systemd-run --scope -p MemoryMax=...)"
	fixQuota = "ask for no more than the group that agentjail was started in has itself: the kernel does not take this value"
)

// fixScope is what to do about a scope that systemd refuses to a user.
func fixScope(uid int) string {
	if uid == 0 {
		return fixRoot
	}
	return fixHand
}
