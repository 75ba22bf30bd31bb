// SPDX-License-Identifier: Apache-2.0

package selftest

import "golang.org/x/sys/unix"

// A try is one row of the table. It is identified by the check that it is of (areas A: posture, B: files, D: /proc, /sys and /dev,
// E: privileges, F: system calls, G: how the filter reads arguments, H: network, L: sockets of the host) and a word.
type try struct {
	id, what string
	try      func(Facts) (Verdict, string)
	paths    []string // of the host that it goes for, where it does
	group    string   // of system calls that a policy may allow, and that holds this one
}

// No kernel has these, and each call looks at what it got before it does anything.
const (
	none   = ^uintptr(0)                        // no descriptor, no process
	high   = uintptr(1) << 32                   // the kernel takes 32 bits of an int argument, a filter that compares 64 sees another number
	badBit = uintptr(0x8000_0000)               // a flag that no kernel knows
	fidBit = unix.FAN_REPORT_FID                // fanotify_init(2): open to all users since Linux 5.13
	nsBits = unix.CLONE_NEWUSER | unix.CLONE_FS // clone(2): EINVAL, whoever asks
	myOnly = 1                                  // UFFD_USER_MODE_ONLY, userfaultfd(2): open to all users
)

// reading is a try to read files.
func reading(id, what string, paths ...string) try {
	return try{id: id, what: what, try: func(Facts) (Verdict, string) { return each(paths, readable) }, paths: paths}
}

// writing is a try to open files for writing.
func writing(id, what string, paths ...string) try {
	return try{id: id, what: what, try: func(Facts) (Verdict, string) { return each(paths, openable) }, paths: paths}
}

// asking is a try of a system call with arguments that cannot be.
func asking(id, what string, nr uintptr, args ...uintptr) try {
	return try{id: id, what: what, try: func(Facts) (Verdict, string) { return call(nr, args...) }}
}

// doing is any other try.
func doing(id, what string, do func(Facts) (Verdict, string)) try {
	return try{id: id, what: what, try: do}
}

// unless says that a policy may allow it, by a group of system calls.
func (t try) unless(group string) try {
	t.group = group
	return t
}

