// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// A rename and a link from one mount to another end with EXDEV, after which most callers copy (rename(2), link(2)). The kernel finds that
// before it looks for the names themselves, so that a root which reports for itself is not asked about them. What would have been
// refused is on record all the same, by what Config.Unasked says.

// crosses decides such a call. It is on record where one of the names may not be changed; that one is a mount is none, since mv(1) looks
// for a directory by a rename that replaces nothing.
func (w *worker) crosses(n *notification, intents []intent) {
	for _, in := range intents {
		if no := w.refuses(n.PID, &in); no.target != "" && no.errno != unix.EBUSY {
			if no.errno = unix.EXDEV; valid(w.fd, n.ID) {
				w.emit(n, w.refused(n, in, no))
			}
			w.answer(n, no.errno)
			return
		}
		if w.unasked(n, in) {
			w.answer(n, unix.EXDEV)
			return
		}
	}
	w.letGo(n, intents)
}

// linksAcross tells whether a call is a link from one mount to another of which the run's root is one.
func (w *worker) linksAcross(tid uint32, intents []intent) bool {
	if len(intents) != 2 || !intents[1].source || !intents[0].served && !intents[1].served {
		return false
	}
	same, known := w.sameMount(tid, intents[0], intents[1])
	return known && !same
}

// unasked records a name that the run's root would refuse, were it asked.
func (w *worker) unasked(n *notification, in intent) bool {
	if w.config.Unasked == nil {
		return false
	}
	target := w.nameOfRoot(n.PID, in)
	if target == "" || !valid(w.fd, n.ID) {
		return false
	}
	e := audit.Event{
		Class: audit.ClassFile, Action: in.action, Decision: audit.Deny, Target: target, Errno: unix.ErrnoName(unix.EXDEV),
		Provenance: audit.FromClaimed,
	}
	if !w.config.Unasked(&e, in.renamed || in.absent, w.usher.onHost) {
		return false
	}
	e.Process = w.describeCaller(n.PID)
	w.emit(n, e)
	return true
}

// nameOfRoot is the path of a name that is the root's to decide: "" for one that is granted, or that is there and shall not be replaced.
func (w *worker) nameOfRoot(tid uint32, in intent) string {
	if name := path.Base(in.path); in.path != "" && (name == "." || name == "..") {
		return ""
	}
	at, rest, err := w.usher.place(tid, in.dirfd, in.path, in.follow)
	if err != nil {
		return ""
	}
	defer w.usher.leave(at)
	// A stand-in of what is hidden can lie in a directory that is granted, and be named by a descriptor.
	if object, err := w.usher.openAt(at, rest, in.follow); err == nil {
		defer unix.Close(object)
		if _, served := w.lies(object); !served || in.absent || in.tries && isDir(object) {
			return ""
		}
		return w.describeFile(object)
	}
	parent, name, err := w.usher.openParent(at, rest)
	if err != nil {
		return ""
	}
	if parent != at {
		defer unix.Close(parent)
	}
	if _, served := w.lies(parent); !served {
		return ""
	}
	return path.Join(w.describeFile(parent), name)
}

func isDir(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// sameMount tells whether two names lie on one mount, which rename(2) wants before it looks at anything else. It is not known where one
// lies in no directory that can be opened: the kernel says why.
func (w *worker) sameMount(tid uint32, a, b intent) (same, known bool) {
	first, ok1 := w.mountOf(tid, a)
	second, ok2 := w.mountOf(tid, b)
	return first == second, ok1 && ok2
}

func (w *worker) mountOf(tid uint32, in intent) (uint64, bool) {
	name := in.path
	if in.entry {
		name, _ = path.Split(strings.TrimRight(name, "/"))
		name = dirOr(name)
	}
	fd, err := w.usher.open(tid, in.dirfd, name, in.entry || in.follow)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, false
	}
	return st.Mnt_id, true
}
