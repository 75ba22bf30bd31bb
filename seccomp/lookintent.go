// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"golang.org/x/sys/unix"
)

// lookShapes are the calls that walk a path and change nothing. They are asked about where the run's root does not report for itself
// (see Tree). Of the calls that walk one and are not here, those of writeList and connect(2) are asked about anyway, and the others are
// refused: openat2(2), name_to_handle_at(2), mount(2) and its like.
var lookShapes = map[string]shape{
	"access":            {action: "access", dir: -1, path: 0, follow: true, flags: -1},
	"chdir":             {action: "chdir", dir: -1, path: 0, follow: true, flags: -1},
	"chroot":            {action: "chdir", dir: -1, path: 0, follow: true, flags: -1},
	"execve":            {action: "exec", dir: -1, path: 0, follow: true, flags: -1},
	"execveat":          {action: "exec", dir: 0, path: 1, follow: true, flags: 4},
	"faccessat":         {action: "access", dir: 0, path: 1, follow: true, flags: -1},
	"faccessat2":        {action: "access", dir: 0, path: 1, follow: true, flags: 3},
	"file_getattr":      {action: "stat", dir: 0, path: 1, follow: true, flags: 4},
	"getxattr":          {action: "xattr", dir: -1, path: 0, follow: true, flags: -1},
	"getxattrat":        {action: "xattr", dir: 0, path: 1, follow: true, flags: 2},
	"inotify_add_watch": {action: "watch", dir: -1, path: 1, follow: true, flags: -1},
	"lgetxattr":         {action: "xattr", dir: -1, path: 0, flags: -1},
	"listxattr":         {action: "xattr", dir: -1, path: 0, follow: true, flags: -1},
	"listxattrat":       {action: "xattr", dir: 0, path: 1, follow: true, flags: 2},
	"llistxattr":        {action: "xattr", dir: -1, path: 0, flags: -1},
	"lstat":             {action: "stat", dir: -1, path: 0, flags: -1},
	"newfstatat":        {action: "stat", dir: 0, path: 1, follow: true, flags: 3},
	"open":              {dir: -1, path: 0, flags: 1},
	"openat":            {dir: 0, path: 1, flags: 2},
	"readlink":          {action: "readlink", dir: -1, path: 0, flags: -1},
	"readlinkat":        {action: "readlink", dir: 0, path: 1, flags: -1},
	"stat":              {action: "stat", dir: -1, path: 0, follow: true, flags: -1},
	"statfs":            {action: "stat", dir: -1, path: 0, follow: true, flags: -1},
	"statx":             {action: "stat", dir: 0, path: 1, follow: true, flags: 2},
}

// lookIntent reads what a call looks at.
func (w *worker) lookIntent(n *notification) (intent, error) {
	name := Name(uint32(n.NR))
	s, ok := lookShapes[name]
	if !ok {
		return intent{}, unix.ENOSYS
	}
	in, err := w.named(n, s.dir, s.path)
	in.action, in.follow = s.action, s.follow
	switch {
	case name == "open" || name == "openat":
		in.action, in.follow = openLook(uint32(n.Args[s.flags]))
	case s.flags >= 0 && n.Args[s.flags]&unix.AT_SYMLINK_NOFOLLOW != 0:
		in.follow = false
	}
	return in, err
}

// openLook says what an open(2) that writes nothing is for, and whether it follows a link.
func openLook(flags uint32) (action string, follow bool) {
	action = "open-read"
	switch {
	case flags&unix.O_PATH != 0:
		action = "stat" // such a descriptor names the file and gives no access to it
	case flags&unix.O_DIRECTORY != 0:
		action = "list"
	}
	return action, flags&unix.O_NOFOLLOW == 0
}

// asksAboutLooks has a policy ask about the calls of lookShapes that it allows.
func (p *Policy) asksAboutLooks() {
	look := func(v Verdict) Verdict {
		if v == allowed {
			return Verdict{Kind: Look}
		}
		return v
	}
	for name := range lookShapes {
		r, ok := p.rules[name]
		if !ok {
			continue
		}
		asked := rule{Otherwise: look(r.Otherwise)}
		for _, c := range r.Clauses {
			asked.Clauses = append(asked.Clauses, clause{Tests: c.Tests, Then: look(c.Then)})
		}
		p.rules[name] = asked
	}
	p.looks = true
}
