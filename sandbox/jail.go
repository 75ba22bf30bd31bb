// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// maskedProc are the files of /proc that tell of the machine or act on it; runc masks the same (runtime-spec, maskedPaths).
var maskedProc = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/proc/sysrq-trigger",
}

// maskedFromRoot are files of /proc that the kernel shows to root alone, by their mode: the state of every page of memory, and what
// the kernel has where. A run of root's owns them as the host's root does; nobody else can open them.
var maskedFromRoot = []string{
	"/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/pagetypeinfo", "/proc/slabinfo", "/proc/vmallocinfo",
}

// masked are the files of /proc that a run does not see.
func masked(plan Plan) []string {
	if plan.Identity.UID != 0 {
		return maskedProc // each mask costs a start a mount
	}
	return slices.Concat(maskedProc, maskedFromRoot)
}

// readonlyProc are the parts of /proc through which root could change the machine.
var readonlyProc = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}

// stageCapability is the one capability that pid 1 holds, in the run's outer user namespace: mapping id 0 of that namespace
// into the command's own needs it (user_namespaces(7), since Linux 5.12). The command has none.
const stageCapability = "CAP_SETFCAP"

// jailConfig is libcontainer's part of a run: the namespaces, /proc, the pivot and the empty capability sets. The root is
// almost finished when libcontainer gets it, since each mount in its own configuration costs milliseconds.
func jailConfig(run, root, netns string, mask []string) *configs.Config {
	caps := []string{stageCapability}
	return &configs.Config{
		Rootfs: root, RootPropagation: unix.MS_REC | unix.MS_PRIVATE, ParentDeathSignal: int(unix.SIGKILL),
		Hostname: hostnameInside, NoNewPrivileges: true, NoNewKeyring: false, RootlessEUID: true, RootlessCgroups: true,
		Namespaces: configs.Namespaces{
			{Type: configs.NEWUSER}, {Type: configs.NEWNS}, {Type: configs.NEWPID}, {Type: configs.NEWIPC},
			{Type: configs.NEWUTS}, {Type: configs.NEWCGROUP}, {Type: configs.NEWNET, Path: netns},
		},
		UIDMappings:  []configs.IDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GIDMappings:  []configs.IDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		Capabilities: &configs.Capabilities{Bounding: caps, Effective: caps, Permitted: caps},
		Mounts: []*configs.Mount{
			{Device: "proc", Source: "proc", Destination: "/proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
			// /dev is finished. libcontainer leaves it alone where its configuration binds one.
			{Device: "bind", Source: filepath.Join(root, "dev"), Destination: "/dev", Flags: unix.MS_BIND | unix.MS_REC},
		},
		MaskPaths: mask, ReadonlyPaths: readonlyProc,
		// None is made, see buildTree; the name is the run's own, since libcontainer refuses one that is in use.
		Cgroups: &cgroups.Cgroup{Name: run, Resources: &cgroups.Resources{SkipDevices: true}, Rootless: true},
	}
}

// hostnameInside is the machine's name inside: the host's own is nobody's business there.
const hostnameInside = "agentjail"
