// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// intent is what a call wants to change: an object, or an entry of a directory.
type intent struct {
	action  string
	dirfd   int32
	path    string
	follow  bool    // the object that a symbolic link leads to, not the link
	entry   bool    // the directory that holds the name, not what the name stands for
	absent  bool    // the kernel refuses, with an errno of its own, what exists already
	either  bool    // the kernel looks at the mount before it looks for the name
	renamed bool    // what is renamed gets this name
	moves   *pathOf // what gets this name by a rename
	tries   bool    // nothing is replaced (RENAME_NOREPLACE): so mv(1) finds out whether this is a directory
	source  bool    // nothing of it is changed, but it gets another name
	served  bool    // found out: what is changed, or linked, is of the run's root where that reports for itself
	flags   uint32  // of open(2)
	opens   bool
	// content says that the object's bytes are to change, which Landlock refuses outside of the places that may be written.
	content bool
}

// fuseMagic is the type of the run's root where a process serves it (statfs(2)).
const fuseMagic = 0x65735546

// write decides a call that wants to change what a path names. On a read-only mount the kernel would refuse it with EROFS
// and nobody would know: it is recorded here, and refused. Everything else the kernel carries out and the mounts confine, so
// that nothing is widened when the caller changes its memory meanwhile. What cannot be resolved is the kernel's to refuse.
func (w *worker) write(n *notification) {
	w.wanted = w.usher.wanting.Load()
	intents, err := w.intents(n)
	if err != nil {
		w.unread(n, err) // what is protected by name alone could be meant
		return
	}
	if reason := w.exceeds(intents); reason != "" {
		w.unknown(n, unix.EPERM, reason)
		return
	}
	if len(intents) == 2 && !intents[1].source {
		switch same, known := w.sameMount(n.PID, intents[0], intents[1]); {
		case !known:
			w.letGo(n, intents)
			return
		case !same:
			w.crosses(n, intents)
			return
		}
	}
	for i, in := range intents {
		no := w.refuses(n.PID, &in)
		intents[i].served = in.served
		if no.missing {
			w.report(n, in)
		}
		if no.errno == 0 || in.renamed && no.late && !w.exists(n.PID, intents[0]) { // ENOENT comes first
			continue
		}
		if no.target != "" && valid(w.fd, n.ID) { // of a caller that was killed, what was read can be another's
			w.emit(n, w.refused(n, in, no))
		}
		w.answer(n, no.errno)
		return
	}
	if w.linksAcross(n.PID, intents) {
		w.crosses(n, intents)
		return
	}
	w.letGo(n, intents)
}

// letGo leaves a call to the kernel, but for what a Tree has to say of it. One that was not looked at to the end, for want of files or
// memory, is refused: a command can see to that, and what is protected by name alone could be meant.
func (w *worker) letGo(n *notification, intents []intent) {
	if w.usher.wanting.Load() != w.wanted && len(intents) > 0 {
		w.emit(n, w.refused(n, intents[0], refusal{
			target: intents[0].path, errno: unix.EIO, reason: "it could not be looked at: too many files are open, or memory is short",
		}))
		w.answer(n, unix.EIO)
		return
	}
	for _, in := range intents {
		if errno := w.report(n, in); errno != 0 {
			w.answer(n, errno)
			return
		}
	}
	w.carryOn(n)
}

// refused is the event of a refusal.
func (w *worker) refused(n *notification, in intent, no refusal) audit.Event {
	e := audit.Event{
		Class: audit.ClassFile, Action: in.action, Decision: audit.Deny, Target: no.target, Errno: unix.ErrnoName(no.errno),
		Rule: no.rule, Reason: no.reason, Provenance: audit.FromClaimed, Process: w.describeCaller(n.PID),
	}
	if no.rule != "" {
		e.Class = classOf(in.action)
		w.tree.Judge(&e, false)
	}
	return e
}

