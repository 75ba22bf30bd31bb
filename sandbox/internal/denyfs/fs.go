// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FS is the file system of one run.
type FS struct {
	tree    *Tree
	nodes   *nodes
	host    *host
	reports *reporter
	home    *home
	files   *handles
	born    time.Time
	server  *fuse.ProtocolServer
	device  device
	release sync.Once
}

// New prepares a file system. It opens the private home, and starts nothing.
func New(c Config) (*FS, error) {
	tree, err := NewTree(c)
	if err != nil {
		return nil, err
	}
	private, err := openHome(c.Home)
	if err != nil {
		return nil, err
	}
	host := newHost(&c)
	evictor := newEvictor()
	f := &FS{
		tree:    tree,
		nodes:   newNodes(tree, c.Hidden, evictor.offer),
		host:    host,
		reports: newReporter(&c, host),
		home:    private,
		files:   newHandles(),
		device:  device{evictor: evictor},
		born:    time.Now(),
	}
	f.server = fuse.NewProtocolServer(&raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), FS: f}, &fuse.MountOptions{
		MaxWrite:             maxWrite,
		Name:                 "denyfs",
		Logger:               log.New(io.Discard, "", 0),
		EnableSymlinkCaching: true, // a link that changes is another inode
		// The kernel then need not ask for security.capability at each write: no file here is set-uid or has any.
		ExtraCapabilities:    fuse.CAP_HANDLE_KILLPRIV_V2,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		PanicHandler: func(p any) fuse.Status {
			f.reports.bug(p)
			return fuse.EIO
		},
	})
	return f, nil
}

// Serve answers the requests that come through a device until the file system is unmounted or closed; both return
// nil. It takes the device over. It can be called once.
func (f *FS) Serve(dev *os.File) error {
	err := f.device.serve(dev, f.server)
	f.release.Do(f.free)
	return err
}

// Close ends Serve, or takes its place if it was not called. Whoever is inside gets ENOTCONN from then on, if nobody
// else has the device open. It can be called more than once, and does not wait for Serve.
func (f *FS) Close() error {
	if !f.device.close() {
		f.release.Do(f.free)
	}
	return nil
}

// free lets go of what New and the requests took.
func (f *FS) free() {
	f.reports.flush()
	f.files.close()
	f.nodes.close()
	f.home.close()
}

// raw is the FS as go-fuse calls it. Its methods: in this file what every node has, in refuse.go what is refused, in
// home_names.go, home_files.go and listing.go what the home can do.
type raw struct {
	fuse.RawFileSystem
	*FS
}

func (r *raw) String() string { return "denyfs" }

const (
	// treeTimeout is how long the kernel may remember what the tree is: that never changes.
	treeTimeout = time.Hour
	// absentTimeout is how long it may think that a name exists nowhere: a look at what the host makes meanwhile is neither
	// reported nor does it find more than before.
	absentTimeout = time.Second
	// homeTimeout is how long it may think that a directory of the private home has its name and its attributes, whatever
	// another run with the same home does to it. Files are asked for every time: runs may lock each other out by their names.
	homeTimeout = time.Second

	dirMode  = unix.S_IFDIR | 0o555
	fileMode = unix.S_IFREG | 0o444
	// What nobody may execute the kernel refuses to execute by itself, and it is not asked about (fuse_permission in fs/fuse/dir.c).
	hiddenMode = unix.S_IFREG | 0o111
)

// Lookup answers what a name is.
func (r *raw) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := r.nodes.get(h.NodeId)
	if parent == nil {
		return fuse.Status(unix.ESTALE)
	}
	switch parent.kind {
	case nodeMount, nodeHides:
		return r.enter(parent, name, out)
	}
	path, errno := r.nodes.child(parent, name)
	if errno != 0 {
		return fuse.Status(errno)
	}
	if parent.entry != nil {
		if e := parent.entry.children[name]; e != nil {
			return r.entered(r.nodes.entries[e], out)
		}
	}
	q := Query{Path: path}
	var file homeFile
	if r.inUnion(parent) {
		if file, errno = r.home.lookup(parent, r.homeRel(parent), name); errno == 0 {
			q.Private = true
		} else if errno != unix.ENOENT {
			return fuse.Status(errno)
		}
	}
	return r.found(cancel, h.Pid, q, lookedUp{file, parent, name}, out)
}

// lookedUp is a name that is not the tree's own, and the file that the private home has of it.
type lookedUp struct {
	file   homeFile
	parent *node
	name   string
}

// found answers a lookup of such a name.
func (r *raw) found(cancel <-chan struct{}, tid uint32, q Query, l lookedUp, out *fuse.EntryOut) fuse.Status {
	ignored := r.reports.ignored(tid)
	if !q.Private {
		if q.Host = r.host.kind(q.Path, cancel); q.Host != HostAbsent && !ignored {
			q.Call = r.host.call(tid)
		}
	}
	v := r.tree.Lookup(q)
	if !ignored {
		r.reports.verdict(tid, q, v)
	}
	switch v.Answer {
	case AnswerReal:
		return r.entered(r.nodes.file(l.file, l.parent, l.name), out)
	case AnswerThrough:
		n := r.nodes.walk(q.Path, l.parent, l.name)
		if n == nil {
			// So many are held open that the way ends here: of what lies at its end no request comes.
			return r.deny(tid, Denial{
				Action: q.Call.Action(), Path: q.Path, Errno: unix.ENFILE, Rule: RuleNotGranted,
				Reason: "not granted; too many directories of the host are held open to walk through another",
			})
		}
		return r.entered(n, out)
	}
	if q.Host == HostAbsent {
		return absent(out)
	}
	return fuse.ENOENT // each look at what the host has is asked about, and reported
}

