// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// rawSocket sends whole IP packets and receives none (raw(7), IPPROTO_RAW).
type rawSocket struct{ file *os.File }

func newRawSocket(ipv6 bool) (*rawSocket, error) {
	family := unix.AF_INET
	if ipv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("raw socket: SO_MARK: %w", err)
	}
	return &rawSocket{os.NewFile(uintptr(fd), "raw")}, nil
}

// send never waits: what does not fit into the socket's buffer is an error, as a lost packet is anywhere.
func (r *rawSocket) send(packet []byte, dst netip.Addr) error {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: first4(dst)}
	if dst.Is6() {
		sa = &unix.SockaddrInet6{Addr: dst.As16()}
	}
	conn, err := r.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), packet, 0, sa) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("send to %v: %w", dst, err)
	}
	return nil
}

func first4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

func (r *rawSocket) Close() error { return r.file.Close() }
