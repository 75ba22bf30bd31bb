// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// insideWord makes the test binary the process inside: it mounts, hands the device over, and does as it is told.
const insideWord = "denyfs-inside"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == insideWord {
		if err := inside(os.NewFile(3, "orders")); err != nil {
			fmt.Fprintln(os.Stderr, "inside:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	unix.Umask(0o022) // the tests compare modes
	os.Exit(m.Run())
}

// setup is the first message to the process inside.
type setup struct {
	Device, Mount string
	Binds         []bind
}

// bind is a mount to make. From may be "hidden:N"; To is relative to the mount.
type bind struct{ From, To string }

// op is one order; done is what came of it.
type op struct {
	Do             string
	Path, Path2    string
	Flags          int
	Mode           uint32
	Data           string
	N              int
	Offset, Length int64
}

type done struct {
	Errno unix.Errno
	Data  string
	Names []string
	N     int
}

// inside is the supervisor and the agent in one: it mounts, binds, enters the tree, and carries out orders.
func inside(orders *os.File) error {
	in, out := json.NewDecoder(orders), json.NewEncoder(orders)
	var s setup
	if err := in.Decode(&s); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	dev, err := unix.Open(s.Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Device, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := unix.Mount("denyfs", s.Mount, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := unix.Sendmsg(4, []byte{0}, unix.UnixRights(dev), nil, 0); err != nil {
		return fmt.Errorf("hand the device over: %w", err)
	}
	unix.Close(dev)
	for _, b := range s.Binds {
		if n, ok := strings.CutPrefix(b.From, "hidden:"); ok {
			b.From = filepath.Join(s.Mount, "hidden", n)
		}
		if err := unix.Mount(b.From, filepath.Join(s.Mount, b.To), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", b.From, b.To, err)
		}
	}
	if err := unix.Chroot(filepath.Join(s.Mount, "root")); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0)
	if err := out.Encode(done{}); err != nil {
		return err
	}
	for {
		var o op
		if err := in.Decode(&o); err != nil {
			return nil // the test is over
		}
		d, err := carryOut(o)
		if err != nil && !errors.As(err, &d.Errno) {
			return fmt.Errorf("%+v: %w", o, err)
		}
		if err := out.Encode(d); err != nil {
			return err
		}
	}
}

// carryOut makes the one system call that is asked for, and as few others as can be.
func carryOut(o op) (d done, err error) {
	switch o.Do {
	case "mkdir":
		err = unix.Mkdir(o.Path, o.Mode)
	case "unlink":
		err = unix.Unlink(o.Path)
	case "rmdir":
		err = unix.Rmdir(o.Path)
	case "rename":
		err = unix.Renameat2(unix.AT_FDCWD, o.Path, unix.AT_FDCWD, o.Path2, uint(o.Flags))
	case "link":
		err = unix.Link(o.Path, o.Path2)
	case "symlink":
		err = unix.Symlink(o.Path, o.Path2)
	case "mknod":
		err = unix.Mknod(o.Path, o.Mode, o.N)
	case "chmod":
		err = unix.Chmod(o.Path, o.Mode)
	case "chown":
		err = unix.Chown(o.Path, o.N, o.N)
	case "truncate":
		err = unix.Truncate(o.Path, o.Length)
	case "utimes":
		err = unix.UtimesNanoAt(unix.AT_FDCWD, o.Path, []unix.Timespec{{Sec: 1}, {Sec: int64(o.N)}}, 0)
	case "access":
		err = unix.Access(o.Path, o.Mode)
	case "chdir":
		if err = unix.Chdir(o.Path); err == nil {
			err = unix.Chdir("/")
		}
	case "enter":
		err = unix.Chdir(o.Path)
	case "exec":
		_, err = syscall.ForkExec(o.Path, []string{o.Path}, nil)
	default:
		return look(o)
	}
	return d, err
}

func look(o op) (d done, err error) {
	switch o.Do {
	case "stat":
		var st unix.Stat_t
		err = unix.Lstat(o.Path, &st)
		d.N, d.Data = int(st.Size), fmt.Sprintf("%o nlink=%d uid=%d mtime=%d", st.Mode, st.Nlink, st.Uid, st.Mtim.Sec)
	case "inode":
		var st unix.Stat_t
		err = unix.Lstat(o.Path, &st)
		d.N = int(st.Ino)
	case "readlink":
		buf := make([]byte, 256)
		d.N, err = unix.Readlink(o.Path, buf)
		d.Data = string(buf[:max(d.N, 0)])
	case "list":
		var entries []os.DirEntry
		entries, err = os.ReadDir(o.Path)
		for _, e := range entries {
			d.Names = append(d.Names, e.Name())
		}
	case "connect", "bind":
		err = socket(o)
	case "watch":
		var fd int
		if fd, err = unix.InotifyInit1(unix.IN_CLOEXEC); err == nil {
			_, err = unix.InotifyAddWatch(fd, o.Path, unix.IN_ALL_EVENTS)
			unix.Close(fd)
		}
	case "getxattr":
		_, err = unix.Getxattr(o.Path, o.Data, make([]byte, 64))
	case "setxattr":
		err = unix.Setxattr(o.Path, o.Data, []byte("x"), 0)
	case "statfs":
		var st unix.Statfs_t
		err = unix.Statfs(o.Path, &st)
		d.N = int(st.Namelen)
	case "flood":
		for i := range o.N {
			var st unix.Stat_t
			if e := unix.Lstat(fmt.Sprintf(o.Path, i), &st); e != nil && e != unix.ENOENT {
				return d, e
			}
		}
	case "getcwd":
		buf := make([]byte, unix.PathMax)
		if d.N, err = unix.Getcwd(buf); err == nil {
			d.Data = string(buf[:d.N-1])
		}
	case "twice":
		// One system call after the other, in one thread and without a pause.
		err = unix.Mkdir(o.Path, 0o700)
		_ = unix.Mkdir(o.Path2, 0o700)
	case "within":
		err = within(o)
	default:
		return file(o)
	}
	return d, err
}

// within makes a call at a directory and then one, of Data, for a name in it that begins at the directory itself: the file
// system is asked for no more than by one call for that name. Where both are mkdirat, their arguments are the same numbers.
func within(o op) error {
	dir, err := unix.Open(o.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var name [unix.PathMax]byte
	mkdirat := func(path string) error {
		copy(name[:], path+"\x00")
		_, _, errno := unix.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), 0o700)
		if errno != 0 {
			return errno
		}
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	first, second, _ := strings.Cut(o.Data, " ")
	switch first {
	case "mkdir":
		err = unix.Mkdir(o.Path, 0o700)
	case "mkdirat":
		err = mkdirat(o.Path)
	case "symlink":
		err = unix.Symlink("x", o.Path)
	case "watch":
		_, err = look(op{Do: "watch", Path: o.Path})
	}
	switch second {
	case "open":
		_, _ = unix.Openat(dir, o.Path2, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	case "mkdirat":
		_ = mkdirat(o.Path2)
	}
	return err
}

func socket(o op) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if o.Do == "bind" {
		return unix.Bind(fd, &unix.SockaddrUnix{Name: o.Path})
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: o.Path})
}

// file opens a file and reads it, or writes Data to it.
func file(o op) (d done, err error) {
	fd := -1
	switch o.Do {
	case "open":
		fd, err = unix.Open(o.Path, o.Flags|unix.O_CLOEXEC, o.Mode)
	case "openat2":
		fd, err = unix.Openat2(unix.AT_FDCWD, o.Path, &unix.OpenHow{Flags: uint64(o.Flags), Mode: uint64(o.Mode)})
	case "holes":
		return holes(o)
	case "background":
		go func() {
			var st unix.Stat_t
			_ = unix.Lstat(o.Path, &st)
		}()
		return d, nil
	case "parallel":
		return parallel(o)
	default:
		return d, errors.New("no such order")
	}
	if err != nil {
		return d, err
	}
	defer unix.Close(fd)
	if o.Flags&unix.O_PATH != 0 {
		return d, nil
	}
	if o.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		d.N, err = unix.Write(fd, []byte(o.Data))
		if err == nil && o.Length > 0 {
			err = unix.Fsync(fd)
		}
		return d, err
	}
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			d.Data = b.String()
			return d, err
		}
		b.Write(buf[:n])
	}
}

