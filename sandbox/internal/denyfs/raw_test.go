// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// rawFor is a file system that is asked directly, without a mount.
func rawFor(t *testing.T, c Config) (*raw, *events) {
	t.Helper()
	sink := &events{}
	c.Sink = sink
	if c.HostLstat == nil {
		c.HostLstat = everything
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &raw{RawFileSystem: fuse.NewDefaultRawFileSystem(), FS: f}, sink
}

// walk looks names up one below the other, as the kernel does.
func (r *raw) walk(names ...string) (fuse.EntryOut, fuse.Status) {
	out := fuse.EntryOut{NodeId: fuse.FUSE_ROOT_ID}
	for _, name := range names {
		h := fuse.InHeader{NodeId: out.NodeId}
		out = fuse.EntryOut{}
		if status := r.Lookup(nil, &h, name, &out); status != fuse.OK {
			return out, status
		}
	}
	return out, fuse.OK
}

func TestTimeouts(t *testing.T) {
	private := tree(t, "file", "dir/")
	r, _ := rawFor(t, Config{
		Grants:   []Grant{{"/usr", true}, {"/etc/passwd", false}, {"/home/u/src/p", true}},
		Symlinks: map[string]string{"/bin": "usr/bin"},
		Hidden:   []Hide{{Path: "/usr/x", Dir: false}},
		Home:     HomeConfig{Path: "/home/u", Private: private},
	})
	for _, test := range []struct {
		path        []string
		mode        uint32
		entry, attr time.Duration
	}{
		{[]string{"root"}, dirMode, time.Hour, time.Hour},
		{[]string{"root", "etc"}, dirMode, time.Hour, time.Hour},
		{[]string{"root", "usr"}, dirMode, time.Hour, time.Hour},
		{[]string{"root", "etc", "passwd"}, fileMode, time.Hour, time.Hour},
		{[]string{"root", "bin"}, unix.S_IFLNK | 0o777, time.Hour, time.Hour},
		{[]string{"hidden"}, dirMode, time.Hour, time.Hour},
		{[]string{"hidden", "0"}, unix.S_IFREG | 0o111, time.Hour, time.Hour},
		{[]string{"root", "home", "u", "src"}, unix.S_IFDIR | 0o755, time.Hour, time.Second},
		{[]string{"root", "home", "u", "src", "p"}, dirMode, time.Hour, time.Hour},
		{[]string{"root", "home", "u", "file"}, unix.S_IFREG | 0o644, 0, 0},
		{[]string{"root", "home", "u", "dir"}, unix.S_IFDIR | 0o755, time.Second, time.Second},
		{[]string{"root", "dhost"}, dirMode, 0, time.Hour},
	} {
		out, status := r.walk(test.path...)
		if status != fuse.OK || out.Mode != test.mode || out.Nlink == 0 || out.Uid != 0 || out.Ino == 0 {
			t.Errorf("%q: %v, %+v, want mode %o", test.path, status, out.Attr, test.mode)
		}
		if out.EntryTimeout() != test.entry || out.AttrTimeout() != test.attr {
			t.Errorf("%q: timeouts %v and %v, want %v and %v", test.path, out.EntryTimeout(), out.AttrTimeout(), test.entry, test.attr)
		}
	}
	for _, path := range [][]string{{"x"}, {"hidden", "1"}, {"hidden", "x"}, {"root", "file"}} {
		if out, status := r.walk(path...); status != fuse.ENOENT || out.NodeId != 0 {
			t.Errorf("%q: %v, node %d", path, status, out.NodeId)
		}
	}
}

// TestUnknownNodes asks about numbers that the kernel was never given, or forgot.
func TestUnknownNodes(t *testing.T) {
	r, sink := rawFor(t, Config{Home: HomeConfig{Path: "/home/u", Private: t.TempDir()}})
	h := fuse.InHeader{NodeId: 1 << 40}
	var entry fuse.EntryOut
	var attr fuse.AttrOut
	var open fuse.OpenOut
	_, readlink := r.Readlink(nil, &h)
	for name, status := range map[string]fuse.Status{
		"lookup":      r.Lookup(nil, &h, "x", &entry),
		"getattr":     r.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, &attr),
		"setattr":     r.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h}}, &attr),
		"readlink":    readlink,
		"mkdir":       r.Mkdir(nil, &fuse.MkdirIn{InHeader: h}, "x", &entry),
		"mknod":       r.Mknod(nil, &fuse.MknodIn{InHeader: h}, "x", &entry),
		"symlink":     r.Symlink(nil, &h, "y", "x", &entry),
		"link":        r.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: h.NodeId}, "x", &entry),
		"create":      r.Create(nil, &fuse.CreateIn{InHeader: h}, "x", &fuse.CreateOut{}),
		"tmpfile":     r.Tmpfile(nil, &fuse.CreateIn{InHeader: h}, &fuse.CreateOut{}),
		"unlink":      r.Unlink(nil, &h, "x"),
		"rmdir":       r.Rmdir(nil, &h, "x"),
		"rename":      r.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: h.NodeId}, "x", "y"),
		"open":        r.Open(nil, &fuse.OpenIn{InHeader: h}, &open),
		"opendir":     r.OpenDir(nil, &fuse.OpenIn{InHeader: h}, &open),
		"access":      r.Access(nil, &fuse.AccessIn{InHeader: h, Mask: fuse.R_OK}),
		"setxattr":    r.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h}, "user.x", nil),
		"removexattr": r.RemoveXAttr(nil, &h, "user.x"),
	} {
		if status != fuse.Status(unix.ESTALE) {
			t.Errorf("%s of an unknown node: %v", name, status)
		}
	}
	if all := sink.take(); len(all) != 0 {
		t.Errorf("events %+v", all)
	}
}