// tries is the table. One that asks the kernel with arguments that cannot be says in its comment what the kernel answers unfiltered.
var tries = []try{
	doing("A02-privileges", "have a capability, or a way to gain one", privileges),
	doing("A03-namespaces", "share a namespace with the host", namespaces),
	doing("A27-files", "find an open file of the launcher's", openFiles),

	doing("B04-read", "read a file outside of the grants", func(f Facts) (Verdict, string) { return token(f, f.Dir+"/"+secretFile) }),
	doing("B04-alias", "read it by another name", func(f Facts) (Verdict, string) { return token(f, "/proc/self/root"+f.Dir+"/"+secretFile) }),
	doing("B04-list", "list its directory", func(f Facts) (Verdict, string) { return listable(f.Dir) }),
	doing("B05-create", "make a file outside of the grants", func(f Facts) (Verdict, string) { return creatable(f.Dir + "/made") }),
	doing("B05-system", "write below /usr", func(Facts) (Verdict, string) { return temporary("/usr") }),

	writing("D01-sysctl", "set what the whole kernel does",
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register"),
	writing("D02-sysrq", "trigger a SysRq", "/proc/sysrq-trigger"),
	reading("D03-memory", "read the kernel's memory or messages", "/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/port"),
	doing("D04-processes", "see another's process", processes),
	reading("D05-init", "look into pid 1", "/proc/1/environ", "/proc/1/maps", "/proc/1/auxv"),
	doing("D06-environment", "find a variable of the launcher's", environment),
	reading("D08-hardware", "read /sys", "/sys/kernel/notes", "/sys/class/net/lo/mtu", "/sys/class/dmi/id/sys_vendor"),
	writing("D09-sys", "write in /sys", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/profiling", "/sys/class/net/lo/mtu"),
	doing("D10-cgroup", "change a cgroup", cgroup),
	doing("D12-devices", "find a device that is not one of a terminal or of memory", devices),
	doing("D16-oom", "have other processes ended first when memory is short", oomScore),

	asking("E01-unshare", "unshare a user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER).unless("nested"), // EINVAL: this process has threads
	asking("E01-unshare-mounts", "unshare mounts", unix.SYS_UNSHARE, unix.CLONE_NEWNS),
	asking("E01-clone", "clone a user namespace", unix.SYS_CLONE, nsBits).unless("nested"), // EINVAL
	asking("E01-clone3", "clone one by clone3", unix.SYS_CLONE3, 0, 0),                     // EINVAL: too short
	asking("E02-setns", "enter a namespace", unix.SYS_SETNS, none, 0),                      // EBADF
	asking("E03-mount", "mount", unix.SYS_MOUNT, 0, 0, 0, 0, 0),                            // EFAULT
	asking("E03-umount", "unmount", unix.SYS_UMOUNT2, 0, badBit),                           // EINVAL
	asking("E03-chroot", "change the root", unix.SYS_CHROOT, 0).unless("nested"),           // EFAULT
	asking("E03-open-tree", "take a mount", unix.SYS_OPEN_TREE, none, 0, badBit),           // EINVAL
	asking("E03-setattr", "change a mount", unix.SYS_MOUNT_SETATTR, none, 0, badBit, 0, 0), // EINVAL
	doing("E04-setuid", "become root", setuid),

	asking("F02-io-uring", "set up io_uring", unix.SYS_IO_URING_SETUP, 0, 0),                                           // EINVAL, EFAULT
	asking("F03-bpf", "load a BPF program", unix.SYS_BPF, none, 0, 0),                                                  // EINVAL
	asking("F03-perf", "watch performance events", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, none, badBit).unless("perf"),     // EINVAL
	asking("F03-userfaultfd", "handle page faults", unix.SYS_USERFAULTFD, badBit|myOnly),                               // EINVAL
	asking("F03-module", "load a module", unix.SYS_FINIT_MODULE, none, 0, badBit),                                      // EINVAL
	asking("F03-kexec", "load a kernel", unix.SYS_KEXEC_LOAD, 0, 0, 0, badBit),                                         // EINVAL
	asking("F04-ptrace", "trace a process", unix.SYS_PTRACE, unix.PTRACE_PEEKDATA, none, 0, 0).unless("debug"),         // ESRCH
	asking("F04-memory", "read a process's memory", unix.SYS_PROCESS_VM_READV, none, 0, 0, 0, 0, none).unless("debug"), // EINVAL
	asking("F04-files", "take a file of a process", unix.SYS_PIDFD_GETFD, none, none, 0).unless("debug"),               // EBADF
	asking("F05-keys", "ask for the session's keys", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0, 0),                // EINVAL
	asking("F06-handle", "open a file by its handle", unix.SYS_OPEN_BY_HANDLE_AT, none, 0, 0),                          // EFAULT
	asking("F07-fanotify", "watch a file system", unix.SYS_FANOTIFY_INIT, fidBit|badBit, 0),                            // EINVAL
	asking("F12-tiocsti", "type into a terminal", unix.SYS_IOCTL, none, unix.TIOCSTI, 0),                               // EBADF
	asking("F12-tioclinux", "paste into a console", unix.SYS_IOCTL, none, unix.TIOCLINUX, 0),                           // EBADF
	doing("F14-families", "open a socket that is neither of the Internet nor of Unix", families),
	doing("F15-netlink", "talk to the kernel by netlink, but on routes", netlink),

	asking("G01-ioctl", "type into a terminal, with bit 32 of the request set", unix.SYS_IOCTL, none, unix.TIOCSTI|high, 0), // EBADF
	doing("G01-socket", "open a socket of netlink, with bit 32 of the family set", highFamily),

	doing("H04-interfaces", "see an interface of the host", interfaces),
	doing("H07-loopback", "reach a service on 127.0.0.1 of the host", func(f Facts) (Verdict, string) {
		return reach(f, "tcp4", loopback(f.TCP4, "127.0.0.1"))
	}),
	doing("H07-loopback6", "reach a service on ::1 of the host", func(f Facts) (Verdict, string) {
		return reach(f, "tcp6", loopback(f.TCP6, "::1"))
	}),
	doing("H15-abstract", "reach an abstract socket of the host", func(f Facts) (Verdict, string) {
		return reach(f, "unix", "@"+f.Abstract)
	}),
	doing("L01-socket", "reach a socket file of the host", func(f Facts) (Verdict, string) {
		return reach(f, "unix", f.Dir+"/"+socketFile)
	}),
}
