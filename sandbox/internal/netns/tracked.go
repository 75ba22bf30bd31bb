// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctGet          = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctNew          = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctTupleOrig    = 1
	ctTupleReply   = 2
	ctTupleIP      = 1
	ctTupleProto   = 2
	ctIPv4Src      = 1 // and the destination, and the same of IPv6, behind it
	ctIPv6Src      = 3
	ctProtoNum     = 1
	ctProtoSrcPort = 2
	ctProtoDstPort = 3
)

// conntrack asks connection tracking (NETLINK_NETFILTER of netlink(7)).
type conntrack struct{ *netlinkConn }

// begunAt tells where a connection of ByRedirect comes from in truth. Where a program goes from one port to two of one
// host, both go to the listeners' port of that host, and the kernel keeps them apart by giving one another port to come from. Not ok
// where the kernel does not know, as of a connection that is gone.
func (c conntrack) begunAt(arrived, dialed netip.AddrPort) (from netip.AddrPort, ok bool) {
	answer, err := c.query(trackingRequest(arrived, dialed))
	if err != nil || len(answer) < unix.NLMSG_HDRLEN+nfgenmsgLength || binary.NativeEndian.Uint16(answer[4:]) != ctNew {
		return from, false
	}
	for _, tuple := range attrs(answer[unix.NLMSG_HDRLEN+nfgenmsgLength:], ctTupleOrig) {
		for _, proto := range attrs(tuple, ctTupleProto) {
			for _, p := range attrs(proto, ctProtoSrcPort) {
				if len(p) == 2 {
					return netip.AddrPortFrom(arrived.Addr(), binary.BigEndian.Uint16(p)), true
				}
			}
		}
	}
	return from, false
}

// trackingRequest asks for a connection by its answers, which go from the listeners' port to where it comes from.
func trackingRequest(arrived, dialed netip.AddrPort) []byte {
	family, src := byte(unix.AF_INET), uint16(ctIPv4Src)
	if arrived.Addr().Is6() {
		family, src = unix.AF_INET6, ctIPv6Src
	}
	ip := appendAttr(nil, src, dialed.Addr().AsSlice())
	ip = appendAttr(ip, src+1, arrived.Addr().AsSlice())
	proto := appendAttr(nil, ctProtoNum, []byte{unix.IPPROTO_TCP})
	proto = appendAttr(proto, ctProtoSrcPort, binary.BigEndian.AppendUint16(nil, port))
	proto = appendAttr(proto, ctProtoDstPort, binary.BigEndian.AppendUint16(nil, arrived.Port()))
	tuple := appendAttr(appendAttr(nil, ctTupleIP, ip), ctTupleProto, proto)
	body := appendAttr([]byte{family, 0, 0, 0}, ctTupleReply, tuple) // struct nfgenmsg: family, version, 0
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	message = binary.NativeEndian.AppendUint16(message, ctGet)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST)
	return append(append(message, make([]byte, 8)...), body...)
}
