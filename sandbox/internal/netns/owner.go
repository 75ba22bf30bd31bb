// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/caller"
)

// Owner finds the process of the run that opened a socket. The zero Process is an unknown one: the process may be gone.
func (n *Namespace) Owner(network string, local, remote netip.AddrPort) audit.Process {
	protocol := byte(unix.IPPROTO_TCP)
	if network == "udp" {
		protocol = unix.IPPROTO_UDP
	}
	var inode uint32
	n.do(func() { inode = socketInode(protocol, local, remote) })
	if inode == 0 {
		return audit.Process{}
	}
	return n.holder(inode)
}

// holder searches the processes of this namespace for a file that is the socket (proc_pid_fd(5)).
func (n *Namespace) holder(inode uint32) audit.Process {
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	ours := "net:[" + strconv.FormatUint(n.inode, 10) + "]"
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return audit.Process{}
	}
	for i := len(entries) - 1; i >= 0; i-- { // the newest are most often the last
		pid, err := strconv.Atoi(entries[i].Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", entries[i].Name())
		if link, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || link != ours {
			continue
		}
		if holds(filepath.Join(dir, "fd"), want) {
			return caller.Of(pid)
		}
	}
	return audit.Process{}
}

func holds(dir, want string) bool {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && strings.HasPrefix(link, want) {
			return true
		}
	}
	return false
}

// The layout of struct inet_diag_req_v2 and struct inet_diag_msg (linux/inet_diag.h, sock_diag(7)).
const (
	diagRequestSize = 56
	diagInodeOffset = 68
	diagMessageSize = 72
)

// socketInode asks the kernel for the one socket with these ends; 0 if there is none. It runs in the namespace.
func socketInode(protocol byte, local, remote netip.AddrPort) uint32 {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	// The kernel looks a UDP socket up as a packet would find it: the far end is the source.
	if protocol == unix.IPPROTO_UDP {
		local, remote = remote, local
	}
	if err := unix.Sendto(fd, diagRequest(protocol, local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0
	}
	var buf [4096]byte
	size, _, err := unix.Recvfrom(fd, buf[:], 0)
	if err != nil {
		return 0
	}
	return diagInode(buf[:size])
}

func diagRequest(protocol byte, local, remote netip.AddrPort) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = unix.AF_INET, protocol
	if !local.Addr().Is4() {
		r[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // any state
	binary.BigEndian.PutUint16(r[8:], local.Port())
	binary.BigEndian.PutUint16(r[10:], remote.Port())
	copy(r[12:28], local.Addr().AsSlice())
	copy(r[28:44], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(r[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

func diagInode(b []byte) uint32 {
	if len(b) < unix.SizeofNlMsghdr+diagMessageSize || binary.NativeEndian.Uint16(b[4:]) != unix.SOCK_DIAG_BY_FAMILY {
		return 0
	}
	return binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr+diagInodeOffset:])
}
