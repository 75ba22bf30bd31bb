// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

const all = ^uint32(0)

func is(arg int, values ...uint32) test    { return test{Arg: arg, Mask: all, In: values} }
func isNot(arg int, values ...uint32) test { return test{Arg: arg, Mask: all, In: values, Not: true} }
func hasBits(arg int, mask uint32) test {
	return test{Arg: arg, Mask: mask, In: []uint32{0}, Not: true}
}
func when(then Verdict, tests ...test) clause  { return clause{Tests: tests, Then: then} }
func orElse(v Verdict, clauses ...clause) rule { return rule{Clauses: clauses, Otherwise: v} }

// Masks and numbers that x/sys/unix does not have.
const (
	namespaceFlags = 0x7E020000 // CLONE_NEW* of clone(2); CLONE_NEWTIME shares bits with the exit signal and is for clone3 and unshare
	typeMask       = 0xf        // SOCK_NONBLOCK and SOCK_CLOEXEC left out (socket(2))
	setIDBits      = 0o6000     // S_ISUID and S_ISGID
	writeFlags     = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	makeFlags      = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY // with these open(2) has a mode
	prSetPtracer   = 0x59616d61                                      // Yama
)

// argumentRules are the calls whose verdict depends on an argument.
func argumentRules() map[string]rule {
	rules := map[string]rule{
		"clone":         orElse(allowed, when(refused, hasBits(0, namespaceFlags))),
		"seccomp":       orElse(allowed, when(refused, hasBits(1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER))),
		"socket":        socketRule(),
		"socketpair":    socketpairRule(),
		"setsockopt":    setsockoptRule(),
		"ioctl":         ioctlRule(deniedIoctlTypes...),
		"prctl":         prctlRule(prSetPtracer),
		"personality":   personalityRule(),
		"clock_adjtime": orElse(allowed, when(refused, isNot(0, unix.CLOCK_REALTIME))),
	}
	maps.Copy(rules, coreRules())
	maps.Copy(rules, modeRules(setIDBits))
	return rules
}

// coreRules keep the limit of core dumps as it is: at one byte, where the host's handler of cores, a program of root's, is not started
// for a crash in the run (core(5), "Piping core dumps to a program"; the kernel's fs/coredump.c). At 0 it would be. Programs that hold
// secrets set it to 0 and end where they cannot: to them it is done, since no core is written either way.
func coreRules() map[string]rule {
	const core = unix.RLIMIT_CORE
	return map[string]rule{
		"setrlimit": orElse(allowed, when(done, is(0, core))),
		"prlimit64": orElse(allowed,
			// Of pid 1, the stage: a limit of its time would end the run in disorder.
			when(refused, is(0, 1)),
			when(allowed, is(1, core), is(2, 0), test{Arg: 2, High: true, Mask: all, In: []uint32{0}}), // no new limit
			when(done, is(1, core), is(3, 0)),
			// Who asks for the old limit in the same call would read what nobody wrote.
			when(refused, is(1, core))),
	}
}

// modeArguments are the calls that give a file its mode, and which of their arguments that is.
var modeArguments = map[string]int{
	"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "mkdir": 1, "mkdirat": 2, "creat": 1, "open": 2, "openat": 3, "mknod": 1, "mknodat": 2,
}

// modeRules are those of the calls that give a file its mode, of which bits are refused, if there are any.
func modeRules(bits uint32) map[string]rule {
	rules := map[string]rule{}
	write := Verdict{Kind: Write}
	refuse := func(mode int, more ...test) []clause {
		if bits == 0 {
			return nil
		}
		return []clause{when(refused, append(more, hasBits(mode, bits))...)}
	}
	opens := func(mode int) rule {
		flags := mode - 1
		return orElse(allowed, append(refuse(mode, hasBits(flags, makeFlags)), when(write, hasBits(flags, writeFlags)))...)
	}
	modes := func(mode int) rule { return orElse(write, refuse(mode)...) }
	nodes := func(mode int) rule {
		regular := test{Arg: mode, Mask: unix.S_IFMT, In: []uint32{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK}, Not: true}
		return orElse(write, append([]clause{when(refused, regular)}, refuse(mode)...)...)
	}
	for name, mode := range modeArguments {
		switch name {
		case "open", "openat":
			rules[name] = opens(mode)
		case "mknod", "mknodat":
			rules[name] = nodes(mode)
		default:
			rules[name] = modes(mode)
		}
	}
	return rules
}

func ioctlRule(types ...uint32) rule {
	return orElse(allowed, when(allowed, is(1, slices.Concat(cloneIoctls, socketIoctls)...)), when(refused, is(1, deniedIoctls...)),
		when(refused, test{Arg: 1, Mask: 0xff00, In: types}))
}

func prctlRule(more ...uint32) rule {
	return orElse(allowed, when(refused, is(0, append(more, unix.PR_SET_MM, unix.PR_SET_SECUREBITS, unix.PR_SET_SYSCALL_USER_DISPATCH)...)))
}

// personalityRule allows PER_LINUX, PER_LINUX32, UNAME26, and asking what it is (personality(2)).
func personalityRule(more ...uint32) rule {
	return orElse(allowed, when(refused, isNot(0, append(more, 0, 8, 0x20000, 0x20008, all)...)))
}

