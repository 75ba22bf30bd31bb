// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links the kernel follows for one path (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// walk resolves a path name by name (path_resolution(7)), for the names that mean another thing to each reader: those of the
// caller's own entry in /proc, which are there for no thread outside of the run (proc(5)). It returns the directory that holds
// the last name, and that name, or what is left of the path where a name is missing. The last name is no symbolic link, unless
// it is not to be followed or leads by itself to what somebody has open. The directory is the caller's to close.
func (u *usher) walk(tid uint32, from int, path string, follow bool) (dir int, rest string, err error) {
	if dir, err = u.beginning(from, path); err != nil {
		return -1, "", err
	}
	links := 0
	for {
		path = strings.TrimLeft(path, "/")
		name, rest, _ := strings.Cut(path, "/")
		last := strings.Trim(rest, "/") == ""
		if name == "" || last && len(path) == len(name) && !follow {
			return dir, path, nil
		}
		next, target, err := u.step(tid, dir, name)
		switch {
		case err == unix.ENOENT:
			return dir, path, nil
		case err != nil:
			unix.Close(dir)
			return -1, "", err
		case target != "":
			if links++; links > maxLinks {
				unix.Close(dir)
				return -1, "", unix.ELOOP
			}
			path = target + path[len(name):]
			if target[0] != '/' {
				continue
			}
			if next, err = u.beginning(unix.AT_FDCWD, "/"); err != nil {
				unix.Close(dir)
				return -1, "", err
			}
		case last:
			unix.Close(next)
			return dir, path, nil
		default:
			path = rest
		}
		unix.Close(dir)
		dir = next
	}
}

// beginning opens the directory that a path begins at.
func (u *usher) beginning(from int, path string) (int, error) {
	if path != "" && path[0] == '/' {
		return u.openAt(unix.AT_FDCWD, "/", true)
	}
	return u.openAt(from, "", true)
}

// step looks a name up: it is a file, or a symbolic link that says where it leads. A link that the kernel follows by itself,
// to what a process has open, says nothing of use: it is followed.
func (u *usher) step(tid uint32, dir int, name string) (file int, target string, err error) {
	if file, err = u.openAt(dir, name, false); err != nil {
		return -1, "", err
	}
	var st unix.Stat_t
	if unix.Fstat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return file, "", nil
	}
	// Of links alone: the file system of the run's root is asked by a message.
	proc := onProc(file)
	unix.Close(file)
	switch {
	case proc && (name == "self" || name == "thread-self"):
		target, err = u.ownEntry(tid, name)
	case proc && !isProcRoot(dir):
		file, err = u.openAt(dir, name, true)
		return file, "", err
	default:
		target, err = readlinkat(dir, name)
	}
	return -1, target, err
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func onProc(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}

// isProcRoot tells whether a directory of proc(5) is the topmost one, whose links say where they lead.
func isProcRoot(dir int) bool {
	const rootInode = 1 // PROC_ROOT_INO, linux/proc_ns.h
	var st unix.Stat_t
	return unix.Fstat(dir, &st) == nil && st.Ino == rootInode
}

// ownEntry is where "self" and "thread-self" lead for the caller, by its numbers in the run's namespace.
func (u *usher) ownEntry(tid uint32, name string) (string, error) {
	process, err := u.statusNumber(tid, "NStgid")
	if err != nil || name == "self" {
		return strconv.Itoa(process), err
	}
	thread, err := u.statusNumber(tid, "NSpid")
	return strconv.Itoa(process) + "/task/" + strconv.Itoa(thread), err
}

func isLink(dir int, name string) bool {
	_, err := unix.Readlinkat(dir, name, make([]byte, 1))
	return err == nil
}
