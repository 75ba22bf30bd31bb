// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const setID = unix.S_ISUID | unix.S_ISGID

// Create makes and opens a file of the home.
func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir, _, status := r.permit(&in.InHeader, in.NodeId, name, ActionCreate, false)
	if status != fuse.OK {
		return status
	}
	mode := in.Mode & 0o7777 &^ setID
	var file homeFile
	fd := -1
	errno := r.home.in(dir, r.homeRel(dir), true, func(at int) (err error) {
		flags := openFlags(in.Flags) | int(in.Flags)&unix.O_EXCL | unix.O_CREAT | unix.O_NOFOLLOW
		if fd, err = openat(at, name, flags, mode); err != nil {
			return err
		}
		return file.made(fd, mode)
	})
	if errno != 0 {
		closeIf(fd)
		return fuse.Status(errno)
	}
	return r.created(r.nodes.file(file, dir, name), fd, out)
}

// made takes the descriptor of a new, open file.
func (f *homeFile) made(fd int, mode uint32) error {
	if err := exactMode(fd, mode); err != nil {
		return err
	}
	path, err := reopen(fd, unix.O_PATH)
	if err != nil {
		return err
	}
	if err := f.take(path); err != nil {
		return err
	}
	if f.mode != unix.S_IFREG { // somebody outside was faster
		unix.Close(path)
		return unix.EEXIST
	}
	return nil
}

// created enters a file that was made, with its handle.
func (r *raw) created(n *node, fd int, out *fuse.CreateOut) fuse.Status {
	if status := r.entered(n, &out.EntryOut); status != fuse.OK {
		unix.Close(fd)
		return status
	}
	status := r.opened(&handle{node: n, fd: fd}, &out.Fh)
	if status != fuse.OK {
		r.nodes.forget(n.id, 1)
	}
	return status
}

// exactMode gives a new file the mode that was asked for: the kernel applied the caller's umask to it, and open and
// mkdir that of the process that serves.
func exactMode(fd int, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o7777 == mode {
		return err
	}
	return unix.Fchmodat(unix.AT_FDCWD, link(fd), mode, 0)
}

func closeIf(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// Mknod makes a file, FIFO or socket of the home. Devices are refused: nothing may be had through them.
func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	action := ActionMknod
	kind := in.Mode & unix.S_IFMT
	switch kind {
	case unix.S_IFREG:
		action = ActionCreate
	case unix.S_IFSOCK:
		action = ActionBind
	}
	dir, path, status := r.permit(&in.InHeader, in.NodeId, name, action, false)
	if status != fuse.OK {
		return status
	}
	if kind != unix.S_IFREG && kind != unix.S_IFIFO && kind != unix.S_IFSOCK {
		d := r.tree.denial(path, action)
		d.Errno, d.Reason = unix.EPERM, "a device"
		return r.deny(in.Pid, d)
	}
	mode := in.Mode & 0o7777 &^ setID
	return r.make(dir, name, mode, out, func(at int) error { return unix.Mknodat(at, name, kind|mode, 0) })
}

// Mkdir makes a directory of the home.
func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, _, status := r.permit(&in.InHeader, in.NodeId, name, ActionMkdir, false)
	if status != fuse.OK {
		return status
	}
	mode := in.Mode & 0o7777 &^ unix.S_ISUID
	return r.make(dir, name, mode, out, func(at int) error { return unix.Mkdirat(at, name, mode) })
}

// Symlink makes a symbolic link of the home. It may point anywhere: the kernel follows it inside the jail.
func (r *raw) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir, _, status := r.permit(h, h.NodeId, name, ActionSymlink, true)
	if status != fuse.OK {
		return status
	}
	return r.make(dir, name, anyMode, out, func(at int) error { return unix.Symlinkat(target, at, name) })
}

