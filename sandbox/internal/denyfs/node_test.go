// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// table returns a table of the nodes of a home, and the names that it asked to take out.
func table(t *testing.T, hidden ...Hide) (*nodes, *node, *[]eviction) {
	t.Helper()
	tree, err := NewTree(Config{Home: HomeConfig{Path: "/home/u"}, Hidden: hidden})
	if err != nil {
		t.Fatal(err)
	}
	var out []eviction
	n := newNodes(tree, hidden, func(e eviction) { out = append(out, e) })
	t.Cleanup(n.close)
	return n, n.entries[tree.root.children["home"].children["u"]], &out
}

func null(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestNodesForget(t *testing.T) {
	n, home, _ := table(t, Hide{Path: "/h/x", Dir: false})
	start := len(n.byID)
	d := n.walk("/d", home, "d")
	if again := n.walk("/d", home, "d"); again != d {
		t.Error("one directory has two nodes")
	}
	f := n.file(homeFile{fd: null(t), key: inodeKey{1, 2}}, home, "f")
	if again := n.file(homeFile{fd: null(t), key: inodeKey{1, 2}}, home, "g"); again != f {
		t.Error("one file has two nodes")
	}
	n.forget(d.id, 1)
	if n.get(d.id) == nil {
		t.Error("forgotten after one lookup of two")
	}
	n.forget(d.id, 1)
	n.forget(f.id, 2)
	n.forget(f.id, 2)
	if n.get(d.id) != nil || n.get(f.id) != nil || len(n.byID) != start || n.idle.Len() != 0 {
		t.Errorf("%d nodes are left of %d", len(n.byID), start)
	}
	// What the tree has is never forgotten, and numbers are not used again.
	for _, fixed := range []*node{home, n.hidden[0], n.get(fuse.FUSE_ROOT_ID), n.get(hidesID)} {
		n.forget(fixed.id, 1000)
		if n.get(fixed.id) != fixed {
			t.Errorf("node %d of the tree was forgotten", fixed.id)
		}
	}
	if again := n.walk("/d", home, "d"); again.id == d.id {
		t.Error("a number was used again")
	}
}

func TestNodesBounded(t *testing.T) {
	n, home, out := table(t)
	n.most = keep + 500
	for i := range n.most {
		if n.file(homeFile{fd: null(t), key: inodeKey{1, uint64(i)}}, home, fmt.Sprint(i)) == nil {
			t.Fatalf("file %d was refused", i)
		}
	}
	if n.file(homeFile{fd: null(t), key: inodeKey{2, 0}}, home, "x") != nil {
		t.Error("one file too many was accepted")
	}
	if again := n.file(homeFile{fd: null(t), key: inodeKey{1, 7}}, home, "7"); again == nil {
		t.Error("a known file was refused")
	}
	if len(*out) < 500 || (*out)[0] != (eviction{home.id, "0"}) {
		t.Errorf("%d names were to be taken out, the first is %+v", len(*out), (*out)[:1])
	}
	n.close()
	if len(n.home) != 0 || n.idle.Len() != 0 {
		t.Errorf("%d files are left", len(n.home))
	}
}

// TestNodesKept has files and directories in use, which must stay in the kernel's cache.
func TestNodesKept(t *testing.T) {
	n, home, out := table(t)
	open := n.file(homeFile{fd: null(t), key: inodeKey{1, 1}}, home, "open")
	n.opened(open, 1)
	entered := n.file(homeFile{fd: null(t), key: inodeKey{1, 2}}, home, "entered")
	n.enter(entered)
	n.enter(entered)
	for i := range 3 * keep {
		n.walk(fmt.Sprint("/d", i), home, fmt.Sprint("d", i))
	}
	for _, e := range *out {
		if e.name == "open" || e.name == "entered" {
			t.Fatalf("%q was to be taken out while it is in use", e.name)
		}
	}
	n.opened(open, -1)
	*out = nil
	for i := range 3 * keep {
		n.walk(fmt.Sprint("/e", i), home, fmt.Sprint("e", i))
	}
	found := false
	for _, e := range *out {
		found = found || e.name == "open"
	}
	if !found {
		t.Error("a file that was closed is never taken out")
	}
	n.forget(entered.id, 1)
	if n.entered != 0 {
		t.Errorf("%d directories are counted as entered", n.entered)
	}
}

func TestNodesPaths(t *testing.T) {
	n, home, _ := table(t)
	dir := n.file(homeFile{fd: null(t), key: inodeKey{1, 1}}, home, "a")
	file := n.file(homeFile{fd: null(t), key: inodeKey{1, 2}}, dir, "b\xff\n")
	check := func(of *node, want string) {
		t.Helper()
		if got, ok := n.path(of); !ok || got != want {
			t.Errorf("path %q, %v, want %q", got, ok, want)
		}
	}
	check(file, "/home/u/a/b\xff\n")
	n.moved(inodeKey{1, 1}, home, "c")
	n.moved(inodeKey{9, 9}, home, "nothing")
	check(file, "/home/u/c/b\xff\n")
	check(home, "/home/u")

	for name, want := range map[string]unix.Errno{
		"x": 0, "": unix.EINVAL, ".": unix.EINVAL, "..": unix.EINVAL, "a/b": unix.EINVAL, "a\x00": unix.EINVAL,
		strings.Repeat("x", maxName): 0, strings.Repeat("x", maxName+1): unix.ENAMETOOLONG, "...": 0, "\x80": 0,
	} {
		if _, errno := n.child(home, name); errno != want {
			t.Errorf("name %.20q: %v, want %v", name, errno, want)
		}
	}
	root := n.get(hidesID + 1)
	if got, _ := n.child(root, "etc"); got != "/etc" {
		t.Errorf("a name in the root is %q", got)
	}
	deep := home
	for i := range maxPath/100 + 1 {
		deep = n.file(homeFile{fd: null(t), key: inodeKey{3, uint64(i)}}, deep, strings.Repeat("d", 100))
	}
	if _, ok := n.path(deep); ok {
		t.Error("a path longer than PATH_MAX")
	}
	if _, errno := n.child(deep, "x"); errno != unix.ENAMETOOLONG {
		t.Errorf("a name in it: %v", errno)
	}
	// Directories that two runs moved into one another.
	n.moved(inodeKey{1, 1}, file, "round")
	if _, ok := n.path(file); ok {
		t.Error("a path without an end")
	}
}

func TestNumber(t *testing.T) {
	// The same in every run: tools compare inode numbers over time.
	if got := number("/a"); got != 0x16707b49cd92d {
		t.Errorf("the number of /a is %#x", got)
	}
	if a, b := number("/a"), number("/b"); a == b || a>>48 != 1 || b>>48 != 1 {
		t.Errorf("numbers %#x and %#x", a, b)
	}
}

func TestIndex(t *testing.T) {
	for name, want := range map[string]int{"0": 0, "7": 7, "10": 10, "999999": 999999} {
		if got, ok := index(name); !ok || got != want {
			t.Errorf("index %q is %d, %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "00", "01", "-1", "x", "1x", "1000000", "99999999999999999999"} {
		if got, ok := index(name); ok {
			t.Errorf("index %q is %d", name, got)
		}
	}
}

func TestEvictionMessage(t *testing.T) {
	b := eviction{0x1234, "name"}.message()
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	if len(b) != 37 || word(0) != 37 || word(4) != 3 || binary.NativeEndian.Uint64(b[8:]) != 0 ||
		binary.NativeEndian.Uint64(b[16:]) != 0x1234 || word(24) != 4 || word(28) != 0 || string(b[32:]) != "name\x00" {
		t.Errorf("message % x", b)
	}
}

func TestRefuse(t *testing.T) {
	in := make([]byte, 40)
	binary.NativeEndian.PutUint64(in[8:], 0xabcdef)
	out := make([]byte, 64)
	if n := refuse(in, out, fuse.EIO); n != 16 || binary.NativeEndian.Uint32(out) != 16 ||
		int32(binary.NativeEndian.Uint32(out[4:])) != -int32(unix.EIO) || binary.NativeEndian.Uint64(out[8:]) != 0xabcdef {
		t.Errorf("%d bytes: % x", n, out[:16])
	}
	if n := refuse(in[:15], out, fuse.EIO); n != 0 {
		t.Errorf("%d bytes for a request that has no number", n)
	}
}

func TestKindOf(t *testing.T) {
	other := errors.New("other")
	for _, test := range []struct {
		mode fs.FileMode
		err  error
		want HostKind
	}{
		{0o644, nil, HostFile},
		{fs.ModeDir | 0o755, nil, HostDir},
		{fs.ModeSymlink, nil, HostFile},
		{fs.ModeSocket, nil, HostFile},
		{0, fs.ErrNotExist, HostAbsent},
		{0, &os.PathError{Err: unix.ENOTDIR}, HostAbsent},
		{0, &os.PathError{Err: unix.ENAMETOOLONG}, HostAbsent},
		{0, &os.PathError{Err: unix.EACCES}, HostUnknown},
		{0, other, HostUnknown},
	} {
		if got := kindOf(test.mode, test.err); got != test.want {
			t.Errorf("%v, %v: %v, want %v", test.mode, test.err, got, test.want)
		}
	}
	h := newHost(&Config{})
	for path, want := range map[string]HostKind{"/proc/self": HostFile, "/proc": HostDir, "/proc/none": HostAbsent} {
		if got := h.kind(path, nil); got != want {
			t.Errorf("the real host has %v at %s, want %v", got, path, want)
		}
	}
}

// TestListing reads a directory in small pieces, goes back in it, and reads on.
func TestListing(t *testing.T) {
	root := tree(t, "d/a", "d/b", "d/c", "d/granted/")
	fd, err := unix.Open(root+"/d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &listing{
		fd:    fd,
		fixed: []fuse.DirEntry{{Name: "."}, {Name: ".."}, {Name: "granted", Mode: unix.S_IFDIR}},
		skip:  map[string]*entry{"granted": {}},
	}
	defer l.close()
	read := func(offset uint64, size int) (names []string, next uint64) {
		t.Helper()
		out := fuse.NewDirEntryList(make([]byte, size), offset)
		if errno := l.read(offset, out.AddDirEntry); errno != 0 {
			t.Fatal(errno)
		}
		entries, err := fuse.ParseDirEntries(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names, offset = append(names, e.Name), e.Off
		}
		return names, offset
	}
	all, end := read(0, 4096)
	if len(all) != 6 || end != 6 || strings.Join(all[:3], " ") != ". .. granted" {
		t.Fatalf("all: %q, ends at %d", all, end)
	}
	var pieces []string
	at := uint64(0)
	for {
		names, next := read(at, 70)
		if len(names) == 0 {
			break
		}
		if len(names) > 2 {
			t.Errorf("%d names in 70 bytes", len(names))
		}
		pieces, at = append(pieces, names...), next
	}
	if fmt.Sprint(pieces) != fmt.Sprint(all) {
		t.Errorf("in pieces %q, at once %q", pieces, all)
	}
	if back, _ := read(4, 4096); fmt.Sprint(back) != fmt.Sprint(all[4:]) {
		t.Errorf("back at 4: %q, want %q", back, all[4:])
	}
	if beyond, _ := read(1000, 4096); len(beyond) != 0 {
		t.Errorf("beyond the end: %q", beyond)
	}
}

func TestParseDirent(t *testing.T) {
	good := make([]byte, 32)
	binary.NativeEndian.PutUint64(good, 77)
	binary.NativeEndian.PutUint16(good[16:], 24)
	good[18] = unix.DT_REG
	copy(good[19:], "abc\x00")
	if e, n := parseDirent(good); n != 24 || e.Name != "abc" || e.Ino != 77 || e.Mode != unix.S_IFREG {
		t.Errorf("%+v of %d bytes", e, n)
	}
	for name, size := range map[string]uint16{"none": 0, "too short": 18, "too long": 33} {
		bad := append([]byte(nil), good...)
		binary.NativeEndian.PutUint16(bad[16:], size)
		if e, n := parseDirent(bad); n != len(bad) || e.Name != "" {
			t.Errorf("a length that is %s: %+v of %d bytes", name, e, n)
		}
	}
	if e, n := parseDirent(good[:10]); n != 10 || e.Name != "" {
		t.Errorf("a rest: %+v of %d bytes", e, n)
	}
}

// TestEvictorEnds stops an evictor that is not run, and one that is.
func TestEvictorEnds(t *testing.T) {
	e := newEvictor()
	for range 2 * evictions {
		e.offer(eviction{1, "x"}) // what does not fit is dropped
	}
	if len(e.names) != evictions {
		t.Errorf("%d names wait", len(e.names))
	}
	go e.run(null(t))
	e.end()
	e.end()
	select {
	case <-e.done:
	case <-time.After(time.Minute):
		t.Error("the evictor did not end")
	}
}
