// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxWrite is the most that one request reads or writes.
	maxWrite = 128 << 10
	// bufferSize has room for the headers too; no header is longer than a few hundred bytes.
	bufferSize = maxWrite + 4096

	// maxWorkers bounds how many requests are answered at once. It is more than all slots of host together, so that
	// some are always left for reads of the home, on which a question to /proc may depend.
	maxWorkers = 64
	// maxWaiting is how many workers may wait for requests before the next one ends.
	maxWaiting = 4
)

// device is the connection to the kernel. go-fuse's own server blocks its threads in read(2), from which nothing but
// an unmount wakes them, and starts a thread for each request that blocks; this one waits in the poller, so that it
// can be closed, and has a bounded number of workers.
type device struct {
	mu     sync.Mutex
	file   *os.File
	closed bool

	server  *fuse.ProtocolServer
	evictor *evictor
	buffers sync.Pool
	workers sync.WaitGroup
	running atomic.Int32
	waiting atomic.Int32
	failure atomic.Pointer[error]
}

type buffers struct{ in, out [bufferSize]byte }

func (d *device) serve(dev *os.File, server *fuse.ProtocolServer) error {
	file, second, err := open(dev)
	if err != nil {
		return err
	}
	d.mu.Lock()
	switch {
	case d.file != nil:
		err = errors.New("denyfs: bug: served twice")
	case d.closed:
		err = os.ErrClosed
	default:
		d.file = file
		go d.evictor.run(second)
	}
	d.mu.Unlock()
	if err != nil {
		file.Close()
		unix.Close(second)
		return err
	}
	d.server = server
	d.buffers.New = func() any { return new(buffers) }
	for range 2 {
		d.spawn()
	}
	d.workers.Wait()
	d.close()
	if failure := d.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

// open makes of the device a file that Go's poller waits for, and a second descriptor, and closes the one it came as:
// the connection ends with the last open copy.
func open(dev *os.File) (*os.File, int, error) {
	defer dev.Close()
	var fds [2]int
	for i := range fds {
		fd, err := unix.FcntlInt(dev.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			if i > 0 {
				unix.Close(fds[0])
			}
			return nil, 0, fmt.Errorf("denyfs: duplicate the FUSE device: %w", err)
		}
		fds[i] = fd
	}
	// The flag belongs to the open file, which os.NewFile looks at to tell whether to poll.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, 0, fmt.Errorf("denyfs: make the FUSE device pollable: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "/dev/fuse"), fds[1], nil
}

// close makes all reads of the workers fail, and those of later ones. It reports whether there were any.
func (d *device) close() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.file == nil {
		return false
	}
	d.evictor.end()
	d.file.Close()
	return true
}

func (d *device) spawn() {
	d.running.Add(1)
	d.workers.Add(1)
	go d.work()
}

func (d *device) work() {
	defer d.workers.Done()
	defer d.running.Add(-1)
	b := d.buffers.Get().(*buffers)
	defer d.buffers.Put(b)
	for {
		d.waiting.Add(1)
		n, err := d.file.Read(b.in[:])
		left := d.waiting.Add(-1)
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue // the request was interrupted before it was read
		case errors.Is(err, unix.ENODEV), errors.Is(err, os.ErrClosed), errors.Is(err, unix.ECONNABORTED):
			d.close() // unmounted or aborted: the other workers need not find out by themselves
			return
		default:
			if d.gone() {
				d.close()
				return
			}
			err = fmt.Errorf("denyfs: read a request: %w", err)
			d.failure.CompareAndSwap(nil, &err)
			d.close()
			return
		}
		if left == 0 && d.running.Load() < maxWorkers {
			d.spawn()
		}
		d.answer(b, n)
		if left >= maxWaiting {
			return
		}
	}
}

// gone reports whether the connection has ended, or another worker closed the device. The poller has an error of its
// own for the former, which is not exported.
func (d *device) gone() bool {
	conn, err := d.file.SyscallConn()
	if err != nil {
		return true
	}
	// An ended connection polls as POLLERR, an open one never does: fuse_dev_poll of the kernel.
	poll := []unix.PollFd{{}}
	err = conn.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		_, _ = unix.Poll(poll, 0)
	})
	return err != nil || poll[0].Revents&unix.POLLERR != 0
}

// answer handles one request. An answer that the kernel no longer waits for is lost, which is fine.
func (d *device) answer(b *buffers, n int) {
	m, status := d.server.HandleRequest([][]byte{b.in[:n]}, [][]byte{b.out[:]})
	if status != fuse.OK {
		m = refuse(b.in[:n], b.out[:], status)
	}
	if m > 0 {
		_, _ = d.file.Write(b.out[:m])
	}
}

// refuse answers a request that go-fuse could not parse, so that its caller does not wait for ever. The headers are
// struct fuse_in_header and fuse_out_header of linux/fuse.h.
func refuse(in, out []byte, status fuse.Status) int {
	const outHeader, unique = 16, 8
	if len(in) < unique+8 {
		return 0
	}
	binary.NativeEndian.PutUint32(out[0:], outHeader)
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(status)))
	copy(out[8:16], in[unique:unique+8])
	return outHeader
}
