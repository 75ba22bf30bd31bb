// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sort"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// capture runs a command on a network that is nobody else's, and prints what was sent there. Every address is the machine's
// own, so that no packet is lost for want of a route.
func capture(args []string) error {
	_, command, err := afterDashes(args)
	if err != nil {
		return err
	}
	if !isAgain() {
		attr := &syscall.SysProcAttr{}
		if os.Getuid() != 0 {
			attr = ownUser(os.Getuid(), os.Getgid())
			attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}
		}
		attr.Cloneflags |= unix.CLONE_NEWNET
		return again(attr)
	}
	for _, setting := range [][]string{
		{"link", "set", "lo", "up"}, {"route", "add", "local", "default", "dev", "lo"}, {"-6", "route", "add", "local", "default", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", setting...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", setting, err, out)
		}
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // packet(7): in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return fmt.Errorf("a packet socket: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdin, c.Stderr = os.Stdin, os.Stderr
	ended := make(chan error)
	go func() { ended <- c.Run() }()
	return watch(fd, ended)
}

// watch collects what was sent until a moment after the command's end, and prints each destination once.
func watch(fd int, ended <-chan error) error {
	var end <-chan time.Time
	var failed error
	sent := map[string]bool{}
	b := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err == nil {
			sent[packet(b[:n])] = true
			continue
		}
		if err != unix.EAGAIN {
			return fmt.Errorf("the packet socket: %w", err)
		}
		select {
		case failed = <-ended:
			end = time.After(300 * time.Millisecond)
		case <-end:
			lines := make([]string, 0, len(sent))
			for line := range sent {
				lines = append(lines, line)
			}
			sort.Strings(lines)
			for _, line := range lines {
				fmt.Println(line)
			}
			fmt.Printf("%d kinds of packets\n", len(lines))
			return exitLike(failed)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// packet is the protocol and the destination of a packet, with the port where there is one at the usual place.
func packet(b []byte) string {
	var proto byte
	var dst netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		proto, dst = b[9], netip.AddrFrom4([4]byte(b[16:20]))
		b = b[min(len(b), int(b[0]&15)*4):]
	case len(b) >= 40 && b[0]>>4 == 6:
		proto, dst = b[6], netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return fmt.Sprintf("other %x", b[:min(len(b), 20)])
	}
	if len(b) >= 4 && slices.Contains([]byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}, proto) {
		return fmt.Sprintf("proto %d %s", proto, netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])))
	}
	return fmt.Sprintf("proto %d %s", proto, dst)
}
