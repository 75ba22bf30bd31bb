// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// droppedUDP tells of the datagrams that the rules of ByRedirect drop: where from and where to, and nothing of what is in them. There is
// no answer to one.
type droppedUDP struct {
	log    packetLog
	closed chan struct{}

	mu    sync.Mutex
	buf   []byte
	queue []packet // read, and not told of
}

// newDroppedUDP listens in the network namespace of the calling thread.
func newDroppedUDP() (*droppedUDP, error) {
	d := &droppedUDP{closed: make(chan struct{}), buf: make([]byte, 64<<10)}
	if err := d.log.open(dropGroup); err != nil {
		d.log.close()
		return nil, err
	}
	return d, nil
}

// ReadFromTo waits for a datagram. After Close it returns those that had come before, and then net.ErrClosed.
func (d *droppedUDP) ReadFromTo([]byte) (n int, src, dst netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) == 0 {
		select {
		case <-d.closed:
			return 0, src, dst, net.ErrClosed
		default:
		}
		if d.queue, err = d.log.read(d.buf); errors.Is(err, os.ErrDeadlineExceeded) {
			d.mu.Unlock() // for Close, which takes the rest
			<-d.closed
			d.mu.Lock()
		} else if err != nil {
			return 0, src, dst, err
		}
	}
	p := d.queue[0]
	d.queue = d.queue[1:]
	return 0, unmap(p.src), unmap(p.dst), nil
}

// WriteFromTo sends nothing.
func (d *droppedUDP) WriteFromTo([]byte, netip.AddrPort, netip.AddrPort) error {
	return unix.EOPNOTSUPP
}

// Close ends the reading. It may be called again.
func (d *droppedUDP) Close() error {
	ends := d.log.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.closed:
		return nil
	default:
	}
	if ends {
		d.queue = append(d.queue, d.log.rest(d.buf)...)
	}
	close(d.closed)
	return d.log.close()
}
