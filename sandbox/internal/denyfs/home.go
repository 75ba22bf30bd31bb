// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// home is the private home: a directory of the host of which nothing outside is ever reached. Names are looked up one
// at a time below a descriptor, openat2(2), Linux 5.6; files that were found are kept as O_PATH descriptors and
// opened again through /proc/self/fd, so that a name that changes meanwhile cannot lead elsewhere.
type home struct {
	root     int
	uid, gid uint32
	foreign  bool // its owner is not who serves it, as under sudo
}

// beneath are the rules of every walk in the private home.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// openHome opens the private home; without one it returns nil, which is ready to be closed.
func openHome(c HomeConfig) (*home, error) {
	if c.Path == "" {
		return nil, nil
	}
	root, err := unix.Open(c.Private, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("denyfs: open the private home: %w", &os.PathError{Op: "open", Path: c.Private, Err: err})
	}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("denyfs: stat the private home: %w", err)
	}
	return &home{root: root, uid: st.Uid, gid: st.Gid, foreign: int(st.Uid) != unix.Geteuid()}, nil
}

func (h *home) close() {
	if h != nil {
		unix.Close(h.root)
	}
}

// asOwner runs f as the owner of the home, so that what is made belongs to them and nothing is reached that they
// could not reach. setfsuid(2) acts on one thread and cannot fail for root.
func (h *home) asOwner(f func() error) unix.Errno {
	if !h.foreign {
		return errnoOf(f())
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Setfsgid(int(h.gid))
	_ = unix.Setfsuid(int(h.uid))
	defer func() {
		_ = unix.Setfsuid(unix.Geteuid())
		_ = unix.Setfsgid(unix.Getegid())
	}()
	return errnoOf(f())
}

// errnoOf returns the errno of an error, EIO for one that has none.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	}
	return unix.EIO
}

// openat opens a name below dir; all names of it must be directories but the last.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: uint64(mode), Resolve: beneath}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed during the walk, openat2(2).
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// link is the path that opens a descriptor's file again.
func link(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens the file of an O_PATH descriptor.
func reopen(fd, flags int) (int, error) {
	for {
		again, err := unix.Open(link(fd), flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return again, err
		}
	}
}

// open returns a new O_PATH descriptor of a directory of the home by its relative path.
func (h *home) open(rel string) (int, unix.Errno) {
	var fd int
	errno := h.asOwner(func() (err error) {
		if rel == "" {
			rel = "."
		}
		fd, err = openat(h.root, rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		return err
	})
	return fd, errno
}

// in runs f, as the owner, with a descriptor of a directory: that of a node, or the one at rel, which is made first
// if asked for. The tree has directories that the private home lacks until something is made in them.
func (h *home) in(n *node, rel string, create bool, f func(dir int) error) unix.Errno {
	return h.asOwner(func() error { return h.at(n, rel, create, f) })
}

// at is in for who is the owner already.
func (h *home) at(n *node, rel string, create bool, f func(dir int) error) error {
	if n.kind == nodeHome {
		return f(n.home.fd)
	}
	if create {
		if err := h.makeAll(rel); err != nil {
			return err
		}
	}
	if rel == "" {
		return f(h.root)
	}
	dir, err := openat(h.root, rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return f(dir)
}

func (h *home) makeAll(rel string) error {
	dir := h.root
	for name := range strings.SplitSeq(rel, "/") {
		if name == "" {
			break
		}
		if err := unix.Mkdirat(dir, name, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		next, err := openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(next)
		dir = next
	}
	return nil
}

// lookup finds a name in a directory of the home. A directory that the private home lacks has no names.
func (h *home) lookup(parent *node, rel, name string) (homeFile, unix.Errno) {
	var f homeFile
	errno := h.in(parent, rel, false, func(dir int) error { return f.find(dir, name) })
	if errno == unix.ENOTDIR || errno == unix.ELOOP {
		errno = unix.ENOENT // the private home has another kind of file where the tree has a directory
	}
	return f, errno
}

func (f *homeFile) find(dir int, name string) error {
	fd, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return f.take(fd)
}

// take takes over the O_PATH descriptor of the file.
func (f *homeFile) take(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	f.fd, f.key, f.mode = fd, inodeKey{uint64(st.Dev), st.Ino}, st.Mode&unix.S_IFMT
	return nil
}

// has reports whether the private home has a name. What cannot be looked at is taken for present: it is not made.
func (h *home) has(parent *node, rel, name string) bool {
	var st unix.Stat_t
	errno := h.in(parent, rel, false, func(dir int) error {
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return errno == 0
}

// attr fills in a file's attributes. Its owner is 0 inside, and other owners are nobody there.
func (h *home) attr(fd int, a *fuse.Attr) unix.Errno {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errnoOf(err)
	}
	*a = fuse.Attr{
		Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks), Mode: st.Mode, Nlink: uint32(st.Nlink),
		Atime: uint64(st.Atim.Sec), Mtime: uint64(st.Mtim.Sec), Ctime: uint64(st.Ctim.Sec),
		Atimensec: uint32(st.Atim.Nsec), Mtimensec: uint32(st.Mtim.Nsec), Ctimensec: uint32(st.Ctim.Nsec),
		Rdev: uint32(st.Rdev), Blksize: uint32(st.Blksize),
	}
	if st.Uid != h.uid {
		a.Uid = nobody
	}
	if st.Gid != h.gid {
		a.Gid = nobody
	}
	return 0
}

// nobody is the overflow uid and gid, user_namespaces(7).
const nobody = 65534

// access checks a file's permissions as its owner, who the caller is. A directory that the private home lacks may
// be written to: it is made when something is made in it.
func (h *home) access(f *FS, n *node, mask uint32) fuse.Status {
	var a fuse.Attr
	if _, errno := f.attr(n, &a); errno != 0 {
		return fuse.Status(errno)
	}
	granted := a.Mode >> 6 & 7
	if a.Uid != 0 {
		granted = a.Mode & 7
	}
	if mask&^granted&7 != 0 {
		return fuse.EACCES
	}
	return fuse.OK
}

func (h *home) readlink(fd int) ([]byte, fuse.Status) {
	buf := make([]byte, maxPath)
	var n int
	errno := h.asOwner(func() (err error) {
		n, err = unix.Readlinkat(fd, "", buf)
		return err
	})
	if errno != 0 {
		return nil, fuse.Status(errno)
	}
	return buf[:n], fuse.OK
}

func (h *home) statfs(out *fuse.StatfsOut) fuse.Status {
	var st unix.Statfs_t
	if err := unix.Fstatfs(h.root, &st); err != nil {
		return fuse.Status(errnoOf(err))
	}
	*out = fuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: uint32(st.Namelen),
	}
	return fuse.OK
}
