// SPDX-License-Identifier: Apache-2.0

// Package rootfs carries out the mount plan of a run, in the mount namespace of its supervisor.
//
// The root is a FUSE file system that another process serves (package denyfs), or a tmpfs that Build makes read-only when all is in
// it (PlainRoot). Build makes each mount of the plan over it:
// binds of the host with mount_setattr(2) (Linux 5.12), private tmpfs and devpts instances, device nodes, and the few files
// that agentjail writes itself. All of them are nosuid; all but device nodes and devpts are nodev; what is read-only is so
// recursively. What it refuses: a source or a target that is not what the plan saw (a link, or a file where a directory was), since
// the host may have changed since then.
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says how an Entry is mounted.
type Kind int

// The kinds.
const (
	Bind Kind = iota
	Device
	File
	Tmpfs
	Pts
	Node  // a node of the root's own file system, over a path inside a bind
	Point // a mount point alone, for what is mounted later
	Link  // a symbolic link to Source
)

// Entry is one mount. Target is relative to the run's root, Source is a path of the host.
type Entry struct {
	Kind     Kind
	Target   string
	Source   string
	Dir      bool
	Writable bool
	Content  string
	Mode     uint32
	Links    map[string]string // symbolic links to make in a tmpfs
	Make     bool              // there is no mount point yet: one is made, in a tmpfs of the run or in its private home
}

// Error names the mount that failed.
type Error struct {
	Op   string
	Path string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Private makes every mount of this namespace private, so that nothing done here shows on the host.
func Private() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return &Error{"make private", "/", err}
	}
	return nil
}

// Scratch mounts a tmpfs at dir, with the directories that are named.
func Scratch(dir string, names ...string) error {
	if err := unix.Mount("agentjail", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=32m"); err != nil {
		return &Error{"mount a tmpfs at", dir, err}
	}
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Builder makes the mounts of one run.
type Builder struct {
	Root    string // where the run's root is mounted
	Scratch string // directory of a tmpfs for the files that agentjail writes
	Plain   bool   // the root is one of PlainRoot
	files   int
}

// Build makes the entries in order.
func (b *Builder) Build(entries []Entry) error {
	b.prefetch(entries)
	for _, e := range entries {
		if err := b.mount(e); err != nil {
			return err
		}
	}
	if err := b.sealDev(entries); err != nil {
		return err
	}
	if b.Plain {
		return seal(b.Root, "/")
	}
	return nil
}

// manyTargets is from how many mount points in one directory on a listing is cheaper than looking each of them up.
const manyTargets = 4

// prefetch has the kernel know the mount points before they are mounted over. It asks the process that serves the root, and waits for the
// answer: two questions at a time leave no processor idle meanwhile. What fails costs time only.
func (b *Builder) prefetch(entries []Entry) {
	lists, points := lookups(entries)
	var both sync.WaitGroup
	both.Go(func() {
		for _, dir := range lists {
			os.ReadDir(filepath.Join(b.Root, dir))
		}
	})
	both.Go(func() {
		for _, point := range points {
			if fd, err := openAsPlanned(filepath.Join(b.Root, point), 0); err == nil {
				unix.Close(fd)
			}
		}
	})
	both.Wait()
}

// lookups tells how the kernel gets to know the mount points in the root itself: by a listing of each directory with many
// (FUSE_READDIRPLUS), and the others one by one. Those in another mount are left out: they will be elsewhere.
func lookups(entries []Entry) (lists, points []string) {
	mounted, targets := map[string]bool{}, map[string][]string{}
	var dirs []string
	for _, e := range entries {
		mounted[e.Target] = true
		dir := filepath.Dir(e.Target)
		above := dir
		for above != "/" && !mounted[above] {
			above = filepath.Dir(above)
		}
		if mounted[above] || e.Make {
			continue
		}
		if targets[dir] == nil {
			dirs = append(dirs, dir)
		}
		targets[dir] = append(targets[dir], e.Target)
	}
	for _, dir := range dirs {
		if len(targets[dir]) < manyTargets {
			points = append(points, targets[dir]...)
		} else {
			lists = append(lists, dir)
		}
	}
	return lists, points
}

func (b *Builder) mount(e Entry) error {
	target := filepath.Join(b.Root, e.Target)
	if e.Make {
		if err := b.mountPoint(e); err != nil {
			return err
		}
	}
	switch e.Kind {
	case Point, Link:
		return nil
	case Tmpfs:
		return b.tmpfs(e, target)
	case Pts:
		return mountPts(target)
	case Device:
		return b.device(e, target)
	case File:
		return b.file(e, target)
	case Node:
		return bind(e.Source, target, 0, 0)
	default:
		return b.bind(e, target)
	}
}

func (b *Builder) tmpfs(e Entry, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=%o", e.Mode)); err != nil {
		return &Error{"mount a tmpfs at", e.Target, err}
	}
	for name, to := range e.Links {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			return err
		}
	}
	return nil
}

// mountPts makes a devpts instance of the run's own. Every instance has been its own since Linux 4.7.
func mountPts(target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("devpts", target, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return &Error{"mount devpts at", target, err}
	}
	return nil
}

