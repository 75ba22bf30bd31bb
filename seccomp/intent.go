// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"strings"

	"golang.org/x/sys/unix"
)

// shape says where a call carries what: the numbers of its arguments, -1 for none.
type shape struct {
	action    string
	dir, path int
	second    int  // the path of the second name, its directory is the argument before it where dir is not -1
	follow    bool // symbolic links are followed
	flags     int  // AT_SYMLINK_NOFOLLOW turns following off, AT_SYMLINK_FOLLOW on
	entry     bool
	absent    bool
	either    bool
}

// linkSources are the names that link and linkat give another one to: by it, what is protected could be written.
var linkSources = map[string]shape{
	"link":   {dir: -1, path: 0, flags: -1},
	"linkat": {dir: 0, path: 1, flags: 4},
}

// shapes are the calls of writeList, but for open, creat and bind, which intents treats apart.
var shapes = map[string]shape{
	"chmod":        {action: "chmod", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"chown":        {action: "chown", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"fchmod":       {action: "chmod", dir: 0, path: -1, second: -1, flags: -1},
	"fchmodat":     {action: "chmod", dir: 0, path: 1, second: -1, follow: true, flags: -1},
	"fchmodat2":    {action: "chmod", dir: 0, path: 1, second: -1, follow: true, flags: 3},
	"fchown":       {action: "chown", dir: 0, path: -1, second: -1, flags: -1},
	"fchownat":     {action: "chown", dir: 0, path: 1, second: -1, follow: true, flags: 4},
	"fremovexattr": {action: "xattr", dir: 0, path: -1, second: -1, flags: -1},
	"fsetxattr":    {action: "xattr", dir: 0, path: -1, second: -1, flags: -1},
	"futimesat":    {action: "utime", dir: 0, path: 1, second: -1, follow: true, flags: -1},
	"lchown":       {action: "chown", dir: -1, path: 0, second: -1, flags: -1},
	"link":         {action: "link", dir: -1, path: 1, second: -1, flags: -1, entry: true, absent: true},
	"linkat":       {action: "link", dir: 2, path: 3, second: -1, flags: -1, entry: true, absent: true},
	"lremovexattr": {action: "xattr", dir: -1, path: 0, second: -1, flags: -1},
	"lsetxattr":    {action: "xattr", dir: -1, path: 0, second: -1, flags: -1},
	"mkdir":        {action: "mkdir", dir: -1, path: 0, second: -1, flags: -1, entry: true, absent: true},
	"mkdirat":      {action: "mkdir", dir: 0, path: 1, second: -1, flags: -1, entry: true, absent: true},
	"mknod":        {action: "mknod", dir: -1, path: 0, second: -1, flags: -1, entry: true, absent: true},
	"mknodat":      {action: "mknod", dir: 0, path: 1, second: -1, flags: -1, entry: true, absent: true},
	"removexattr":  {action: "xattr", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"rename":       {action: "rename", dir: -1, path: 0, second: 1, flags: -1, entry: true, either: true},
	"renameat":     {action: "rename", dir: 0, path: 1, second: 3, flags: -1, entry: true, either: true},
	"renameat2":    {action: "rename", dir: 0, path: 1, second: 3, flags: -1, entry: true, either: true},
	"rmdir":        {action: "rmdir", dir: -1, path: 0, second: -1, flags: -1, entry: true, either: true},
	"setxattr":     {action: "xattr", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"symlink":      {action: "symlink", dir: -1, path: 1, second: -1, flags: -1, entry: true, absent: true},
	"symlinkat":    {action: "symlink", dir: 1, path: 2, second: -1, flags: -1, entry: true, absent: true},
	"truncate":     {action: "truncate", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"unlink":       {action: "unlink", dir: -1, path: 0, second: -1, flags: -1, entry: true, either: true},
	"unlinkat":     {action: "unlink", dir: 0, path: 1, second: -1, flags: -1, entry: true, either: true},
	"utime":        {action: "utime", dir: -1, path: 0, second: -1, follow: true, flags: -1},
	"utimensat":    {action: "utime", dir: 0, path: 1, second: -1, follow: true, flags: 3},
	"utimes":       {action: "utime", dir: -1, path: 0, second: -1, follow: true, flags: -1},
}

// intents reads what a call wants to change out of its arguments and its caller's memory.
func (w *worker) intents(n *notification) ([]intent, error) {
	name := Name(uint32(n.NR))
	switch name {
	case "open":
		return w.openIntent(n, -1, 0, uint32(n.Args[1]))
	case "openat":
		return w.openIntent(n, 0, 1, uint32(n.Args[2]))
	case "creat":
		return w.openIntent(n, -1, 0, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC)
	case "bind":
		return w.bindIntent(n)
	}
	s, ok := shapes[name]
	if !ok {
		return nil, unix.ENOSYS
	}
	first, err := w.named(n, s.dir, s.path)
	if err != nil {
		return nil, err
	}
	first.action, first.follow, first.entry, first.absent, first.either = s.action, s.follow, s.entry, s.absent, s.either
	first.content = s.action == "truncate"
	if name == "unlinkat" && n.Args[2]&unix.AT_REMOVEDIR != 0 {
		first.action = "rmdir"
	}
	if s.flags >= 0 && n.Args[s.flags]&unix.AT_SYMLINK_NOFOLLOW != 0 {
		first.follow = false
	}
	if first.path == "" {
		first.entry, first.absent = false, false
	}
	if first.entry {
		first.path = nameAlone(first.path)
	}
	if source, ok := linkSources[name]; ok {
		from, err := w.named(n, source.dir, source.path)
		from.action, from.source = first.action, true
		from.follow = source.flags >= 0 && n.Args[source.flags]&unix.AT_SYMLINK_FOLLOW != 0
		return []intent{first, from}, err
	}
	if s.second < 0 {
		return []intent{first}, nil
	}
	dir := -1
	if s.dir >= 0 {
		dir = s.second - 1
	}
	second, err := w.named(n, dir, s.second)
	if err != nil {
		return nil, err
	}
	second.path = nameAlone(second.path)
	// The directory that holds the second name is changed.
	second.action, second.entry, second.either, second.renamed = s.action, true, true, true
	second.moves = &pathOf{n.PID, first.dirfd, first.path}
	if name == "renameat2" {
		second.tries = n.Args[4]&unix.RENAME_NOREPLACE != 0
		if n.Args[4]&unix.RENAME_EXCHANGE != 0 {
			first.moves = &pathOf{n.PID, second.dirfd, second.path}
		}
	}
	return []intent{first, second}, nil
}

// nameAlone is a path without the slashes at its end. Where a directory's entry is changed they lead through no link, as they do elsewhere
// (path_resolution(7)): the kernel wants a directory of that name itself.
func nameAlone(path string) string {
	if name := strings.TrimRight(path, "/"); name != "" {
		return name
	}
	return path
}

// named is an intent with the directory and the path that two arguments carry.
func (w *worker) named(n *notification, dir, path int) (intent, error) {
	in := intent{dirfd: unix.AT_FDCWD}
	if dir >= 0 {
		in.dirfd = int32(n.Args[dir])
	}
	if path < 0 {
		return in, nil
	}
	var err error
	in.path, err = readPath(n.PID, n.Args[path], w.path)
	return in, err
}

func (w *worker) openIntent(n *notification, dir, path int, flags uint32) ([]intent, error) {
	in, err := w.named(n, dir, path)
	in.action, in.opens, in.content, in.flags = "open-write", true, true, flags
	if flags&unix.O_TMPFILE == unix.O_TMPFILE {
		in.action = "create"
	}
	in.follow = flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	return []intent{in}, err
}

// bindIntent is the socket file that bind(2) makes, for a unix socket with a path.
func (w *worker) bindIntent(n *notification) ([]intent, error) {
	raw, err := readAddress(n.PID, n.Args[1], uint32(n.Args[2]))
	if err != nil {
		return nil, err
	}
	path, ok := raw.path()
	if !ok {
		return nil, nil
	}
	return []intent{{action: "bind", dirfd: unix.AT_FDCWD, path: path, entry: true, absent: true}}, nil
}
