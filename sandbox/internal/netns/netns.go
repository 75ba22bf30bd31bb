// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is the network namespace of a run. Its methods may be called from any goroutine.
type Namespace struct {
	file      *os.File // keeps the namespace
	ipv6      bool
	mechanism Mechanism
	fallback  error // see Fallback
	tcp       []net.Listener
	udp       []*UDP
	dropped   *droppedUDP // nil where udp has all datagrams, or none but those to port 53 can be had
	owner     *owners
	watch     *watcher // nil without a Watch
}

// New makes a network namespace with nothing in it: no interface is up, so nothing reaches anything, until Capture. The
// error is an *Error that names what is missing.
func New() (*Namespace, error) {
	n := &Namespace{}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fail("network namespace", fixNamespace, fmt.Errorf("unshare: %w", err))
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fail("network namespace", fixLink, err)
		}
		n.file = file
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Capture brings the namespace up, with every address captured; with a Watch, where one is given. ports are those at which a
// gateway may have something to grant: see ByPorts. It is called once, and what fails in it leaves the namespace closed to
// everything. The error is an *Error that names what is missing.
func (n *Namespace) Capture(watch *Watch, ports []uint16) error {
	return n.captureBy(mechanisms, watch, ports)
}

// captureBy takes the first of the mechanisms that works here.
func (n *Namespace) captureBy(mechanisms []Mechanism, watch *Watch, ports []uint16) error {
	// Sockets keep the namespace that they were made in.
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fail("network namespace", fixNamespace, fmt.Errorf("setns: %w", err))
		}
		return n.build(mechanisms, watch, ports)
	})
}

// onOwnThread calls f on a thread that ends with it.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread stands for the process in /proc/PID/ns/net: another one is taken while this one waits.
			done <- onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // without UnlockOSThread the runtime ends the thread
	}()
	return <-done
}

func (n *Namespace) build(mechanisms []Mechanism, watch *Watch, ports []uint16) error {
	var err error
	if n.ipv6, err = configureLink(); err != nil {
		return fail("loopback interface", fixLink, err)
	}
	if n.owner, err = newOwners(n.file); err != nil {
		return fail("socket owners", fixDiag, err)
	}
	var granted []uint16
	if watch != nil {
		granted = watch.Granted
		if n.watch = (&watcher{Watch: *watch}); n.watch.log.open(logGroup) != nil {
			n.unwatch()
		}
	}
	for _, m := range mechanisms {
		if err = n.use(m, granted, ports); err == nil {
			n.mechanism = m
			break
		}
		if n.fallback == nil {
			n.fallback = err
		}
	}
	if err != nil {
		return allFailed(n.fallback, err)
	}
	if n.mechanism == ByRedirect {
		// Without it some events lack their process, as they do where a socket is gone.
		n.owner.tracking.netlinkConn, _ = dialNetlink(unix.NETLINK_NETFILTER, "conntrack")
	}
	if n.watch != nil {
		n.watch.start(n)
	}
	return nil
}

// loIndex is LOOPBACK_IFINDEX (net/net_namespace.h): lo is the first interface of every namespace.
const loIndex = 1

// configureLink brings lo up and makes every address local. It tells whether there is IPv6.
func configureLink() (ipv6 bool, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false, err
	}
	defer h.Close()
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: loIndex}}
	if err := h.LinkSetUp(lo); err != nil {
		return false, err
	}
	if err := localDefault(h, lo, loopback4); err != nil {
		return false, fmt.Errorf("route of IPv4: %w", err)
	}
	if err := ownAddress(h, lo, own4); err != nil {
		return false, fmt.Errorf("address of IPv4: %w", err)
	}
	err = localDefault(h, lo, loopback6)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // booted with ipv6.disable=1, or built without
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		// The host's setting was handed down (net.core.devconf_inherit_init_net).
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0); err != nil {
			return false, fmt.Errorf("IPv6 is disabled: %w", err)
		}
		err = localDefault(h, lo, loopback6)
	}
	if err != nil {
		return false, fmt.Errorf("route of IPv6: %w", err)
	}
	if err := ownAddress(h, lo, own6); err != nil {
		return false, fmt.Errorf("address of IPv6: %w", err)
	}
	return true, nil
}

