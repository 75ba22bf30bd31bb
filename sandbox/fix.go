// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// fixFor says what a user can do about a layer that could not be built; `agentjail doctor` says more.
func fixFor(layer string, err error) string {
	for errno, fix := range resourceFixes {
		if errors.Is(err, errno) {
			return fix
		}
	}
	var known interface{ Fix() string }
	if errors.As(err, &known) {
		return known.Fix()
	}
	switch layer {
	case "user namespace":
		return userNamespaceFix()
	case "file system root":
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "load the fuse module, or pass --device /dev/fuse to the container"
		case errors.Is(err, unix.EACCES):
			return "open it to its users: chmod 0666 /dev/fuse; or start agentjail with sudo"
		}
		return "a container needs --device /dev/fuse; agentjail doctor says more"
	case "log":
		var file *audit.FileError
		if errors.As(err, &file) && file.Copy {
			return "make room, or name another file with --log"
		}
		var sink *audit.SinkError
		switch {
		case !errors.As(err, &sink):
		case errors.Is(err, unix.ENOSPC):
			return "make room there, or leave it out"
		default:
			return "see to it that somebody reads there, or leave it out"
		}
		return "make room or choose another place with XDG_STATE_HOME"
	default:
		return "agentjail doctor says what this host can do"
	}
}

// resourceFixes are for the limits of the process that agentjail was started in (getrlimit(2)), which any layer can meet.
var resourceFixes = map[unix.Errno]string{
	unix.EMFILE: "allow more open files: ulimit -n 1024",
	unix.EAGAIN: "allow more processes: ulimit -u 1024, or a larger limit of the group that agentjail was started in",
	unix.EFBIG:  "allow larger files: ulimit -f unlimited",
}

func userNamespaceFix() string {
	for _, k := range []struct{ path, off, fix string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for agentjail"},
	} {
		if data, err := os.ReadFile(k.path); err == nil && strings.TrimSpace(string(data)) == k.off {
			return k.fix
		}
	}
	return "user namespaces must be allowed here; agentjail doctor says what this host can do"
}
