// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// netlinkConn is a socket of netlink(7) for questions that have one answer each.
type netlinkConn struct {
	mu   sync.Mutex
	file *os.File
}

// dialNetlink opens one in the network namespace of the calling thread. Errors have the name.
func dialNetlink(protocol int, name string) (*netlinkConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &netlinkConn{file: os.NewFile(uintptr(fd), name)}, nil
}

// Close may be called again, and of none.
func (c *netlinkConn) Close() error {
	if c == nil {
		return nil
	}
	return c.file.Close()
}

// query returns the answer.
func (c *netlinkConn) query(request []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	answer, n := make([]byte, 4096), 0
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.Sendto(int(fd), request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); failed == nil {
			// The kernel has put its answer into the queue when sendto returns: nothing waits here.
			n, _, failed = unix.Recvfrom(int(fd), answer, unix.MSG_DONTWAIT)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.file.Name(), err)
	}
	return answer[:n], nil
}
