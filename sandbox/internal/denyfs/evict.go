// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel keeps a name that it looked up until memory is short, even one with no timeout, which it asks for again
// at each use. Whoever looks up enough names would make us remember as many: so beyond a number the oldest are taken
// out of its cache, and it then says that it forgot them.
const (
	// keep is how many files and directories are remembered without need.
	keep = 1024
	// evictions is how many may wait to be taken out; more are tried again later.
	evictions = 256
	// maxEntered bounds the directories of the home that stay because a process may work in them: taken out of the
	// cache, getcwd(2) would fail there.
	maxEntered = 4096
	// stopWait is how long the end of the service waits for the name that is being taken out.
	stopWait = time.Second
)

// eviction is a name to take out of the kernel's cache.
type eviction struct {
	parent uint64
	name   string
}

// evictor takes names out of the kernel's cache. That waits for requests in the same directory, so it has a goroutine
// and a descriptor of its own: the answers of the workers must not wait for it.
type evictor struct {
	names chan eviction
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newEvictor() *evictor {
	return &evictor{names: make(chan eviction, evictions), stop: make(chan struct{}), done: make(chan struct{})}
}

// offer queues a name unless too many wait.
func (e *evictor) offer(name eviction) {
	select {
	case e.names <- name:
	default:
	}
}

// run takes names out through a descriptor, which it closes at the end.
func (e *evictor) run(fd int) {
	defer close(e.done)
	defer unix.Close(fd)
	for {
		select {
		case <-e.stop:
			return
		case name := <-e.names:
			// ENOENT: the kernel does not know the name any more.
			_, _ = unix.Write(fd, name.message())
		}
	}
}

// end stops run. While it waits for a request to be answered, the workers must be there to do so.
func (e *evictor) end() {
	e.once.Do(func() { close(e.stop) })
	select {
	case <-e.done:
	case <-time.After(stopWait): // a question to the host hangs; its descriptor is closed with the process
	}
}

// message is a FUSE_NOTIFY_INVAL_ENTRY of linux/fuse.h: fuse_out_header, fuse_notify_inval_entry_out, name, NUL.
func (e eviction) message() []byte {
	const header, code = 32, 3
	b := make([]byte, header+len(e.name)+1)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], code)
	binary.NativeEndian.PutUint64(b[16:], e.parent)
	binary.NativeEndian.PutUint32(b[24:], uint32(len(e.name)))
	copy(b[header:], e.name)
	return b
}

// evict offers the oldest nodes beyond keep. Callers hold n.mu.
func (n *nodes) evict() {
	// More than one, so that those that stayed in use meanwhile are caught up on; few, so that it costs little.
	for range min(4, n.idle.Len()-keep) {
		front := n.idle.Front()
		found := front.Value.(*node)
		n.idle.MoveToBack(front) // until the kernel says that it forgot it
		if found.opens == 0 && !found.entered {
			n.offer(eviction{found.parent.id, found.name})
		}
	}
}

// opened counts what holds a file of the home open; such a file stays in the kernel's cache.
func (n *nodes) opened(of *node, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of.opens += by
}

// enter marks a directory that a process may work in from now on.
func (n *nodes) enter(of *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !of.entered && n.entered < maxEntered {
		of.entered = true
		n.entered++
	}
}
