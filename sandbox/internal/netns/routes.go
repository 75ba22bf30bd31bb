// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeAll brings lo up and makes every address local to it: `ip route add local default dev lo`, for IPv4 and IPv6. The
// preferred source is the loopback address, so that an answer is for an address on which only the run itself listens.
func routeAll() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return &Error{"find lo", err, ""}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return &Error{"bring lo up", err, ""}
	}
	for _, r := range []struct {
		to  string
		src net.IP
	}{{"0.0.0.0/0", net.IPv4(127, 0, 0, 1)}, {"::/0", net.IPv6loopback}} {
		_, to, err := net.ParseCIDR(r.to)
		if err != nil {
			return &Error{"route " + r.to, err, ""}
		}
		err = netlink.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: to, Src: r.src, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		})
		if err != nil {
			return &Error{"route " + r.to, err, "IPv6 must not be disabled in new network namespaces"}
		}
	}
	return nil
}
