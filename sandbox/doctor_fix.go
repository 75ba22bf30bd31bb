// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The fixes. Which one a host needs is told by its settings and by how the kernel refused; docs/doctor.md says more of each.
const (
	fixDocker = "start the container with\n" +
		"--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined --device /dev/fuse"
	fixKubernetes = "in the pod: hostUsers: false, and a device plugin for /dev/fuse; in the container's securityContext:\n" +
		"procMount: Unmasked\nseccompProfile: {type: Unconfined}\nappArmorProfile: {type: Unconfined}"
	fixOutside = "an outer sandbox refuses it: start agentjail outside of it"
	fixSetting = "sudo sysctl -w %s   # and in /etc/sysctl.d/, to keep it"
	fixAbsent  = "sudo modprobe fuse   # CONFIG_FUSE_FS"
)

// fixAppArmor is for Ubuntu 23.10 and later, where only programs with a profile may have capabilities in user namespaces.
func fixAppArmor(program string) string {
	return fmt.Sprintf(`give agentjail the right to user namespaces, which Ubuntu takes from programs without a profile:
printf '%%s\n' 'abi <abi/4.0>,' 'include <tunables/global>' 'profile agentjail %s flags=(unconfined) { userns, }' | sudo tee /etc/apparmor.d/agentjail
sudo apparmor_parser -r /etc/apparmor.d/agentjail
or, for every program: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, program)
}

// inContainer is the fix of a container's engine, or else the general one.
func (f doctorFacts) inContainer() string {
	switch f.Container {
	case "":
		return fixOutside
	case "kubernetes":
		return fixKubernetes
	case "docker", "podman":
		return fixDocker
	}
	return fmt.Sprintf("let the container (%s) have user namespaces, /proc without masks and /dev/fuse", f.Container)
}

// fixUser is for a user namespace that could not be made.
func fixUser(f doctorFacts, t trial) string {
	switch {
	case f.Settings["user.max_user_namespaces"] == "0" || t.Errno == unix.ENOSPC:
		return fmt.Sprintf(fixSetting, "user.max_user_namespaces=15000")
	case t.Errno == unix.EUSERS:
		return "more than 32 user namespaces are nested: start agentjail outside of the other sandboxes"
	case f.Settings["kernel.unprivileged_userns_clone"] == "0" && f.UID != 0:
		return fmt.Sprintf(fixSetting, "kernel.unprivileged_userns_clone=1")
	case t.Errno == unix.EINVAL:
		return "boot a kernel with CONFIG_USER_NS=y"
	case t.Errno == unix.ENOENT: // the doctor starts itself as a run does, from /proc/self/exe
		return "sudo mount -t proc proc /proc"
	}
	return fixPrivilege(f, t)
}

// fixPrivilege is for what the root of a user namespace may do and was refused.
func fixPrivilege(f doctorFacts, t trial) string {
	switch {
	case f.restricted() && t.refusedBy():
		return fixAppArmor(f.Program)
	case t.Fix != "" && !t.refusedBy():
		return t.Fix
	case t.Errno == unix.ENOSYS:
		return "boot Linux 5.13 or later; in a container, " + f.inContainer()
	}
	return f.inContainer()
}

// restricted tells whether AppArmor takes capabilities from user namespaces of programs that have no profile.
func (f doctorFacts) restricted() bool {
	return f.Settings["kernel.apparmor_restrict_unprivileged_userns"] == "1" && f.UID != 0
}

func fixFuse(f doctorFacts, t trial) string {
	switch {
	case t.Fix != "":
		return t.Fix
	case t.Errno == unix.ENOENT && f.Container != "":
		return f.inContainer()
	case t.Errno == unix.ENOENT || t.Errno == unix.ENODEV || t.Errno == unix.ENXIO:
		return fixAbsent
	case t.Errno == unix.EACCES && f.FuseMode != "" && f.FuseMode != "0666":
		return "start runs with sudo, which opens it for them, or open it to everybody:\nsudo chmod 0666 /dev/fuse\n" +
			`echo 'KERNEL=="fuse", MODE="0666"' | sudo tee /etc/udev/rules.d/99-fuse.rules   # to keep it`
	}
	return fixPrivilege(f, t)
}

// fixProc: the kernel mounts a new /proc only where nothing of the one that is there is covered (mount_too_revealing,
// fs/namespace.c), and containers cover parts of theirs.
func fixProc(f doctorFacts, t trial) string {
	if f.Container == "" && t.refusedBy() && !f.restricted() {
		return "something is mounted below /proc, so that a user namespace may have no /proc of its own; see\n" +
			"grep ' /proc/' /proc/self/mountinfo"
	}
	return fixPrivilege(f, t)
}

// fixBound: who owns a user namespace may lower its limits, where /proc/sys is not read-only (namespaces(7)).
func fixBound(f doctorFacts, t trial) string {
	if t.Errno == unix.EROFS && f.Container == "" {
		return "/proc/sys is mounted read-only; see\ngrep ' /proc/sys' /proc/self/mountinfo"
	}
	return f.inContainer()
}

func fixFilter(f doctorFacts, t trial) string {
	switch t.Errno {
	case unix.EBUSY:
		return "another supervisor listens to this process already: start agentjail outside of that sandbox"
	case unix.EINVAL, unix.ENOSYS:
		return "boot Linux 5.13 or later with CONFIG_SECCOMP_FILTER=y; in a container, " + f.inContainer()
	}
	return f.inContainer()
}

func fixLandlock(f doctorFacts, t trial) string {
	if t.Errno == unix.EOPNOTSUPP {
		return "Landlock is off: boot with lsm=landlock," + f.Settings["lsm"]
	}
	if t.Errno == unix.ENOSYS && f.Container == "" {
		return "boot Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK=y"
	}
	return f.inContainer()
}
