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
		return fmt.Sprintf("%s(%s, %s, %d)", name, family(a(0)), socketType(a(1)), int32(a(2)))
	case "ioctl":
		return fmt.Sprintf("ioctl(%d, %s)", int32(a(0)), ioctlRequest(a(1)))
	case "clone", "unshare":
		return fmt.Sprintf("%s(%s)", name, flags(cloneFlags, a(0)))
	case "prctl":
		return fmt.Sprintf("prctl(%s)", named(prctls, a(0)))
	case "setsockopt":
		return fmt.Sprintf("setsockopt(%d, %s, %s)", int32(a(0)), named(levels, a(1)), named(socketOptions, a(1)<<32|a(2)))
	case "personality":
		return fmt.Sprintf("personality(%#x)", a(0))
	case "ptrace", "keyctl", "bpf", "seccomp", "kill":
		return fmt.Sprintf("%s(%d, %#x)", name, int32(a(0)), a(1))
	case "setns":
		return fmt.Sprintf("setns(%d, %s)", int32(a(0)), flags(cloneFlags, a(1)))
	}
	if i, ok := modeArguments[name]; ok && a(i)&(setIDBits|unix.S_IFMT) != 0 {
		return fmt.Sprintf("%s(mode %#o)", name, a(i))
	}
	return name
}

// whyNoGroup says why a call is refused that no group would allow, where people meet it in everyday work; "" for all others.
func whyNoGroup(name string, args [6]uint64) string {
	switch family := uint32(args[0]); {
	case (name == "socket" || name == "socketpair") && family == unix.AF_UNIX:
		return "a Unix datagram socket could send to a socket of the host that nobody was asked about: stream sockets are there, and syslog(3) does without"
	case name == "socket" && (family == unix.AF_INET || family == unix.AF_INET6):
		return "raw and ICMP sockets, as of ping, make packets that no rule about hosts can judge: there is no flag for them"
	case name == "mount" || name == "umount2":
		return "nothing can be mounted or unmounted in a run: --ro, --rw and --hide say what is where"
	}
	return ""
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
	return fmt.Sprintf("%#x", uint32(n))
}

func family(n uint64) string {
	if names := strings.Fields(families); n < uint64(len(names)) {
		return "AF_" + names[n]
	}
	return fmt.Sprintf("%#x", n)
}