// absent answers a lookup of what exists nowhere, for a moment: programs look for the same settings again and again. A zero
// node is ENOENT with a timeout (fuse_lookup_name in fs/fuse/dir.c). Whoever makes the name inside is asked about all the same.
func absent(out *fuse.EntryOut) fuse.Status {
	out.SetEntryTimeout(absentTimeout)
	return fuse.OK
}

// enter answers a lookup in the two directories that only the supervisor sees.
func (r *raw) enter(parent *node, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case parent.kind == nodeMount && name == "root":
		return r.entered(r.nodes.entries[r.tree.root], out)
	case parent.kind == nodeMount && name == "hidden":
		return r.entered(r.nodes.get(hidesID), out)
	case parent.kind == nodeHides:
		if i, ok := index(name); ok && i < len(r.nodes.hidden) {
			return r.entered(r.nodes.hidden[i], out)
		}
	}
	return fuse.ENOENT
}

// index reads the decimal number of a hidden node.
func index(name string) (int, bool) {
	if len(name) == 0 || len(name) > 6 || name[0] == '0' && len(name) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range []byte(name) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// entered fills in the answer to a lookup. A nil node means that the table is full.
func (r *raw) entered(n *node, out *fuse.EntryOut) fuse.Status {
	if n == nil {
		return fuse.Status(unix.ENFILE)
	}
	out.NodeId = n.id
	timeout, errno := r.attr(n, &out.Attr)
	if errno != 0 {
		r.nodes.forget(n.id, 1)
		return fuse.Status(errno)
	}
	out.SetAttrTimeout(timeout)
	switch {
	case n.kind == nodeHome && n.home.mode == unix.S_IFDIR:
		out.SetEntryTimeout(homeTimeout)
	case n.kind != nodeThrough && n.kind != nodeHome:
		out.SetEntryTimeout(treeTimeout)
	}
	return fuse.OK
}

// Forget drops what the kernel no longer knows.
func (r *raw) Forget(id, lookups uint64) { r.nodes.forget(id, lookups) }

// GetAttr answers stat. It is never denied: what can be stated here is no file of the host.
func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.nodes.get(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	timeout, errno := r.attr(n, &out.Attr)
	out.SetTimeout(timeout)
	return fuse.Status(errno)
}

// attr fills in a node's attributes and says how long they hold. The owner is 0 in the mount's user namespace, the
// caller. A directory must have links: libcontainer's resolver takes one without for deleted.
func (f *FS) attr(n *node, a *fuse.Attr) (time.Duration, unix.Errno) {
	if n.kind == nodeHome {
		errno := f.home.attr(n.home.fd, a)
		if n.home.mode == unix.S_IFDIR {
			return homeTimeout, errno
		}
		return 0, errno
	}
	if f.inUnion(n) {
		fd, errno := f.home.open(f.homeRel(n))
		if errno == 0 {
			defer unix.Close(fd)
			if errno = f.home.attr(fd, a); errno == 0 && a.Mode&unix.S_IFMT == unix.S_IFDIR {
				a.Ino = number(n.where)
				return homeTimeout, 0
			}
		}
		*a = fuse.Attr{}
	}
	a.Ino, a.Mode, a.Nlink, a.Blksize = number(n.where), dirMode, 2, 4096
	a.SetTimes(&f.born, &f.born, &f.born)
	switch n.kind {
	case nodeMount, nodeHides:
		a.Ino = n.id
	case nodeHidden:
		a.Mode, a.Nlink = hiddenMode, 1
		if n.dir {
			a.Mode, a.Nlink = unix.S_IFDIR, 2
		}
	case nodeTree:
		switch n.entry.kind {
		case entryGrantFile:
			a.Mode, a.Nlink = fileMode, 1
		case entrySymlink:
			a.Mode, a.Nlink, a.Size = unix.S_IFLNK|0o777, 1, uint64(len(n.entry.target))
		case entryAncestor:
			if n.entry.union {
				a.Mode = unix.S_IFDIR | 0o755
				return homeTimeout, 0
			}
		}
	}
	return treeTimeout, 0
}

// inUnion reports whether names of the private home show in a directory.
func (f *FS) inUnion(n *node) bool {
	return f.home != nil && (n.kind == nodeHome || n.kind == nodeTree && n.entry.union)
}

// homeRel returns the path, relative to the private home, of a tree's directory in the home.
func (f *FS) homeRel(n *node) string {
	if n.kind == nodeHome {
		return ""
	}
	rel, _ := f.tree.relative(n.where)
	return rel
}

// Readlink answers with the target of a link of the tree or the home.
func (r *raw) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n := r.nodes.get(h.NodeId)
	switch {
	case n == nil:
		return nil, fuse.Status(unix.ESTALE)
	case n.kind == nodeTree && n.entry.kind == entrySymlink:
		return []byte(n.entry.target), fuse.OK
	case n.kind == nodeHome:
		return r.home.readlink(n.home.fd)
	}
	return nil, fuse.EINVAL
}
