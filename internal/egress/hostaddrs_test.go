// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestHostAddrsAreListedAfterChanges runs itself in a network namespace that it may change.
func TestHostAddrsAreListedAfterChanges(t *testing.T) {
	if os.Getenv("EGRESS_TEST_HOSTADDRS") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "EGRESS_TEST_HOSTADDRS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	h := watchHostAddrs()
	lists := 0
	h.list = func() ([]netip.Addr, error) { lists++; return HostAddrs() }
	want := func(addr string, there bool, listed int) {
		t.Helper()
		addrs, err := h.now()
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(addrs, netip.MustParseAddr(addr)); got != there || lists != listed {
			t.Errorf("%s is there: %v, in list %d; want %v, %d", addr, got, lists, there, listed)
		}
	}
	change := func(addr string, with func(netlink.Link, *netlink.Addr) error) {
		t.Helper()
		_, network, err := net.ParseCIDR(addr)
		if err == nil {
			err = with(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}, &netlink.Addr{IPNet: network})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want("203.0.113.7", false, 1)
	want("203.0.113.7", false, 1)
	change("203.0.113.7/32", netlink.AddrAdd)
	want("203.0.113.7", true, 2)
	want("203.0.113.7", true, 2)
	change("2001:db8::7/128", netlink.AddrAdd)
	want("2001:db8::7", true, 3)
	for range 3000 { // more than the socket keeps: what is lost is a change
		change("203.0.113.7/32", netlink.AddrDel)
		change("203.0.113.7/32", netlink.AddrAdd)
	}
	change("203.0.113.7/32", netlink.AddrDel)
	want("203.0.113.7", false, 4)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	want("203.0.113.7", false, lists+1)
	want("203.0.113.7", false, lists+1)
}