// unreadable is said of a call whose path or address is in memory that may not be read: the caller runs a program that its owner
// may not read either, and that belongs to a user or group whom the run's user namespace does not have (would_dump in fs/exec.c).
const unreadable = "what it aims at is not known: the memory of this program may not be read"

// nowhere is said of one in memory that is not there, or that another process cannot read: write(2) and its like can, of pages that were
// mapped for writing or for execution alone (mprotect(2), "On x86"), where process_vm_readv(2) cannot.
const nowhere = "what it aims at is not known: its path or address is in no memory, or in some that is not mapped for reading"

// unread answers a call whose path or address was not read. The kernel may be able to read it, so it does not decide.
func (w *worker) unread(n *notification, err error) {
	switch errno := errnoOf(err); errno {
	case unix.EPERM:
		w.unknown(n, errno, unreadable)
	case unix.EFAULT:
		w.unknown(n, errno, nowhere)
	default: // as the kernel has it: a path that is too long, an address of an odd size
		w.answer(n, errno)
	}
}

// unknown refuses and records a call that nothing but its name and its numbers is told of.
func (w *worker) unknown(n *notification, errno unix.Errno, reason string) {
	name := Name(uint32(n.NR))
	w.emit(n, audit.Event{
		Class: audit.ClassSyscall, Action: name, Decision: audit.Deny, Target: describe(name, n.Args), Errno: unix.ErrnoName(errno),
		Reason: reason, Provenance: audit.FromKernel, Process: w.describeCaller(n.PID),
	})
	w.answer(n, errno)
}

func (w *worker) exists(tid uint32, in intent) bool {
	file, err := w.usher.open(tid, in.dirfd, in.path, false)
	if err != nil {
		return false
	}
	unix.Close(file)
	return true
}

// refusal is what an intent aims at, where that may not be changed. Without a target there is nothing to report, and without an
// errno the kernel decides.
type refusal struct {
	target string
	errno  unix.Errno
	reason string
	late   bool   // the kernel looks first whether what is renamed is there
	rule   string // of a Tree
	// missing says that nothing is there: that is on record if the host has it.
	missing bool
}

// readOnly is the refusal of a change to a file, or in a directory, that lies on a read-only mount.
func (w *worker) readOnly(file int, target string) refusal {
	if no := w.notHere(file, target); no.errno != 0 {
		return no
	}
	return refusal{target: target, errno: unix.EROFS, reason: "read-only for this run"}
}

// protected is the refusal of a change to a file, or in a directory, by its name. Where nothing tells what the run has made itself, that is
// refused too.
func protected(file int, target string) refusal {
	reason := "protected, since programs outside trust what is called so: --rw PATH or --unprotect NAME lets it be written"
	if !isDated(file) {
		reason += "; on this file system nothing tells what the run has made itself: to clone or to make a repository there, --unprotect .git"
	}
	return refusal{target: target, errno: unix.EROFS, reason: reason, late: true}
}

func mounted(target string) refusal {
	return refusal{target: target, errno: unix.EBUSY, reason: "it is a mount of this run, which can neither be moved nor removed", late: true}
}

// refuses decides an intent.
func (w *worker) refuses(tid uint32, in *intent) (none refusal) {
	at, rest, err := w.usher.place(tid, in.dirfd, in.path, in.follow)
	if err != nil {
		return none
	}
	defer w.usher.leave(at)
	if place := w.moved(); place != "" {
		return refusal{target: in.path, errno: unix.EIO, reason: "another run with the same home has moved or removed a directory on the way to " + strconv.Quote(place)}
	}
	if in.entry {
		return w.refusesEntry(in, at, rest)
	}
	object, err := w.usher.openAt(at, rest, in.follow)
	if err == nil {
		defer unix.Close(object)
		return w.refusesObject(in, object)
	}
	if err != unix.ENOENT || !in.creates() {
		return none
	}
	in.action = "create"
	return w.refusesEntry(in, at, rest)
}