// TestUnknownHandles uses handles that were never given out, or are of the other kind.
func TestUnknownHandles(t *testing.T) {
	r, _ := rawFor(t, Config{Home: HomeConfig{Path: "/home/u", Private: tree(t, "file")}})
	home, _ := r.walk("root", "home", "u")
	file, _ := r.walk("root", "home", "u", "file")
	var dir, open fuse.OpenOut
	if status := r.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: home.NodeId}}, &dir); status != fuse.OK {
		t.Fatal(status)
	}
	if status := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: file.NodeId}}, &open); status != fuse.OK {
		t.Fatal(status)
	}
	buf := make([]byte, 64)
	for _, fh := range []uint64{0, 1 << 40, dir.Fh} {
		_, read := r.Read(nil, &fuse.ReadIn{Fh: fh, Size: 64}, buf)
		_, write := r.Write(nil, &fuse.WriteIn{Fh: fh}, buf)
		for name, status := range map[string]fuse.Status{
			"read": read, "write": write,
			"fsync":     r.Fsync(nil, &fuse.FsyncIn{Fh: fh}),
			"fallocate": r.Fallocate(nil, &fuse.FallocateIn{Fh: fh}),
			"lseek":     r.Lseek(nil, &fuse.LseekIn{Fh: fh}, &fuse.LseekOut{}),
		} {
			if status != fuse.EBADF {
				t.Errorf("%s of handle %d: %v", name, fh, status)
			}
		}
	}
	if status := r.FsyncDir(nil, &fuse.FsyncIn{Fh: dir.Fh}); status != fuse.OK {
		t.Errorf("fsync of a directory: %v", status)
	}
	if status := r.ReadDir(nil, &fuse.ReadIn{Fh: open.Fh}, fuse.NewDirEntryList(buf, 0)); status != fuse.EBADF {
		t.Errorf("listing a file: %v", status)
	}
	for _, fh := range []uint64{open.Fh, open.Fh, dir.Fh, 1 << 40} {
		r.Release(nil, &fuse.ReleaseIn{Fh: fh})
	}
	if len(r.files.open) != 0 {
		t.Errorf("%d handles are open", len(r.files.open))
	}
	r.files.limit = 0
	if status := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: file.NodeId}}, &open); status != fuse.Status(unix.ENFILE) {
		t.Errorf("one file too many: %v", status)
	}
	created := fuse.CreateOut{}
	if status := r.Create(nil, &fuse.CreateIn{InHeader: fuse.InHeader{NodeId: home.NodeId}}, "file2", &created); status != fuse.EACCES {
		t.Errorf("creating what the host has: %v", status)
	}
}

// TestNoDevices asks for device files, which seccomp denies to begin with.
func TestNoDevices(t *testing.T) {
	private := t.TempDir()
	absent := func(string) (os.FileMode, error) { return 0, os.ErrNotExist }
	r, sink := rawFor(t, Config{HostLstat: absent, Home: HomeConfig{Path: "/home/u", Private: private}})
	home, _ := r.walk("root", "home", "u")
	for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, 0, unix.S_IFDIR} {
		in := fuse.MknodIn{InHeader: fuse.InHeader{NodeId: home.NodeId}, Mode: kind | 0o666, Rdev: 0x103}
		if status := r.Mknod(nil, &in, "dev", &fuse.EntryOut{}); status != fuse.EPERM {
			t.Errorf("mknod %o: %v", kind, status)
		}
	}
	if all := sink.take(); len(all) != 4 || brief(all[0]) != "file mknod /home/u/dev EPERM" {
		t.Errorf("events %+v", all)
	}
	if status := r.Ioctl(nil, nil, nil, nil, nil); status != fuse.Status(unix.ENOTTY) {
		t.Errorf("ioctl: %v", status)
	}
	if names, err := os.ReadDir(private); err != nil || len(names) != 0 {
		t.Errorf("the private home has %v, %v", names, err)
	}
}

