// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// HostAddrs lists the addresses of the host's interfaces.
func HostAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}

// hostAddrs is HostAddrs for each connection: the list is made anew only after the kernel has told of a change. It tells before it takes
// a new address for its own (inet_insert_ifa of net/ipv4/devinet.c, ipv6_ifa_notify of net/ipv6/addrconf.c), so that no address
// of the host's can be connected to that is not in the list.
type hostAddrs struct {
	mu     sync.Mutex
	socket int // of netlink(7), that hears of changes; -1 without one: each list is new
	list   func() ([]netip.Addr, error)
	addrs  []netip.Addr
	known  bool // addrs are those of the host, unless the socket has something to tell
}

// watchHostAddrs listens for changes, in the network namespace of the caller.
func watchHostAddrs() *hostAddrs {
	h := &hostAddrs{socket: -1, list: HostAddrs}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return h
	}
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}) != nil {
		unix.Close(fd)
		return h
	}
	h.socket = fd
	return h
}

// now lists the addresses. The list is the caller's to read alone.
func (h *hostAddrs) now() ([]netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed() || !h.known {
		h.known = false
		addrs, err := h.list()
		if err != nil {
			return nil, err
		}
		h.addrs, h.known = addrs, h.socket >= 0
	}
	return h.addrs, nil
}

// changed takes what the kernel has told. Whatever it is, and be it that something was lost (ENOBUFS), there may be a change.
func (h *hostAddrs) changed() bool {
	if h.socket < 0 {
		return true
	}
	const most = 1024 // messages; behind those that are left the next list is new again
	var b [1]byte     // a message is cut: that there is one is all
	for n := range most {
		if _, _, err := unix.Recvfrom(h.socket, b[:], unix.MSG_DONTWAIT); err == unix.EAGAIN {
			return n > 0
		}
	}
	return true
}

// Close ends the listening: each list is new then.
func (h *hostAddrs) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.socket < 0 {
		return nil
	}
	fd := h.socket
	h.socket, h.known = -1, false
	return unix.Close(fd)
}