// socketRule allows the families that stay inside the run. A datagram unix socket could send to a host's socket without
// connect(2), a raw one could make packets that the gateway does not see.
func socketRule() rule {
	typ := func(types ...uint32) test { return test{Arg: 1, Mask: typeMask, In: types} }
	return orElse(refused,
		when(allowed, is(0, unix.AF_UNIX), typ(unix.SOCK_STREAM, unix.SOCK_SEQPACKET)),
		when(allowed, is(0, unix.AF_INET, unix.AF_INET6), typ(unix.SOCK_STREAM), is(2, 0, unix.IPPROTO_TCP)),
		when(allowed, is(0, unix.AF_INET, unix.AF_INET6), typ(unix.SOCK_DGRAM), is(2, 0, unix.IPPROTO_UDP)),
		when(allowed, is(0, unix.AF_NETLINK), typ(unix.SOCK_DGRAM, unix.SOCK_RAW), is(2, unix.NETLINK_ROUTE)),
		// Go's servers ask for it first, with which connections could take paths that the gateway does not see.
		when(absent, is(0, unix.AF_INET, unix.AF_INET6), typ(unix.SOCK_STREAM), is(2, unix.IPPROTO_MPTCP)),
	)
}

func socketpairRule() rule {
	return orElse(refused,
		when(allowed, is(0, unix.AF_UNIX), test{Arg: 1, Mask: typeMask, In: []uint32{unix.SOCK_STREAM, unix.SOCK_SEQPACKET}}))
}

// setsockoptRule refuses the options that reach other kernel machinery: TLS upper layers, BPF programs, marks, IPsec.
func setsockoptRule() rule {
	const (
		tcpULP, ipXfrm, ipsec, ipv6Ipsec, ipv6Xfrm, udpEncap = 31, 17, 16, 34, 35, 100
		iptFirst, iptLast                                    = 64, 67
	)
	return orElse(allowed,
		when(refused, is(1, unix.SOL_TCP), is(2, tcpULP)),
		when(refused, is(1, unix.SOL_SOCKET), is(2, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_EBPF, unix.SO_MARK, unix.SO_BINDTODEVICE)),
		when(refused, is(1, unix.SOL_IP), is(2, unix.IP_TRANSPARENT, ipXfrm, ipsec, iptFirst, iptFirst+1, iptFirst+2, iptLast)),
		when(refused, is(1, unix.SOL_IPV6), is(2, unix.IPV6_TRANSPARENT, ipv6Ipsec, ipv6Xfrm, iptFirst, iptFirst+1, iptFirst+2, iptLast)),
		when(refused, is(1, unix.SOL_UDP), is(2, udpEncap)),
	)
}

// deniedIoctls put input into a terminal, change its driver, or act on a file system or a namespace.
var deniedIoctls = []uint32{
	unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCCONS, unix.TIOCSETD, unix.TUNSETIFF,
	0xC0045877, 0xC0045878, // FIFREEZE, FITHAW
	0x40086602, 0x40046602, 0x401c5820, // FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR
	0x40087602, 0x40047602, 0x40086604, 0x40046604, // FS_IOC_SETVERSION, FS_IOC32_SETVERSION, and by ext4's own numbers (fs/ext4/ext4.h)
	// EXT4_IOC_MOVE_EXT and XFS_IOC_SWAPEXT exchange what files hold, and leave their times (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h).
	0xc028660f, 0xc0c0586d,
	0xb701, 0xb702, 0xb703, 0xb704, // NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE, NS_GET_OWNER_UID
}

// socketIoctls are those of the family of a socket (linux/sockios.h, asm-generic/sockios.h) that ask, or are about the socket itself.
var socketIoctls = []uint32{
	0x8901, 0x8902, 0x8903, 0x8904, 0x8905, // FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP, SIOCATMARK
	0x8906, 0x8907, 0x80108906, 0x80108907, 0x894b, // SIOCGSTAMP, SIOCGSTAMPNS, both also with 64 bits of time, SIOCOUTQNSD
	0x8910, 0x8912, 0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x8921, // SIOCGIFNAME, SIOCGIFCONF, SIOCGIF{FLAGS,ADDR,DSTADDR,BRDADDR,NETMASK,METRIC,MTU}
	0x8927, 0x8933, 0x8935, 0x8938, 0x8942, 0x8970, // SIOCGIF{HWADDR,INDEX,PFLAGS,COUNT,TXQLEN,MAP}
}

// cloneIoctls share the contents of files: FICLONE, FICLONERANGE, FIDEDUPERANGE (ioctl_ficlonerange(2), ioctl_fideduperange(2)). They
// are the only ones of btrfs's family that act on open files alone.
var cloneIoctls = []uint32{0x40049409, 0x4020940d, 0xc0189436}

// deniedIoctlTypes are whole families by their second byte: virtual terminals and keyboards ('K', 'V'), loop devices ('L'),
// block devices (0x12), SCSI generic (0x22), seccomp ('!'), perf ($), sockets (0x89), of which most change network devices, routes,
// bridges, VLANs and tunnels and load modules for it, and btrfs (0x94) and bcachefs (0xbc), whose subvolumes and
// snapshots are directories that no mkdir makes, and show what is hidden or read-only by a mount.
var deniedIoctlTypes = []uint32{'K' << 8, 'V' << 8, 'L' << 8, 0x12 << 8, 0x22 << 8, '!' << 8, '$' << 8, 0x89 << 8, 0x94 << 8, 0xbc << 8}