// refusesObject decides what is done to a file that exists.
func (w *worker) refusesObject(in *intent, object int) (none refusal) {
	target := func() string { return w.describeFile(object) }
	var readOnly bool
	if !in.opens || in.writes(object) {
		readOnly, in.served = w.lies(object)
	}
	switch {
	case in.opens && !in.writes(object):
	case !in.source && readOnly:
		return w.readOnly(object, target())
	case in.content && w.given(object):
		return refusal{target: target(), errno: unix.EACCES, reason: "the command has this file as its input, to read"}
	case !in.served && w.protects(in.action, target, object):
		return protected(object, target())
	}
	return w.keeps(in, object, target, true)
}

// refusesEntry decides what is done to a name in a directory, which can be missing.
func (w *worker) refusesEntry(in *intent, at int, rest string) (none refusal) {
	parent, name, err := w.usher.openParent(at, rest)
	if err != nil {
		return none
	}
	if parent != at {
		defer unix.Close(parent)
	}
	if name == "." || name == ".." {
		return none // which the kernel refuses by the name alone (rename(2), rmdir(2)): mv(1) tries it for "mv FILE ."
	}
	inReadOnly, served := w.lies(parent)
	in.served = served
	target := func() string { return path.Join(w.describeDir(parent, served), name) }
	if !inReadOnly {
		if no := w.keepsEntry(in, parent, at, rest, target); no.errno != 0 {
			return no
		}
	}
	guarded := !inReadOnly && !served && (w.protects(in.action, target, parent) || w.bringsOlder(in, target))
	if !inReadOnly && !guarded && (in.absent || in.opens) {
		return none // whatever the name stands for
	}
	if !inReadOnly && !guarded && in.action != "rmdir" {
		if isMountPoint(parent, name) {
			return mounted(target())
		}
		return none
	}
	object, err := w.usher.openAt(at, rest, in.follow)
	exists := err == nil
	if exists {
		defer unix.Close(object)
	}
	switch {
	case !inReadOnly && exists && in.action == "rmdir" && !isEmpty(object) && w.protects("rename", target, parent):
		return refusal{errno: unix.ENOTEMPTY} // as without agentjail, where this is no refusal of its
	case (!inReadOnly || w.ofTree(parent) != "") && !guarded && exists && !in.absent && isMountPoint(object, ""):
		return mounted(target())
	case !inReadOnly && !guarded, exists && in.absent, !exists && err != unix.ENOENT:
		return none
	case guarded && !exists && !in.makes():
		return none
	case guarded:
		return protected(parent, target())
	}
	no := w.readOnly(parent, target())
	if no.rule != "" && !exists && !in.makes() {
		return refusal{errno: unix.ENOENT, missing: true}
	}
	return no
}

// protects tells whether Config.Protect keeps a path as it is. A path can be longer than the kernel can say (PATH_MAX), where a
// directory was moved that deep: in what is protected there are no files that the run has made, so that of a file with such a path, or
// of the directory that is to hold it, the age tells. What lies in no directory has a name without a slash before it, such as
// pipe:[1] (proc_pid_fd(5)).
func (w *worker) protects(action string, target func() string, file int) bool {
	if w.config.Protect == nil {
		return false
	}
	at := target()
	if strings.HasPrefix(at, unknownPath) {
		return w.isOlderFile(file)
	}
	return strings.HasPrefix(at, "/") && slices.ContainsFunc(w.config.Protect(action, at), w.isOlder)
}

// given tells whether a file is one of Config.ReadOnly, as the command has it: by their mount, which is the caller's.
func (w *worker) given(file int) bool {
	if len(w.config.ReadOnly) == 0 {
		return false
	}
	here, err := mountedAt(file)
	return err == nil && slices.ContainsFunc(w.config.ReadOnly, func(f *os.File) bool {
		there, err := mountedAt(int(f.Fd()))
		return err == nil && here == there
	})
}

