// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// deny reports a refusal and returns its errno.
func (r *raw) deny(tid uint32, d Denial) fuse.Status {
	r.reports.denied(tid, d)
	return fuse.Status(d.Errno)
}

// denyNode refuses something that is done to a node itself.
func (r *raw) denyNode(h *fuse.InHeader, n *node, a Action) fuse.Status {
	path, ok := r.nodes.path(n)
	if !ok {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	return r.deny(h.Pid, r.tree.denial(path, a))
}

// permit decides whether the home lets a name be made in a directory. It reports the refusal, and returns the
// directory and the path of the name if there is none.
func (r *raw) permit(h *fuse.InHeader, dirID uint64, name string, a Action, symlink bool) (*node, string, fuse.Status) {
	dir := r.nodes.get(dirID)
	if dir == nil {
		return nil, "", fuse.Status(unix.ESTALE)
	}
	path, errno := r.nodes.child(dir, name)
	if errno != 0 {
		return nil, "", fuse.Status(errno)
	}
	n := Naming{Path: path, Action: a, Symlink: symlink}
	if r.inUnion(dir) && (dir.entry == nil || dir.entry.children[name] == nil) {
		n.Union = true
		n.Private = r.home.has(dir, r.homeRel(dir), name)
		n.Host = r.host.kind(path, nil)
	}
	if d, ok := r.tree.Name(n); !ok {
		return nil, "", r.deny(h.Pid, d)
	}
	return dir, path, fuse.OK
}

// alter decides whether the home lets a name be moved away or removed.
func (r *raw) alter(h *fuse.InHeader, dirID uint64, name string, a Action) (*node, string, fuse.Status) {
	dir := r.nodes.get(dirID)
	if dir == nil {
		return nil, "", fuse.Status(unix.ESTALE)
	}
	path, errno := r.nodes.child(dir, name)
	if errno != 0 {
		return nil, "", fuse.Status(errno)
	}
	if !r.inUnion(dir) || dir.entry != nil && dir.entry.children[name] != nil || !r.home.has(dir, r.homeRel(dir), name) {
		return nil, "", r.deny(h.Pid, r.tree.denial(path, a))
	}
	if d, ok := r.tree.Change(path, a); !ok {
		return nil, "", r.deny(h.Pid, d)
	}
	return dir, path, fuse.OK
}

// change decides whether the home lets a file be written to or have its attributes changed.
func (r *raw) change(h *fuse.InHeader, a Action) (*node, fuse.Status) {
	n := r.nodes.get(h.NodeId)
	if n == nil {
		return nil, fuse.Status(unix.ESTALE)
	}
	if n.kind != nodeHome {
		return nil, r.denyNode(h, n, a)
	}
	path, ok := r.nodes.path(n)
	if !ok {
		return nil, fuse.Status(unix.ENAMETOOLONG)
	}
	if d, ok := r.tree.Change(path, a); !ok {
		return nil, r.deny(h.Pid, d)
	}
	return n, fuse.OK
}

// Access answers access(2), chdir(2) and fchdir(2), for which the kernel asks the same.
func (r *raw) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if n.kind == nodeHome && in.Mask&fuse.X_OK != 0 {
		r.nodes.enter(n) // chdir looks like that
	}
	if n.kind == nodeHome || r.inUnion(n) {
		return r.home.access(r.FS, n, in.Mask)
	}
	stands := n.kind == nodeThrough || n.kind == nodeHidden // in place of something of the host
	if in.Mask == fuse.F_OK || !stands && in.Mask&fuse.W_OK == 0 {
		return fuse.OK
	}
	action := ActionAccess
	if in.Mask == fuse.X_OK {
		switch {
		case r.host.call(in.Pid).Action() == ActionChdir:
			action = ActionChdir
		case n.kind == nodeThrough:
			return fuse.OK // that it can be walked is no secret
		}
	}
	return r.denyNode(&in.InHeader, n, action)
}

// Open refuses all files but those of the home.
func (r *raw) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if n.kind == nodeHome {
		return r.openHomeFile(n, in, out)
	}
	action := openAction(uint64(in.Flags))
	if action == ActionOpenRead && r.host.call(in.Pid).Action() == ActionExec {
		action = ActionExec
	}
	return r.denyNode(&in.InHeader, n, action)
}

// OpenDir lets the directories of tree and home be listed, and no other.
func (r *raw) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	switch {
	case n == nil:
		return fuse.Status(unix.ESTALE)
	case n.kind == nodeThrough, n.kind == nodeHidden:
		return r.denyNode(&in.InHeader, n, ActionList)
	}
	return r.openListing(n, out)
}

// Tmpfile refuses files without a name; programs go on with a named one.
func (r *raw) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, _ *fuse.CreateOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	switch {
	case n == nil:
		return fuse.Status(unix.ESTALE)
	case r.inUnion(n):
		return fuse.Status(unix.EOPNOTSUPP)
	}
	return r.denyNode(&in.InHeader, n, ActionCreate)
}

// GetXAttr knows no attribute. Only asking a hidden file for one that can hold data is an attempt; the others are
// asked for by ls and by the kernel itself.
func (r *raw) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, _ []byte) (uint32, fuse.Status) {
	n := r.nodes.get(h.NodeId)
	if n != nil && (n.kind == nodeThrough || n.kind == nodeHidden) && strings.HasPrefix(attr, "user.") {
		return 0, r.denyNode(h, n, ActionXattr)
	}
	return 0, fuse.ENODATA
}

// ListXAttr lists nothing.
func (r *raw) ListXAttr(<-chan struct{}, *fuse.InHeader, []byte) (uint32, fuse.Status) {
	return 0, fuse.OK
}

// SetXAttr is supported nowhere and an attempt where the file is not the run's own.
func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, _ string, _ []byte) fuse.Status {
	return r.noXAttr(&in.InHeader)
}

// RemoveXAttr is like SetXAttr.
func (r *raw) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, _ string) fuse.Status {
	return r.noXAttr(h)
}

func (r *raw) noXAttr(h *fuse.InHeader) fuse.Status {
	n := r.nodes.get(h.NodeId)
	switch {
	case n == nil:
		return fuse.Status(unix.ESTALE)
	case n.kind == nodeHome || r.inUnion(n):
		return fuse.ENOTSUP
	}
	return r.denyNode(h, n, ActionXattr)
}

// Ioctl knows none.
func (r *raw) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(unix.ENOTTY)
}

// StatFs tells of the private home's file system in the home, and of none elsewhere.
func (r *raw) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if n := r.nodes.get(h.NodeId); n != nil && r.inUnion(n) {
		return r.home.statfs(out)
	}
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: maxName}
	return fuse.OK
}