// Addresses that are there to be counted: a resolver that is asked for those of families that are configured (AI_ADDRCONFIG,
// getaddrinfo(3)) does not count loopback's. Nothing answers at them: the dummy address of RFC 7600, and one of the prefix of RFC 6666.
var (
	own4 = netip.AddrFrom4([4]byte{192, 0, 0, 8})
	own6 = netip.MustParseAddr("100::1")
)

// ownAddress is `ip addr add ADDR dev lo preferred_lft 0`: as a source it is the last to be taken (RFC 6724).
func ownAddress(h *netlink.Handle, lo netlink.Link, addr netip.Addr) error {
	const forever = 1<<32 - 1 // INFINITY_LIFE_TIME, net/addrconf.h
	a := &netlink.Addr{
		IPNet:    &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
		ValidLft: forever, Scope: unix.RT_SCOPE_HOST,
	}
	if addr.Is6() {
		a.Flags, a.Scope = unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE
	}
	return h.AddrAdd(lo, a)
}

// localDefault is `ip route add local default dev lo src ADDR`. With a source that is the same for all, answers come to an
// address that is told from captured ones, and no connection can meet itself (it would come from the address it goes to).
func localDefault(h *netlink.Handle, lo netlink.Link, src netip.Addr) error {
	return h.RouteAdd(&netlink.Route{
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST, LinkIndex: lo.Attrs().Index,
		Dst: &net.IPNet{IP: make(net.IP, src.BitLen()/8), Mask: net.CIDRMask(0, src.BitLen())}, Src: src.AsSlice(),
	})
}

// option is a socket option with a number as its value.
type option struct {
	level, name, value int
}

// transparent is the option of a socket that takes what goes to every address (ip(7), ipv6(7)).
func transparent(addr netip.Addr) option {
	if addr.Is6() {
		return option{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	}
	return option{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
}

// control sets options on a socket before it is bound.
func control(options []option) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			for _, o := range options {
				if err := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil && failed == nil {
					failed = fmt.Errorf("setsockopt %d, %d: %w", o.level, o.name, err)
				}
			}
		})
		return errors.Join(err, failed)
	}
}

// Path names the namespace for setns(2) and libcontainer, in this process and its children.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// File is the namespace. It stays open until Close.
func (n *Namespace) File() *os.File { return n.file }

// Inside connects to a port of the run's own loopback, over IPv4 or, where nobody listens there, IPv6.
func (n *Namespace) Inside(ctx context.Context, port uint16) (conn net.Conn, err error) {
	err = onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		// By its mark the connection is none of the command's, which would be captured where nobody listens.
		d := net.Dialer{Control: control([]option{{unix.SOL_SOCKET, unix.SO_MARK, mark}})}
		d.SetMultipathTCP(false)
		for _, addr := range []netip.Addr{loopback4, loopback6} {
			c, failed := d.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
			if failed == nil {
				conn = c
				return nil
			}
			if err == nil || addr.Is4() {
				err = failed
			}
		}
		return err
	})
	return conn, err
}

// IPv6 reports whether the namespace has it.
func (n *Namespace) IPv6() bool { return n.ipv6 }

// Listeners returns what captures the run's traffic. Close closes them too.
func (n *Namespace) Listeners() (tcp []net.Listener, udp []PacketConn) {
	for _, u := range n.udp {
		udp = append(udp, u)
	}
	if n.dropped != nil {
		udp = append(udp, n.dropped)
	}
	return n.tcp, udp
}

// Close releases the namespace, which ends with the last process in it. It may be called again.
func (n *Namespace) Close() error {
	var errs []error
	for _, l := range n.tcp {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	for _, u := range n.udp {
		errs = append(errs, ignoreClosed(u.Close()))
	}
	if n.dropped != nil {
		errs = append(errs, n.dropped.Close())
	}
	if n.watch != nil {
		errs = append(errs, n.watch.close())
	}
	if n.owner != nil {
		errs = append(errs, ignoreClosed(n.owner.Close()))
	}
	if n.file != nil {
		errs = append(errs, ignoreClosed(n.file.Close()))
	}
	return errors.Join(errs...)
}

// closeListeners forgets what listens.
func (n *Namespace) closeListeners() {
	for _, l := range n.tcp {
		l.Close()
	}
	for _, u := range n.udp {
		u.Close()
	}
	n.tcp, n.udp = nil, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
