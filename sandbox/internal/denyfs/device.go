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
	buffers sync.Pool
	workers sync.WaitGroup
	running atomic.Int32
	waiting atomic.Int32
	failure atomic.Pointer[error]
}

type buffers struct{ in, out [bufferSize]byte }

func (d *device) serve(dev *os.File, server *fuse.ProtocolServer) error {
	file, err := pollable(dev)
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
	}
	d.mu.Unlock()
	if err != nil {
		file.Close()
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

// pollable makes of the device a file that Go's poller waits for, and closes the one it came as: the connection ends
// with the last open copy.
func pollable(dev *os.File) (*os.File, error) {
	defer dev.Close()
	fd, err := unix.FcntlInt(dev.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("denyfs: duplicate the FUSE device: %w", err)
	}
	// The flag belongs to the open file, which os.NewFile looks at to tell whether to poll.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("denyfs: make the FUSE device pollable: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// close makes all reads of the workers fail, and those of later ones. It reports whether there were any.
func (d *device) close() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.file == nil {
		return false
	}
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
