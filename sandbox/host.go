// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
)

// Files is what Compile asks of the host's file system. Tests give it a fake one.
type Files interface {
	Lstat(path string) (fs.FileInfo, error)
	Readlink(path string) (string, error)
	ReadFile(path string, most int) ([]byte, error) // the beginning of a regular file
	ReadDir(path string) ([]fs.DirEntry, error)     // sorted
	Mounts() ([]*mountinfo.Info, error)             // proc_pid_mountinfo(5)
}

// Host is what Probe found out: all that Compile knows of the machine and its caller.
type Host struct {
	Identity Identity
	Environ  []string
	Workdir  string   // as asked for, absolute; symlinks not resolved
	Current  string   // the current directory; the same unless another Workdir was asked for
	Homes    []string // that of Identity, and the one that the system's list of users has, where HOME is another
	Program  string   // the running program, which starts the next run too
	State    string   // agentjail's state directory
	Umask    int
	Files    Files
	// WithoutFUSE says why FUSE cannot be used here; empty where it can.
	WithoutFUSE string
}

// Request is what the caller wants to run.
type Request struct {
	Workdir string // empty: the current directory
}

// Probe asks the host for the facts that a plan needs. It changes nothing.
func Probe(r Request) (Host, error) {
	id, homes, err := callerIdentity()
	if err != nil {
		return Host{}, err
	}
	workdir, current, err := requestedWorkdir(r.Workdir)
	if err != nil {
		return Host{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return Host{}, err
	}
	umask := unix.Umask(0o077)
	unix.Umask(umask)
	return Host{
		Identity: id, Environ: os.Environ(), Workdir: workdir, Current: current, Homes: homes, Program: program, State: StateDir(id.Home),
		Umask: umask, Files: hostFiles{}, WithoutFUSE: withoutFUSE(),
	}, nil
}

func withoutFUSE() string {
	if err := rootfs.CheckFUSE(); err != nil {
		return err.Error()
	}
	return ""
}

// KeyFile is the file in the state directory that holds the key by which logs are signed.
const KeyFile = "log.key"

// StateDir is agentjail's directory below XDG_STATE_HOME, or below the home where that is not set
// (XDG Base Directory Specification 0.8). Links on the way to it are resolved: grants are compared with it, and nothing is
// mounted through a link.
func StateDir(home string) string {
	dir := filepath.Join(home, ".local/state/agentjail")
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		dir = filepath.Join(state, "agentjail")
	}
	for rest, at := "", dir; ; rest, at = filepath.Join(filepath.Base(at), rest), filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

func requestedWorkdir(asked string) (workdir, current string, err error) {
	current, err = os.Getwd()
	if err != nil {
		return "", "", requestErrorf("the current directory does not exist any more; change to one that does")
	}
	if asked == "" {
		return current, current, nil
	}
	if !filepath.IsAbs(asked) {
		asked = filepath.Join(current, asked)
	}
	return filepath.Clean(asked), current, nil
}

// callerIdentity is who the command runs as, and the homes of that user. Under sudo(8) that is the user who called it.
func callerIdentity() (Identity, []string, error) {
	id := Identity{UID: os.Getuid(), GID: os.Getgid(), Home: os.Getenv("HOME")}
	if uid, gid, ok := Sudo(); ok {
		id = Identity{UID: uid, GID: gid}
	}
	var homes []string
	u, err := user.LookupId(strconv.Itoa(id.UID))
	switch {
	case err == nil:
		id.User = u.Username
		if home, err := filepath.EvalSymlinks(u.HomeDir); err == nil && !slices.Contains(refusedDirs, home) {
			homes = append(homes, home)
		}
		if id.Home == "" {
			id.Home = u.HomeDir
		}
	case id.UID == 0:
		id.User = "root"
	default:
		id.User = "user"
	}
	id.Group = id.User
	if g, err := user.LookupGroupId(strconv.Itoa(id.GID)); err == nil {
		id.Group = g.Name
	}
	if id.Home != "" && !filepath.IsAbs(id.Home) {
		return Identity{}, nil, requestErrorf("HOME is %q, which is no absolute path; set it to one", id.Home)
	}
	if id.Home == "" {
		return Identity{}, nil, requestErrorf("no home directory is known for uid %d; set HOME", id.UID)
	}
	home, err := filepath.EvalSymlinks(id.Home)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, nil, requestErrorf("the home directory %q does not exist; set HOME to one that does", id.Home)
	}
	if err != nil {
		return Identity{}, nil, fmt.Errorf("home: %w", err)
	}
	id.Home = home
	return id, append(homes, home), nil
}

// Sudo returns the ids of the user who called sudo, where root runs for one.
func Sudo() (uid, gid int, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	return uid, gid, err1 == nil && err2 == nil && uid > 0 && gid >= 0
}

// hostFiles is the real file system.
type hostFiles struct{}

func (hostFiles) Lstat(path string) (fs.FileInfo, error)     { return os.Lstat(path) }
func (hostFiles) Readlink(path string) (string, error)       { return os.Readlink(path) }
func (hostFiles) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (hostFiles) Mounts() ([]*mountinfo.Info, error)         { return mountinfo.GetMounts(nil) }

// ReadFile reads at most 4 KiB of a regular file, without waiting for a pipe that somebody put there.
func (hostFiles) ReadFile(path string, most int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	buf := make([]byte, min(int64(most), info.Size()))
	n, err := io.ReadFull(f, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return buf[:n], err
}