// holes reserves space, maps the file shared, writes through the mapping and makes it a byte longer.
func holes(o op) (d done, err error) {
	fd, err := unix.Open(o.Path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return d, err
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, 0, 0, o.Length); err != nil {
		return d, err
	}
	mapped, err := unix.Mmap(fd, 0, int(o.Length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return d, err
	}
	copy(mapped, o.Data)
	if err := unix.Msync(mapped, unix.MS_SYNC); err != nil {
		return d, err
	}
	if err := unix.Munmap(mapped); err != nil {
		return d, err
	}
	if err := unix.Ftruncate(fd, o.Length+1); err != nil {
		return d, err
	}
	at, err := unix.Seek(fd, 0, unix.SEEK_DATA)
	d.N = int(at)
	return d, err
}

// parallel looks up N times Length names and counts those that are not there.
func parallel(o op) (d done, err error) {
	var wait sync.WaitGroup
	var missing atomic.Int64
	for i := range o.N {
		wait.Go(func() {
			for k := range o.Length {
				var st unix.Stat_t
				if unix.Lstat(fmt.Sprintf(o.Path, i, k), &st) == unix.ENOENT {
					missing.Add(1)
				}
			}
		})
	}
	wait.Wait()
	d.N = int(missing.Load())
	return d, nil
}