// openParent opens the directory that holds the last name of a path: it is at itself, and not opened again, where that does.
func (u *usher) openParent(at int, of string) (parent int, name string, err error) {
	dir, name := path.Split(strings.TrimRight(of, "/"))
	switch {
	case dir == "" && name == "":
		return -1, "", unix.ENOENT
	case dir == "":
		return at, name, nil
	}
	parent, err = u.openAt(at, dir, true)
	return parent, name, err
}

func dirOr(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// creates tells whether a missing object would be made by opening it.
func (in intent) creates() bool { return in.opens && in.flags&unix.O_CREAT != 0 }

// makes tells whether a missing name would be made.
func (in intent) makes() bool { return in.absent || in.opens || in.renamed }

// writes tells whether opening an object that exists is to be refused on a read-only mount. The kernel itself lets pipes be written
// there, behind which a process of the host may read: with a read-only directory nobody granted that. A directory cannot be opened
// for writing, and O_EXCL refuses what exists.
func (in intent) writes(object int) bool {
	var st unix.Stat_t
	if unix.Fstat(object, &st) != nil {
		return false
	}
	const exclusive, write = unix.O_CREAT | unix.O_EXCL, unix.O_WRONLY | unix.O_RDWR
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return in.flags&exclusive != exclusive && in.flags&(write|unix.O_TRUNC) != 0
	case unix.S_IFIFO:
		return in.flags&exclusive != exclusive && in.flags&write != 0
	case unix.S_IFDIR:
		return in.flags&unix.O_TMPFILE == unix.O_TMPFILE
	}
	return false
}

// isMountPoint tells whether a name, or with an empty one the file, stands for the root of a mount (STATX_ATTR_MOUNT_ROOT, Linux 5.8),
// which rename(2), rmdir(2) and unlink(2) leave where it is.
func isMountPoint(at int, name string) bool {
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	var st unix.Statx_t
	return unix.Statx(at, name, flags, 0, &st) == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// isEmpty tells whether a directory holds no name. What cannot be read counts as empty.
func isEmpty(dir int) bool {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return true
	}
	_, count, _ := unix.ParseDirent(buf[:n], 1, nil) // of names but . and ..
	return count == 0
}

// lies tells whether a file lies on a read-only mount, or is of the run's root where a process serves that, which refuses and reports for
// itself. Another file system of that kind is as any.
func (w *worker) lies(fd int) (readOnly, served bool) {
	var st unix.Statfs_t
	switch {
	case unix.Fstatfs(fd, &st) != nil:
		return false, false
	case st.Type == fuseMagic && w.usher.ofRoot(fd):
		return false, true
	}
	return st.Flags&unix.ST_RDONLY != 0, false
}

// unknownPath stands for one that the kernel does not tell.
const unknownPath = "?"

// describeFile is the path of a file as the run sees it.
func (w *worker) describeFile(fd int) string {
	if w.away {
		return w.usher.fromTheRoot(fd)
	}
	return w.usher.pathOf(fd, w.link)
}

// describeDir is describeFile of a directory, whose path costs less as the one that this thread is in (getcwd(2)): nothing is resolved
// from there. A process that serves it would be asked, and take that for the run's. What getcwd does not tell, such as of a directory that
// was removed, describeFile says.
func (w *worker) describeDir(dir int, served bool) string {
	if !w.away && !served && unix.Fchdir(dir) == nil {
		if n, err := unix.Getcwd(w.link); err == nil && w.link[0] == '/' {
			return string(w.link[:n-1])
		}
	}
	return w.describeFile(dir)
}

// pathOf is the path of a file from this thread's root, which buf has room for.
func (u *usher) pathOf(fd int, buf []byte) string {
	n, err := unix.Readlinkat(int(u.fds.Fd()), strconv.Itoa(fd), buf)
	if err != nil {
		return unknownPath
	}
	return string(buf[:n])
}