func (b *Builder) device(e Entry, target string) error {
	if err := touch(target); err != nil {
		return err
	}
	return bind(e.Source, target, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, 0)
}

func (b *Builder) file(e Entry, target string) error {
	b.files++
	path := filepath.Join(b.Scratch, fmt.Sprintf("file%d", b.files))
	if err := os.WriteFile(path, []byte(e.Content), 0o644); err != nil {
		return err
	}
	return bind(path, target, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY, 0)
}

func (b *Builder) bind(e Entry, target string) error {
	attr := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if !e.Writable {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	flag := uint64(0)
	if e.Dir {
		flag = unix.O_DIRECTORY
	}
	return bind(e.Source, target, attr, flag)
}

// mountPoint makes the target, or the link.
func (b *Builder) mountPoint(e Entry) error {
	// A home that is kept may hold links of an earlier run's command: none may lead out of the tree.
	root, err := os.OpenRoot(b.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	name := strings.TrimPrefix(e.Target, "/")
	above := name
	if !e.Dir {
		above = filepath.Dir(name)
	}
	err = root.MkdirAll(above, 0o755)
	switch {
	case err != nil:
	case e.Kind == Link:
		err = linkIn(root, name, e.Source)
	case !e.Dir:
		err = touchIn(root, name)
	}
	if err != nil {
		return &Error{"make the mount point", e.Target, fmt.Errorf("%w: is something of the command's in the way, in its private home?", err)}
	}
	return nil
}

// linkIn makes a symbolic link, in the place of another one. A run with the same home may make the same at the same time.
func linkIn(root *os.Root, name, to string) error {
	if was, err := root.Readlink(name); err == nil && was != to {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := root.Symlink(to, name)
	if was, again := root.Readlink(name); again == nil && was == to {
		return nil
	}
	return err
}

// touchIn does not wait for a pipe that is there.
func touchIn(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// bind clones the tree at source, sets the attributes on all of it, and moves it to target.
func bind(source, target string, attr, flags uint64) error {
	tree, err := clone(source, attr, flags)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, target)
}

// clone copies the mounts at source, with further attributes (open_tree(2), Linux 5.2).
func clone(source string, attr, flags uint64) (int, error) {
	src, err := openAsPlanned(source, flags)
	if err != nil {
		return -1, &Error{"open", source, err}
	}
	defer unix.Close(src)
	tree, err := unix.OpenTree(src, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return -1, &Error{"clone the mount of", source, err}
	}
	if attr != 0 {
		set := unix.MountAttr{Attr_set: attr}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &set); err != nil {
			unix.Close(tree)
			return -1, &Error{"restrict the mount of", source, err}
		}
	}
	return tree, nil
}

// attach moves a tree to its target. Where another run can write, it can put a symbolic link in the way of one at any time, and the
// tree would be mounted over something of this process's own.
func attach(tree int, target string) error {
	at, err := openAsPlanned(target, 0)
	if err != nil {
		return &Error{"mount over", target, err}
	}
	defer unix.Close(at)
	if err := unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &Error{"mount over", target, err}
	}
	return nil
}

// openAsPlanned opens a path, in which the plan saw no symbolic link.
func openAsPlanned(path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW | flags, Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("it became a symbolic link since the plan was made: %w", err)
	}
	return fd, err
}

// BindInto mounts directories of this process's tree, read-only, in the mount namespace of another process, at its own paths.
func BindInto(pid int, entries []Entry) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in the other namespace
		done <- bindInto(pid, entries)
	}()
	return <-done
}

func bindInto(pid int, entries []Entry) error {
	var trees []int
	defer func() {
		for _, tree := range trees {
			unix.Close(tree)
		}
	}()
	for _, e := range entries {
		tree, err := clone(e.Source, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY, unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
	}
	if err := enter(pid); err != nil {
		return err
	}
	for i, e := range entries {
		if err := attach(trees[i], e.Target); err != nil {
			return err
		}
	}
	return nil
}

// enter moves the calling thread into the mount namespace of a process, and to its root. The thread must share neither its root
// nor its working directory with another (setns(2)).
func enter(pid int) error {
	path := fmt.Sprintf("/proc/%d/ns/mnt", pid)
	namespace, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Error{"open", path, err}
	}
	defer unix.Close(namespace)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return &Error{"leave the shared root for", path, err}
	}
	if err := unix.Setns(namespace, unix.CLONE_NEWNS); err != nil {
		return &Error{"enter", path, err}
	}
	return nil
}

// sealDev makes the tmpfs of entries that are not writable read-only, now that what lies in them is there.
func (b *Builder) sealDev(entries []Entry) error {
	for _, e := range entries {
		if e.Kind != Tmpfs || e.Writable {
			continue
		}
		if err := seal(filepath.Join(b.Root, e.Target), e.Target); err != nil {
			return err
		}
	}
	return nil
}

// seal makes one mount read-only.
func seal(path, name string) error {
	set := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &set); err != nil {
		return &Error{"make read-only", name, err}
	}
	return nil
}

// ReadOnly makes a mount of this namespace, and all below it, read-only. A mount that is not there is none to protect.
func ReadOnly(path string) error {
	set := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &set)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &Error{"make read-only", path, err}
	}
	return nil
}