// Link gives a file of the home another name in it.
func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	source := fuse.InHeader{NodeId: in.Oldnodeid, Caller: in.Caller}
	n, status := r.change(&source, ActionLink)
	if status != fuse.OK {
		return status
	}
	dir, _, status := r.permit(&in.InHeader, in.NodeId, name, ActionLink, n.home.mode == unix.S_IFLNK)
	if status != fuse.OK {
		return status
	}
	return r.make(dir, name, anyMode, out, func(at int) error {
		return unix.Linkat(unix.AT_FDCWD, link(n.home.fd), at, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// anyMode leaves the mode of what was made as it is.
const anyMode = ^uint32(0)

// make makes a name in a directory of the home and enters it.
func (r *raw) make(dir *node, name string, mode uint32, out *fuse.EntryOut, f func(at int) error) fuse.Status {
	var file homeFile
	errno := r.home.in(dir, r.homeRel(dir), true, func(at int) error {
		if err := f(at); err != nil {
			return err
		}
		if err := file.find(at, name); err != nil || mode == anyMode {
			return err
		}
		if err := exactMode(file.fd, mode); err != nil {
			unix.Close(file.fd)
			return err
		}
		return nil
	})
	if errno != 0 {
		return fuse.Status(errno)
	}
	return r.entered(r.nodes.file(file, dir, name), out)
}

// Unlink removes a file of the home.
func (r *raw) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.remove(h, name, ActionUnlink, 0)
}

// Rmdir removes a directory of the home.
func (r *raw) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return r.remove(h, name, ActionRmdir, unix.AT_REMOVEDIR)
}

func (r *raw) remove(h *fuse.InHeader, name string, action Action, flags int) fuse.Status {
	dir, _, status := r.alter(h, h.NodeId, name, action)
	if status != fuse.OK {
		return status
	}
	return fuse.Status(r.home.in(dir, r.homeRel(dir), false, func(at int) error {
		return unix.Unlinkat(at, name, flags)
	}))
}

// Rename moves a file or directory within the home.
func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL // RENAME_WHITEOUT makes a device
	}
	from, oldPath, status := r.alter(&in.InHeader, in.NodeId, oldName, ActionRename)
	if status != fuse.OK {
		return status
	}
	to, newPath, status := r.permit(&in.InHeader, in.Newdir, newName, ActionRename, false)
	if status != fuse.OK {
		return status
	}
	moves := []move{{from, oldName, to, newName, newPath}}
	if in.Flags&unix.RENAME_EXCHANGE != 0 {
		moves = append(moves, move{to, newName, from, oldName, oldPath})
	}
	var keys []inodeKey
	for _, m := range moves {
		key, d, ok := r.movable(m)
		if !ok {
			return r.deny(in.Pid, d)
		}
		keys = append(keys, key)
	}
	errno := r.home.in(from, r.homeRel(from), false, func(a int) error {
		return r.home.at(to, r.homeRel(to), true, func(b int) error {
			return unix.Renameat2(a, oldName, b, newName, uint(in.Flags))
		})
	})
	if errno != 0 {
		return fuse.Status(errno)
	}
	for i, m := range moves {
		r.nodes.moved(keys[i], m.to, m.newName)
	}
	return fuse.OK
}

// move is one direction of a rename.
type move struct {
	from    *node
	name    string
	to      *node
	newName string
	newPath string
}

// movable decides whether what is moved may get its new name: a directory must not bring protected files to their
// place, nor a symbolic link stand in for it.
func (r *raw) movable(m move) (inodeKey, Denial, bool) {
	rel, _ := r.tree.relative(m.newPath)
	guarded := protectedBelow(rel)
	var st unix.Stat_t
	brings := false
	_ = r.home.in(m.from, r.homeRel(m.from), false, func(at int) error {
		if err := unix.Fstatat(at, m.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		brings = len(guarded) > 0 && st.Mode&unix.S_IFMT == unix.S_IFLNK
		for _, p := range guarded {
			if fd, err := openat(at, m.name+"/"+p, unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
				unix.Close(fd)
				brings = true
			}
		}
		return nil
	})
	d := Denial{ActionRename, m.newPath, unix.EACCES, RuleProtected, "would bring protected files to their place", false}
	return inodeKey{uint64(st.Dev), st.Ino}, d, !brings
}