// TestListingAnswersLookups: a listing tells the kernel what it would look up next, for names of the tree alone.
func TestListingAnswersLookups(t *testing.T) {
	private := tree(t, "file", "src/")
	r, sink := rawFor(t, Config{
		Grants: []Grant{{"/home/u/.cache", true}, {"/home/u/src/p", true}},
		Home:   HomeConfig{Path: "/home/u", Private: private},
	})
	home, _ := r.walk("root", "home", "u")
	var dir fuse.OpenOut
	if status := r.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: home.NodeId}}, &dir); status != fuse.OK {
		t.Fatal(status)
	}
	list := fuse.NewDirEntryList(make([]byte, 4096), 0)
	if status := r.ReadDirPlus(nil, &fuse.ReadIn{Fh: dir.Fh}, list); status != fuse.OK {
		t.Fatal(status)
	}
	entries, answers, err := fuse.ParseDirLookupEntries(list.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for i, e := range entries {
		got[e.Name] = answers[i].NodeId
	}
	if len(got) != 5 || got["."] != 0 || got[".."] != 0 || got["file"] != 0 {
		t.Errorf("entries %v; those that the tree has alone are looked up", got)
	}
	for _, name := range []string{".cache", "src"} {
		looked, _ := r.walk("root", "home", "u", name)
		if got[name] == 0 || got[name] != looked.NodeId {
			t.Errorf("%s is node %d in the listing, %d in a lookup", name, got[name], looked.NodeId)
		}
	}
	small := fuse.NewDirEntryList(make([]byte, 8), 0)
	if status := r.ReadDirPlus(nil, &fuse.ReadIn{Fh: dir.Fh}, small); status != fuse.OK || len(small.Bytes()) != 0 {
		t.Errorf("without room: %v, %d bytes", status, len(small.Bytes()))
	}
	if status := r.ReadDirPlus(nil, &fuse.ReadIn{Fh: 1 << 40}, small); status != fuse.EBADF {
		t.Errorf("no handle: %v", status)
	}
	if all := sink.take(); len(all) != 0 {
		t.Errorf("events %+v", all)
	}
}

// TestAbsentIsRemembered: only what exists nowhere may be remembered as absent; each look at the host's is a request.
func TestAbsentIsRemembered(t *testing.T) {
	private := tree(t, "mine")
	lstat := func(path string) (os.FileMode, error) {
		if path == "/home/u/.netrc" || path == "/etc/shadow" {
			return 0o600, nil
		}
		return 0, os.ErrNotExist
	}
	r, sink := rawFor(t, Config{
		HostLstat: lstat, Grants: []Grant{{"/etc/passwd", false}}, Home: HomeConfig{Path: "/home/u", Private: private},
	})
	for _, test := range []struct {
		path   []string
		status fuse.Status
		valid  uint64 // seconds
	}{
		{[]string{"root", "etc", "ld.so.preload"}, fuse.OK, 1},
		{[]string{"root", "home", "u", ".gitconfig"}, fuse.OK, 1},
		{[]string{"root", "etc", "shadow"}, fuse.ENOENT, 0},
		{[]string{"root", "home", "u", ".netrc"}, fuse.ENOENT, 0},
	} {
		out, status := r.walk(test.path...)
		if status != test.status || out.NodeId != 0 || out.EntryValid != test.valid {
			t.Errorf("%v: %v, node %d, valid for %d s", test.path, status, out.NodeId, out.EntryValid)
		}
	}
	if out, status := r.walk("root", "home", "u", "mine"); status != fuse.OK || out.NodeId == 0 || out.EntryValid != 0 {
		t.Errorf("what the private home has: %v, node %d, valid for %d s", status, out.NodeId, out.EntryValid)
	}
	if all := sink.take(); len(all) != 2 {
		t.Errorf("events %+v", all)
	}
}

// TestThroughFull: where no more directories of the host can be walked through, the attempt is on record all the same.
func TestThroughFull(t *testing.T) {
	r, sink := rawFor(t, Config{HostLstat: func(string) (os.FileMode, error) { return os.ModeDir | 0o755, nil }})
	r.nodes.mu.Lock()
	for i := range maxThrough {
		r.nodes.through[fmt.Sprint("held", i)] = nil
	}
	r.nodes.mu.Unlock()
	defer clear(r.nodes.through) // which cannot be dropped
	if _, status := r.walk("root", "d"); status != fuse.Status(unix.ENFILE) {
		t.Errorf("one too many: %v", status)
	}
	if all := sink.take(); len(all) != 1 || all[0].Target != "/d" || all[0].Errno != "ENFILE" || all[0].Decision != audit.Deny {
		t.Errorf("events %+v", all)
	}
	delete(r.nodes.through, "held0")
	if _, status := r.walk("root", "d"); status != fuse.OK {
		t.Errorf("the last one: %v", status)
	}
	if all := sink.take(); len(all) != 0 {
		t.Errorf("events %+v", all)
	}
}
