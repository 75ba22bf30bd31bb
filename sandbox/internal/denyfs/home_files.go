// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// handle is an open file or directory.
type handle struct {
	node *node
	fd   int      // of a file; -1 for a directory
	list *listing // of a directory
}

func (h *handle) close() {
	if h.list != nil {
		h.list.close()
		return
	}
	unix.Close(h.fd)
}

// handles is the table of open files. Numbers are never used twice; 0 is none.
type handles struct {
	mu    sync.Mutex
	open  map[uint64]*handle
	next  uint64
	limit int
}

func newHandles() *handles {
	return &handles{open: make(map[uint64]*handle), limit: descriptors()}
}

// descriptors is how many descriptors files of the home may take, and how many their nodes may: what is open inside
// takes one here, and must not keep the launcher from opening its own.
func descriptors() int {
	const most, reserve = 1 << 14, 256
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur < 2*reserve {
		return reserve / 2
	}
	return int(min(most, (limit.Cur-reserve)/2))
}

// add takes a handle over and returns its number, 0 if there are too many; it is closed then.
func (t *handles) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= t.limit {
		h.close()
		return 0
	}
	t.next++
	t.open[t.next] = h
	return t.next
}

func (t *handles) get(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[fh]
}

// release closes a handle and returns what it was of, nil if there was none.
func (t *handles) release(fh uint64) *node {
	t.mu.Lock()
	h := t.open[fh]
	delete(t.open, fh)
	t.mu.Unlock()
	if h == nil {
		return nil
	}
	h.close()
	return h.node
}

func (t *handles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for fh, h := range t.open {
		h.close()
		delete(t.open, fh)
	}
}

// openFlags keeps of a caller's flags what matters to a regular file. A FIFO that took its place must not block.
func openFlags(flags uint32) int {
	const kept = unix.O_ACCMODE | unix.O_APPEND | unix.O_SYNC | unix.O_DSYNC
	return int(flags)&kept | unix.O_NOCTTY | unix.O_NONBLOCK
}

// openHomeFile opens a regular file of the home; the kernel opens no others here.
func (r *raw) openHomeFile(n *node, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if n.home.mode != unix.S_IFREG {
		return fuse.Status(unix.ENXIO)
	}
	if action := openAction(uint64(in.Flags)); action == ActionOpenWrite {
		if _, status := r.change(&in.InHeader, action); status != fuse.OK {
			return status
		}
	}
	fd := -1
	errno := r.home.asOwner(func() (err error) {
		fd, err = reopen(n.home.fd, openFlags(in.Flags))
		return err
	})
	if errno != 0 {
		return fuse.Status(errno)
	}
	return r.opened(&handle{node: n, fd: fd}, &out.Fh)
}

// opened gives out the number of a new handle.
func (r *raw) opened(h *handle, fh *uint64) fuse.Status {
	if *fh = r.files.add(h); *fh == 0 {
		return fuse.Status(unix.ENFILE)
	}
	r.nodes.opened(h.node, 1)
	return fuse.OK
}

// closed is the end of a handle.
func (r *raw) closed(fh uint64) {
	if n := r.files.release(fh); n != nil {
		r.nodes.opened(n, -1)
	}
}

// file returns the descriptor of an open file.
func (r *raw) file(fh uint64) (int, fuse.Status) {
	h := r.files.get(fh)
	if h == nil || h.list != nil {
		return -1, fuse.EBADF
	}
	return h.fd, fuse.OK
}

// Read reads from a file of the home.
func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	fd, status := r.file(in.Fh)
	if status != fuse.OK {
		return nil, status
	}
	n, err := unix.Pread(fd, buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	if err != nil {
		return nil, fuse.Status(errnoOf(err))
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes to a file of the home.
func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	fd, status := r.file(in.Fh)
	if status != fuse.OK {
		return 0, status
	}
	n, err := unix.Pwrite(fd, data, int64(in.Offset))
	if err != nil {
		return 0, fuse.Status(errnoOf(err))
	}
	return uint32(n), fuse.OK
}

// Flush has nothing to do: every write was made at once. It must not look at its caller, see host.call.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Release closes a file.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { r.closed(in.Fh) }

// Fsync writes a file of the home to the disk.
func (r *raw) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fd, status := r.file(in.Fh)
	if status != fuse.OK {
		return status
	}
	if in.FsyncFlags&1 != 0 { // FUSE_FSYNC_FDATASYNC of linux/fuse.h
		return fuse.Status(errnoOf(unix.Fdatasync(fd)))
	}
	return fuse.Status(errnoOf(unix.Fsync(fd)))
}

