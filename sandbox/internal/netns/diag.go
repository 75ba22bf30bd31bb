// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockDiag finds sockets of a network namespace (sock_diag(7)).
type sockDiag struct{ *netlinkConn }

// newSockDiag is for the network namespace of the calling thread.
func newSockDiag() (sockDiag, error) {
	conn, err := dialNetlink(unix.NETLINK_SOCK_DIAG, "sock_diag")
	return sockDiag{conn}, err
}

// diagSocket is what the kernel says of a socket; the zero one is none.
type diagSocket struct {
	state byte // of TCP: TCP_ESTABLISHED and so on
	inode uint32
}

// connection returns the inode of the socket of a connection by its addresses; 0 if there is none.
func (d sockDiag) connection(network string, local, remote netip.AddrPort) (uint32, error) {
	s, err := d.socket(network, local, remote)
	if err != nil || s.state == stateListen { // a listener at the local end: there is no such connection
		return 0, err
	}
	return s.inode, nil
}

// socket asks for one by its addresses.
func (d sockDiag) socket(network string, local, remote netip.AddrPort) (diagSocket, error) {
	request, err := diagRequest(network, local, remote)
	if err != nil {
		return diagSocket{}, err
	}
	answer, err := d.query(request)
	if err != nil {
		return diagSocket{}, err
	}
	return parseDiag(answer)
}

// Sizes and offsets of the messages: struct nlmsghdr (netlink(7)), inet_diag_req_v2 and inet_diag_msg (sock_diag(7)).
const (
	sockDiagByFamily = 20
	diagReqSize      = unix.NLMSG_HDRLEN + 8 + diagIDSize
	diagIDSize       = 48
	diagStateAt      = 1
	diagInodeAt      = 4 + diagIDSize + 16
)

// stateListen is TCP_LISTEN (net/tcp_states.h).
const stateListen = 10

// diagRequest asks for one socket. For UDP the kernel takes the ends as they stand in a packet that the socket receives
// ("swapped for historical reasons", udp_diag.c).
func diagRequest(network string, local, remote netip.AddrPort) ([]byte, error) {
	if local.Addr().Is6() != remote.Addr().Is6() {
		return nil, fmt.Errorf("%v and %v are of two families", local, remote)
	}
	family, protocol := byte(unix.AF_INET), byte(unix.IPPROTO_TCP)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	switch network {
	case "tcp":
	case "udp":
		protocol = unix.IPPROTO_UDP
		local, remote = remote, local
	default:
		return nil, fmt.Errorf("network %q is neither tcp nor udp", network)
	}
	b := make([]byte, 0, diagReqSize)
	b = binary.NativeEndian.AppendUint32(b, diagReqSize)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence and port: one question at a time
	b = append(b, family, protocol, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff) // all states
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	for _, addr := range []netip.Addr{local.Addr(), remote.Addr()} {
		field := make([]byte, 16)
		copy(field, addr.AsSlice())
		b = append(b, field...)
	}
	b = binary.NativeEndian.AppendUint32(b, loIndex) // a socket that is bound to lo is found by that alone
	return binary.NativeEndian.AppendUint64(b, ^uint64(0)), nil
}

// parseDiag reads the answer: the socket, or an error message.
func parseDiag(b []byte) (diagSocket, error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return diagSocket{}, fmt.Errorf("sock_diag: an answer of %d bytes", len(b))
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		if errno == unix.ENOENT {
			return diagSocket{}, nil
		}
		return diagSocket{}, fmt.Errorf("sock_diag: %w", errno)
	case kind == sockDiagByFamily && len(body) >= diagInodeAt+4:
		return diagSocket{body[diagStateAt], binary.NativeEndian.Uint32(body[diagInodeAt:])}, nil
	}
	return diagSocket{}, fmt.Errorf("sock_diag: message %d of %d bytes", kind, len(b))
}
