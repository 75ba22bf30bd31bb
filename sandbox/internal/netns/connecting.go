// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"strconv"
	"sync"
)

// maxConnecting bounds the sockets that are remembered; more are searched for.
const maxConnecting = 1024

// connecting are the sockets that somebody was seen to connect, by their inodes: of several processes that have one it is that of the
// connection, and to look there is a call, where a search takes many.
type connecting struct {
	mu   sync.Mutex
	ends map[uint32]end
}

// An end is where a thread has a socket.
type end struct{ tid, fd int }

// Connects says that a thread is about to connect a socket of the namespace, of which it has a descriptor.
func (n *Namespace) Connects(inode uint64, tid, fd int) {
	c := &n.owner.connecting
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil || len(c.ends) >= maxConnecting {
		c.ends = make(map[uint32]end)
	}
	c.ends[uint32(inode)] = end{tid, fd} // the kernel tells of sockets by these 32 bits, too (sock_diag(7))
}

// thread is who connected a socket and still has it there, 0 for none: whoever got its number later has not.
func (c *connecting) thread(inode uint32, link string) (tid int) {
	c.mu.Lock()
	e, ok := c.ends[inode]
	c.mu.Unlock()
	if !ok {
		return 0
	}
	if at, err := os.Readlink(directory(e.tid) + "/fd/" + strconv.Itoa(e.fd)); err != nil || at != link {
		return 0
	}
	return e.tid
}