// Fallocate reserves space for a file of the home, or punches holes into it.
func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	fd, status := r.file(in.Fh)
	if status != fuse.OK {
		return status
	}
	return fuse.Status(errnoOf(unix.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length))))
}

// Lseek finds data and holes; the kernel seeks by itself otherwise.
func (r *raw) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	fd, status := r.file(in.Fh)
	if status != fuse.OK {
		return status
	}
	at, err := unix.Seek(fd, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(at)
	return fuse.Status(errnoOf(err))
}

// SetAttr changes size, mode and times of a file of the home.
func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, status := r.change(&in.InHeader, attrAction(in))
	if status != fuse.OK {
		return status
	}
	if status := r.ownerAndMode(n, in); status != fuse.OK {
		return status
	}
	if size, ok := in.GetSize(); ok {
		if status := r.truncate(n, in, int64(size)); status != fuse.OK {
			return status
		}
	}
	if errno := r.setTimes(n, in); errno != 0 {
		return fuse.Status(errno)
	}
	_, errno := r.attr(n, &out.Attr)
	return fuse.Status(errno)
}

// attrAction names what is changed, by the most telling of several.
func attrAction(in *fuse.SetAttrIn) Action {
	switch {
	case in.Valid&fuse.FATTR_SIZE != 0:
		return ActionTruncate
	case in.Valid&fuse.FATTR_MODE != 0:
		return ActionChmod
	case in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0:
		return ActionChown
	}
	return ActionUtime
}

// ownerAndMode accepts only the owner that the file has, and no set-uid or set-gid program.
func (r *raw) ownerAndMode(n *node, in *fuse.SetAttrIn) fuse.Status {
	if uid, ok := in.GetUID(); ok && uid != 0 {
		return fuse.EPERM
	}
	if gid, ok := in.GetGID(); ok && gid != 0 {
		return fuse.EPERM
	}
	mode, ok := in.GetMode()
	if !ok {
		return fuse.OK
	}
	if mode&unix.S_ISUID != 0 || mode&unix.S_ISGID != 0 && n.home.mode != unix.S_IFDIR {
		path, _ := r.nodes.path(n)
		return r.deny(in.Pid, Denial{ActionChmod, path, unix.EPERM, RuleSetID, "a set-uid or set-gid file", false})
	}
	return fuse.Status(r.home.asOwner(func() error { return unix.Fchmodat(unix.AT_FDCWD, link(n.home.fd), mode, 0) }))
}

func (r *raw) truncate(n *node, in *fuse.SetAttrIn, size int64) fuse.Status {
	if fh, ok := in.GetFh(); ok {
		fd, status := r.file(fh)
		if status != fuse.OK {
			return status
		}
		return fuse.Status(errnoOf(unix.Ftruncate(fd, size)))
	}
	if n.home.mode != unix.S_IFREG {
		return fuse.EINVAL
	}
	return fuse.Status(r.home.asOwner(func() error {
		fd, err := reopen(n.home.fd, openFlags(unix.O_WRONLY))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Ftruncate(fd, size)
	}))
}

func (r *raw) setTimes(n *node, in *fuse.SetAttrIn) unix.Errno {
	const either = fuse.FATTR_ATIME | fuse.FATTR_MTIME
	if in.Valid&either == 0 {
		return 0
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	set := func(t *unix.Timespec, has, now uint32, sec uint64, nsec uint32) {
		switch {
		case in.Valid&now != 0:
			t.Nsec = unix.UTIME_NOW
		case in.Valid&has != 0:
			*t = unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
		}
	}
	set(&times[0], fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	set(&times[1], fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)
	return r.home.asOwner(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, link(n.home.fd), times, 0) })
}
