// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// describe writes a call with its arguments, as far as they are plain integers, as strace(1) would.
func describe(name string, args [6]uint64) string {
	a := func(i int) uint64 { return uint64(uint32(args[i])) }
	switch name {
	case "socket", "socketpair":
		return fmt.Sprintf("%s(%s, %s, %d)", name, named(families, a(0)), socketType(a(1)), int32(a(2)))
	case "ioctl":
		return fmt.Sprintf("ioctl(%d, %s)", int32(a(0)), named(ioctls, a(1)))
	case "clone", "unshare":
		return fmt.Sprintf("%s(%s)", name, flags(cloneFlags, a(0)))
	case "prctl":
		return fmt.Sprintf("prctl(%s)", named(prctls, a(0)))
	case "setsockopt":
		return fmt.Sprintf("setsockopt(%d, %d, %d)", int32(a(0)), a(1), a(2))
	case "personality":
		return fmt.Sprintf("personality(%#x)", a(0))
	case "ptrace", "keyctl", "bpf", "seccomp", "kill":
		return fmt.Sprintf("%s(%d, %#x)", name, int32(a(0)), a(1))
	case "setns":
		return fmt.Sprintf("setns(%d, %s)", int32(a(0)), flags(cloneFlags, a(1)))
	}
	return name
}

// value is a number with a name.
type value struct {
	n    uint64
	name string
}

func named(values []value, n uint64) string {
	for _, v := range values {
		if v.n == n {
			return v.name
		}
	}
	return fmt.Sprintf("%#x", n)
}

func flags(values []value, n uint64) string {
	var out []string
	for _, v := range values {
		if n&v.n == v.n {
			out = append(out, v.name)
			n &^= v.n
		}
	}
	if n != 0 || len(out) == 0 {
		out = append(out, fmt.Sprintf("%#x", n))
	}
	return strings.Join(out, "|")
}

func socketType(n uint64) string {
	s := named(socketTypes, n&typeMask)
	if n&unix.SOCK_CLOEXEC != 0 {
		s += "|SOCK_CLOEXEC"
	}
	if n&unix.SOCK_NONBLOCK != 0 {
		s += "|SOCK_NONBLOCK"
	}
	return s
}

var families = []value{
	{unix.AF_UNIX, "AF_UNIX"}, {unix.AF_INET, "AF_INET"}, {unix.AF_INET6, "AF_INET6"}, {unix.AF_NETLINK, "AF_NETLINK"},
	{unix.AF_PACKET, "AF_PACKET"}, {unix.AF_KEY, "AF_KEY"}, {unix.AF_ALG, "AF_ALG"}, {unix.AF_VSOCK, "AF_VSOCK"},
	{unix.AF_XDP, "AF_XDP"}, {unix.AF_BLUETOOTH, "AF_BLUETOOTH"}, {unix.AF_CAN, "AF_CAN"}, {unix.AF_TIPC, "AF_TIPC"},
	{unix.AF_RDS, "AF_RDS"}, {unix.AF_KCM, "AF_KCM"}, {unix.AF_QIPCRTR, "AF_QIPCRTR"}, {unix.AF_SMC, "AF_SMC"},
	{unix.AF_NFC, "AF_NFC"}, {unix.AF_RXRPC, "AF_RXRPC"}, {unix.AF_IB, "AF_IB"}, {unix.AF_LLC, "AF_LLC"},
}

var socketTypes = []value{
	{unix.SOCK_STREAM, "SOCK_STREAM"}, {unix.SOCK_DGRAM, "SOCK_DGRAM"}, {unix.SOCK_RAW, "SOCK_RAW"}, {unix.SOCK_RDM, "SOCK_RDM"},
	{unix.SOCK_SEQPACKET, "SOCK_SEQPACKET"},
}

var cloneFlags = []value{
	{unix.CLONE_NEWUSER, "CLONE_NEWUSER"}, {unix.CLONE_NEWNS, "CLONE_NEWNS"}, {unix.CLONE_NEWPID, "CLONE_NEWPID"},
	{unix.CLONE_NEWNET, "CLONE_NEWNET"}, {unix.CLONE_NEWIPC, "CLONE_NEWIPC"}, {unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
	{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"}, {unix.CLONE_NEWTIME, "CLONE_NEWTIME"}, {unix.CLONE_FS, "CLONE_FS"},
	{unix.CLONE_FILES, "CLONE_FILES"}, {unix.CLONE_VM, "CLONE_VM"}, {unix.CLONE_VFORK, "CLONE_VFORK"},
	{unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"},
}

var prctls = []value{
	{unix.PR_SET_MM, "PR_SET_MM"}, {unix.PR_SET_SECUREBITS, "PR_SET_SECUREBITS"}, {prSetPtracer, "PR_SET_PTRACER"},
	{unix.PR_SET_SYSCALL_USER_DISPATCH, "PR_SET_SYSCALL_USER_DISPATCH"},
}

var ioctls = []value{
	{unix.TIOCSTI, "TIOCSTI"}, {unix.TIOCLINUX, "TIOCLINUX"}, {unix.TIOCCONS, "TIOCCONS"}, {unix.TIOCSETD, "TIOCSETD"},
	{unix.TUNSETIFF, "TUNSETIFF"}, {0xC0045877, "FIFREEZE"}, {0xC0045878, "FITHAW"}, {0x40086602, "FS_IOC_SETFLAGS"},
	{0x401c5820, "FS_IOC_FSSETXATTR"}, {0x40087602, "FS_IOC_SETVERSION"}, {0x40086604, "EXT4_IOC_SETVERSION"},
	{0xc028660f, "EXT4_IOC_MOVE_EXT"}, {0xc0c0586d, "XFS_IOC_SWAPEXT"},
	{0x50009401, "BTRFS_IOC_SNAP_CREATE"}, {0x5000940e, "BTRFS_IOC_SUBVOL_CREATE"},
	{0x50009417, "BTRFS_IOC_SNAP_CREATE_V2"}, {0x50009418, "BTRFS_IOC_SUBVOL_CREATE_V2"},
	{0xb701, "NS_GET_USERNS"}, {0xb702, "NS_GET_PARENT"}, {0xb703, "NS_GET_NSTYPE"}, {0xb704, "NS_GET_OWNER_UID"},
}
