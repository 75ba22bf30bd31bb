// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// listing is an open directory: first the names that the tree has, then those of the private home. An entry's offset
// is its place in that order, so that reading on is cheap and going back means reading again from the start.
type listing struct {
	mu    sync.Mutex
	fixed []fuse.DirEntry
	skip  map[string]*entry // names that the tree has: those of the private home below them do not show
	fd    int               // of the private home's directory, -1 without one

	at   uint64 // the offset of the next entry
	next *fuse.DirEntry
	buf  []byte // what is left of the last getdents64(2)
}

const listingBuffer = 16 << 10

// openListing opens a directory of the tree or the home for listing.
func (r *raw) openListing(n *node, out *fuse.OpenOut) fuse.Status {
	l := &listing{fd: -1}
	for _, dots := range [...]string{".", ".."} {
		l.fixed = append(l.fixed, fuse.DirEntry{Name: dots, Mode: unix.S_IFDIR, Ino: number(n.where)})
	}
	if n.kind == nodeTree {
		l.skip = n.entry.children
		for _, name := range n.entry.names {
			child := n.entry.children[name]
			l.fixed = append(l.fixed, fuse.DirEntry{Name: name, Mode: child.mode(), Ino: number(child.path)})
		}
	}
	if r.inUnion(n) {
		errno := r.home.in(n, r.homeRel(n), false, func(dir int) (err error) {
			l.fd, err = openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			return err
		})
		absent := errno == unix.ENOENT || errno == unix.ENOTDIR || errno == unix.ELOOP
		if errno != 0 && (n.kind == nodeHome || !absent) {
			return fuse.Status(errno)
		}
	}
	return r.opened(&handle{node: n, fd: -1, list: l}, &out.Fh)
}

func (e *entry) mode() uint32 {
	switch e.kind {
	case entryGrantFile:
		return unix.S_IFREG
	case entrySymlink:
		return unix.S_IFLNK
	}
	return unix.S_IFDIR
}

func (l *listing) close() { closeIf(l.fd) }

// ReadDir lists an open directory.
func (r *raw) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	h := r.files.get(in.Fh)
	if h == nil || h.list == nil {
		return fuse.EBADF
	}
	return fuse.Status(h.list.read(in.Offset, out.AddDirEntry))
}

// ReadDirPlus lists an open directory, and answers the lookup of each name that the tree has with it: whoever is about to
// use many of them need not ask for one after the other. Names of the home are looked up when they are used.
func (r *raw) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	h := r.files.get(in.Fh)
	if h == nil || h.list == nil {
		return fuse.EBADF
	}
	return fuse.Status(h.list.read(in.Offset, func(e fuse.DirEntry) bool {
		answer := out.AddDirLookupEntry(e)
		if answer == nil {
			return false
		}
		// A zero node is no answer (FUSE_READDIRPLUS in linux/fuse.h).
		if child := h.list.skip[e.Name]; child != nil && r.entered(r.nodes.entries[child], answer) != fuse.OK {
			*answer = fuse.EntryOut{}
		}
		return true
	}))
}

// ReleaseDir closes a directory.
func (r *raw) ReleaseDir(in *fuse.ReleaseIn) { r.closed(in.Fh) }

// FsyncDir writes a directory of the home to the disk.
func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := r.files.get(in.Fh)
	if h == nil || h.list == nil || h.list.fd < 0 {
		return fuse.OK
	}
	return fuse.Status(errnoOf(unix.Fsync(h.list.fd)))
}

// read calls add for the entries from an offset on, until it has no room.
func (l *listing) read(offset uint64, add func(fuse.DirEntry) bool) unix.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset != l.at {
		if errno := l.seek(offset); errno != 0 {
			return errno
		}
	}
	for {
		e, err := l.peek()
		if err != nil || e == nil {
			return errnoOf(err)
		}
		e.Off = l.at + 1
		if !add(*e) {
			return 0
		}
		l.advance()
	}
}

// seek goes to an offset by reading from the start.
func (l *listing) seek(offset uint64) unix.Errno {
	l.at, l.next, l.buf = 0, nil, nil
	if l.fd >= 0 {
		if _, err := unix.Seek(l.fd, 0, unix.SEEK_SET); err != nil {
			return errnoOf(err)
		}
	}
	for l.at < offset {
		e, err := l.peek()
		if err != nil {
			return errnoOf(err)
		}
		if e == nil {
			break
		}
		l.advance()
	}
	return 0
}

// peek returns the next entry, nil at the end.
func (l *listing) peek() (*fuse.DirEntry, error) {
	if l.at < uint64(len(l.fixed)) {
		return &l.fixed[l.at], nil
	}
	for l.next == nil && l.fd >= 0 {
		if len(l.buf) == 0 {
			buf := make([]byte, listingBuffer)
			n, err := unix.Getdents(l.fd, buf)
			if err != nil || n == 0 {
				return nil, err
			}
			l.buf = buf[:n]
		}
		e, size := parseDirent(l.buf)
		l.buf = l.buf[size:]
		if e.Name == "" || e.Name == "." || e.Name == ".." || l.skip[e.Name] != nil {
			continue
		}
		l.next = &e
	}
	return l.next, nil
}

func (l *listing) advance() {
	if l.at >= uint64(len(l.fixed)) {
		l.next = nil
	}
	l.at++
}

// parseDirent reads a struct linux_dirent64, getdents64(2): inode, offset, length, type, name. It consumes all of a
// buffer that it cannot make sense of.
func parseDirent(buf []byte) (fuse.DirEntry, int) {
	const header = 19
	if len(buf) < header {
		return fuse.DirEntry{}, len(buf)
	}
	size := int(binary.NativeEndian.Uint16(buf[16:]))
	if size < header || size > len(buf) {
		return fuse.DirEntry{}, len(buf)
	}
	name, _, _ := bytes.Cut(buf[header:size], []byte{0})
	return fuse.DirEntry{
		Ino:  binary.NativeEndian.Uint64(buf),
		Mode: uint32(buf[18]) << 12, // DTTOIF of dirent.h
		Name: string(name),
	}, size
}