// ioctlRequest names a command of ioctl(2), or at least the family that it is of.
func ioctlRequest(n uint64) string {
	name := named(ioctls, n)
	for _, v := range ioctlTypes {
		if n>>8&0xff == v.n && strings.HasPrefix(name, "0x") {
			return name + " of " + v.name
		}
	}
	return name
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

// families are those of linux/socket.h, in the order of their numbers.
const families = `UNSPEC UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet NETBEUI SECURITY KEY NETLINK PACKET ASH ECONET
ATMSVC RDS SNA IRDA PPPOX WANPIPE LLC IB MPLS CAN TIPC BLUETOOTH IUCV RXRPC ISDN PHONET IEEE802154 CAIF ALG NFC VSOCK KCM QIPCRTR SMC XDP MCTP`

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

var levels = []value{
	{unix.SOL_SOCKET, "SOL_SOCKET"}, {unix.SOL_IP, "SOL_IP"}, {unix.SOL_TCP, "SOL_TCP"}, {unix.SOL_UDP, "SOL_UDP"}, {unix.SOL_IPV6, "SOL_IPV6"},
}

// socketOptions are those that setsockoptRule refuses, with their level in the high half.
var socketOptions = []value{
	{unix.SOL_TCP<<32 | unix.TCP_ULP, "TCP_ULP"}, {unix.SOL_SOCKET<<32 | unix.SO_ATTACH_BPF, "SO_ATTACH_BPF"},
	{unix.SOL_SOCKET<<32 | unix.SO_ATTACH_REUSEPORT_EBPF, "SO_ATTACH_REUSEPORT_EBPF"}, {unix.SOL_SOCKET<<32 | unix.SO_MARK, "SO_MARK"},
	{unix.SOL_SOCKET<<32 | unix.SO_BINDTODEVICE, "SO_BINDTODEVICE"}, {unix.SOL_IP<<32 | unix.IP_TRANSPARENT, "IP_TRANSPARENT"},
	{unix.SOL_IP<<32 | unix.IP_XFRM_POLICY, "IP_XFRM_POLICY"}, {unix.SOL_IP<<32 | unix.IP_IPSEC_POLICY, "IP_IPSEC_POLICY"},
	{unix.SOL_IP<<32 | 64, "IPT_SO_SET_REPLACE"}, {unix.SOL_IP<<32 | 65, "IPT_SO_SET_ADD_COUNTERS"}, {unix.SOL_IPV6<<32 | 64, "IP6T_SO_SET_REPLACE"},
	{unix.SOL_IPV6<<32 | 65, "IP6T_SO_SET_ADD_COUNTERS"}, {unix.SOL_IPV6<<32 | unix.IPV6_TRANSPARENT, "IPV6_TRANSPARENT"},
	{unix.SOL_IPV6<<32 | unix.IPV6_IPSEC_POLICY, "IPV6_IPSEC_POLICY"}, {unix.SOL_IPV6<<32 | unix.IPV6_XFRM_POLICY, "IPV6_XFRM_POLICY"},
	{unix.SOL_UDP<<32 | unix.UDP_ENCAP, "UDP_ENCAP"},
}

// ioctlTypes are the families that deniedIoctlTypes lists.
var ioctlTypes = []value{
	{'K', "consoles"}, {'V', "virtual terminals"}, {'L', "loop devices"}, {0x12, "block devices"}, {0x22, "SCSI generic"}, {'!', "seccomp"},
	{'$', "perf"}, {0x89, "sockets"}, {0x94, "btrfs"}, {0xbc, "bcachefs"},
}

var ioctls = []value{
	{unix.TIOCSTI, "TIOCSTI"}, {unix.TIOCLINUX, "TIOCLINUX"}, {unix.TIOCCONS, "TIOCCONS"}, {unix.TIOCSETD, "TIOCSETD"},
	{unix.TUNSETIFF, "TUNSETIFF"}, {0xC0045877, "FIFREEZE"}, {0xC0045878, "FITHAW"}, {0x40086602, "FS_IOC_SETFLAGS"},
	{0x40046602, "FS_IOC32_SETFLAGS"},
	{0x401c5820, "FS_IOC_FSSETXATTR"}, {0x40087602, "FS_IOC_SETVERSION"}, {0x40047602, "FS_IOC32_SETVERSION"}, {0x40086604, "EXT4_IOC_SETVERSION"}, {0x40046604, "EXT4_IOC32_SETVERSION"},
	{0xc028660f, "EXT4_IOC_MOVE_EXT"}, {0xc0c0586d, "XFS_IOC_SWAPEXT"},
	{0x50009401, "BTRFS_IOC_SNAP_CREATE"}, {0x5000940e, "BTRFS_IOC_SUBVOL_CREATE"},
	{0x50009417, "BTRFS_IOC_SNAP_CREATE_V2"}, {0x50009418, "BTRFS_IOC_SUBVOL_CREATE_V2"},
	{0xb701, "NS_GET_USERNS"}, {0xb702, "NS_GET_PARENT"}, {0xb703, "NS_GET_NSTYPE"}, {0xb704, "NS_GET_OWNER_UID"},
	// linux/kd.h, linux/vt.h
	{0x4b2f, "KIOCSOUND"}, {0x4b32, "KDSETLED"}, {0x4b3a, "KDSETMODE"}, {0x4b45, "KDSKBMODE"}, {0x4b47, "KDSKBENT"}, {0x4b49, "KDSKBSENT"},
	{0x4b4d, "KDSETKEYCODE"}, {0x4b72, "KDFONTOP"}, {0x5600, "VT_OPENQRY"}, {0x5601, "VT_GETMODE"}, {0x5602, "VT_SETMODE"},
	{0x5603, "VT_GETSTATE"}, {0x5606, "VT_ACTIVATE"}, {0x5607, "VT_WAITACTIVE"}, {0x5608, "VT_DISALLOCATE"}, {0x560b, "VT_LOCKSWITCH"},
	{unix.LOOP_SET_FD, "LOOP_SET_FD"}, {unix.LOOP_CLR_FD, "LOOP_CLR_FD"}, {unix.LOOP_SET_STATUS, "LOOP_SET_STATUS"},
	{unix.LOOP_SET_STATUS64, "LOOP_SET_STATUS64"}, {unix.LOOP_CONFIGURE, "LOOP_CONFIGURE"}, {unix.LOOP_CTL_GET_FREE, "LOOP_CTL_GET_FREE"},
	{unix.BLKROSET, "BLKROSET"}, {unix.BLKROGET, "BLKROGET"}, {unix.BLKRRPART, "BLKRRPART"}, {unix.BLKGETSIZE, "BLKGETSIZE"},
	{unix.BLKGETSIZE64, "BLKGETSIZE64"}, {unix.BLKFLSBUF, "BLKFLSBUF"}, {unix.BLKDISCARD, "BLKDISCARD"}, {0x2285, "SG_IO"}, // scsi/sg.h
	{unix.SECCOMP_IOCTL_NOTIF_RECV, "SECCOMP_IOCTL_NOTIF_RECV"}, {unix.SECCOMP_IOCTL_NOTIF_SEND, "SECCOMP_IOCTL_NOTIF_SEND"},
	{unix.SECCOMP_IOCTL_NOTIF_ID_VALID, "SECCOMP_IOCTL_NOTIF_ID_VALID"},
	{unix.PERF_EVENT_IOC_ENABLE, "PERF_EVENT_IOC_ENABLE"}, {unix.PERF_EVENT_IOC_DISABLE, "PERF_EVENT_IOC_DISABLE"},
	{unix.SIOCADDRT, "SIOCADDRT"}, {unix.SIOCDELRT, "SIOCDELRT"}, {unix.SIOCSIFNAME, "SIOCSIFNAME"}, {unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"},
	{unix.SIOCSIFADDR, "SIOCSIFADDR"}, {unix.SIOCSIFNETMASK, "SIOCSIFNETMASK"}, {unix.SIOCSIFMTU, "SIOCSIFMTU"},
	{unix.SIOCSIFHWADDR, "SIOCSIFHWADDR"}, {unix.SIOCETHTOOL, "SIOCETHTOOL"},
}
