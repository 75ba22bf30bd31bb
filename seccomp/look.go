// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// Tree describes a root that does not report for itself, as the run's own file system would (package denyfs): what is not granted is
// not there, and a look at it is recorded because the call was asked about. The record is all that depends on the answer.
type Tree struct {
	Hidden   []string // paths of the run at which stand-ins are mounted, of files that are hidden
	Passages []string // paths of the run at which hidden directories are that show the way to what is granted in them
	Home     []string // paths of the run at which the private home, or a part of it, is mounted

	// Judge completes an event, of what is missing inside and there on the host; dir says that it is a directory there. It is false
	// where there is to be no event.
	Judge func(e *audit.Event, dir bool) bool

	// Refuse says why something may not be done to a path in the home, although the mounts would let it: "" if it may. makes says that
	// the path is to get a file, exists that it has one, and onHost tells whether the host's home has it.
	Refuse func(action, path string, makes, exists bool, onHost func() bool) (rule, reason string)
}

// The rules that events of a Tree name, as those of package denyfs do.
const (
	ruleNotGranted = "not-granted"
	ruleHidden     = "hidden"
)

// tree is a Tree with the mounts that it speaks of.
type tree struct {
	Tree
	root     uint64   // id of its mount
	home     []uint64 // ids of mounts
	passages []uint64
	hidden   []mountedFile
}

func newTree(u *usher, t *Tree) (*tree, error) {
	if t == nil {
		return nil, nil
	}
	root, err := mountedAt(int(u.root.Fd()))
	if err != nil {
		return nil, err
	}
	hidden, err := u.mounted(t.Hidden)
	if err != nil {
		return nil, err
	}
	out := &tree{Tree: *t, root: root.mount, hidden: hidden}
	for paths, ids := range map[*[]string]*[]uint64{&t.Home: &out.home, &t.Passages: &out.passages} {
		at, err := u.mounted(*paths)
		if err != nil {
			return nil, err
		}
		for _, m := range at {
			*ids = append(*ids, m.mount)
		}
	}
	return out, nil
}

// rule is that by which nothing of the host's is in a directory of the run's own: "" for one of another mount.
func (t *tree) rule(at mountedFile) string {
	switch {
	case slices.Contains(t.hidden, at), slices.Contains(t.passages, at.mount):
		return ruleHidden
	case at.mount == t.root:
		return ruleNotGranted
	}
	return ""
}

// hides tells whether a file is a stand-in.
func (t *tree) hides(at mountedFile) bool { return slices.Contains(t.hidden, at) }

// look records a look at what is not granted, and lets the kernel go on: there is nothing of the host's to be found.
func (w *worker) look(n *notification) {
	in, err := w.lookIntent(n)
	switch {
	case err != nil:
		w.unread(n, err)
		return
	case in.path == "":
	case w.rootless: // the caller can still have a directory open, or be in one, from which it looks around
		w.unknown(n, unix.EPERM, noRoot)
		return
	default:
		w.report(n, in)
	}
	w.carryOn(n)
}

// report records that a call aims at what is hidden, or missing here and there on the host. It returns the errno that is on record, 0
// where nothing is.
func (w *worker) report(n *notification, in intent) unix.Errno {
	if w.tree == nil {
		return 0
	}
	at, rest, object, err := w.aim(n.PID, in)
	if err != nil && err != unix.ENOENT {
		return 0
	}
	if err == nil {
		defer unix.Close(object)
		if len(w.tree.hidden) == 0 {
			return 0
		}
		if here, err := mountedAt(object); err != nil || !w.tree.hides(here) {
			return 0
		}
		return w.denied(n, in.action, w.describeFile(object), unix.EACCES, ruleHidden, false)
	}
	defer w.usher.leave(at)
	here, err := mountedAt(at)
	if err != nil {
		return 0
	}
	errno, makes := unix.ENOENT, in.absent || in.renamed || in.creates()
	if makes && in.opens {
		in.action = "create"
	}
	dir, rule := w.describeFile(at), w.tree.rule(here)
	switch {
	case w.tree.hides(here):
		return w.denied(n, in.action, path.Join(dir, rest), unix.EACCES, ruleHidden, false)
	case rule == "" && slices.Contains(w.tree.home, here.mount):
		rule = ruleNotGranted
	case rule == "":
		return 0
	}
	if makes {
		errno = unix.EACCES
		if !strings.Contains(strings.Trim(rest, "/"), "/") {
			return 0 // it is made where it is allowed, in the home
		}
	}
	found, ok := w.usher.beyond(dir, rest, makes)
	if !ok {
		return 0
	}
	return w.denied(n, in.action, found.path, errno, rule, found.dir)
}

// aim resolves what a call aims at: the object, or with ENOENT the last directory on the way to it and what is left of the path.
func (w *worker) aim(tid uint32, in intent) (at int, rest string, object int, err error) {
	from, err := w.usher.start(tid, in.dirfd, in.path)
	if err != nil {
		return -1, "", -1, err
	}
	object, err = w.usher.openAt(from, in.path, in.follow)
	w.usher.leave(from)
	if err != unix.ENOENT {
		return -1, "", object, err
	}
	// What is not there for this thread may be there for the caller: see walk.
	at, rest, err = w.usher.place(tid, in.dirfd, in.path, in.follow)
	if err != nil {
		return -1, "", -1, err
	}
	if object, err = w.usher.openAt(at, rest, in.follow); err != unix.ENOENT {
		w.usher.leave(at)
		return -1, "", object, err
	}
	return at, rest, -1, unix.ENOENT
}

// denied records a refusal of the tree, and returns its errno: 0 where it is not to be recorded. Of a caller that was killed meanwhile,
// what was looked at can be another's.
func (w *worker) denied(n *notification, action, target string, errno unix.Errno, rule string, dir bool) unix.Errno {
	if !valid(w.fd, n.ID) {
		return 0
	}
	e := audit.Event{
		Class: classOf(action), Action: action, Decision: audit.Deny, Target: target, Errno: unix.ErrnoName(errno), Rule: rule,
		Reason: reasons[rule], Provenance: audit.FromClaimed,
	}
	if !w.tree.Judge(&e, dir) {
		return 0
	}
	e.Process = w.describeCaller(n.PID)
	w.emit(n, e)
	return errno
}

var reasons = map[string]string{ruleNotGranted: "not granted", ruleHidden: "hidden by the policy"}

func classOf(action string) audit.Class {
	switch action {
	case "exec":
		return audit.ClassExec
	case "bind":
		return audit.ClassUnix
	}
	return audit.ClassFile
}

// found is what the host has at the end of a path, or where the path leads through something that is no directory.
type found struct {
	path string
	dir  bool
}

// beyond follows a path on the host from where it ends inside, name by name, and no link. It is false where the host has nothing there
// either; for one who would make the last name it is enough that the host has the directory for it.
func (u *usher) beyond(dir, rest string, makes bool) (found, bool) {
	at, seen := dir, false
	names := strings.FieldsFunc(rest, func(r rune) bool { return r == '/' })
	for i, name := range names {
		if name == "." {
			continue
		}
		if at = path.Join(at, name); len(at) >= maxPath {
			return found{}, false
		}
		switch u.hostKind(at) {
		case hostAbsent:
			return found{path: at}, makes && seen && i == len(names)-1
		case hostDir:
			seen = true
		default:
			return found{path: at}, true
		}
	}
	return found{path: at, dir: true}, seen
}

type hostKind uint8

const (
	hostAbsent hostKind = iota
	hostDir
	hostOther // what could not be looked at counts as there
)

// hostKind tells what the host has at an absolute path.
func (u *usher) hostKind(path string) hostKind {
	fd, err := u.openOnHost(path)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG:
		return hostAbsent
	default:
		return hostOther
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return hostDir
	}
	return hostOther
}

// keeps tells why what a call wants to do to a file of the home, or to a name in it, is refused although the mounts would let it.
func (w *worker) keeps(in *intent, at int, target func() string, exists bool) (none refusal) {
	if !w.atHome(at) {
		return none
	}
	path := target()
	makes := in.renamed || in.makes() && !exists
	rule, reason := w.tree.Refuse(in.action, path, makes, exists, func() bool { return w.usher.hostKind(path) != hostAbsent })
	if rule == "" {
		return none
	}
	return refusal{target: path, errno: unix.EACCES, reason: reason, rule: rule, late: true}
}

// keepsEntry is keeps for a name in a directory. What the kernel refuses with an errno of its own is left to it.
func (w *worker) keepsEntry(in *intent, parent, at int, rest string, target func() string) (none refusal) {
	if !w.atHome(parent) {
		return none
	}
	object, err := w.usher.openAt(at, rest, in.follow)
	exists := err == nil
	if exists {
		unix.Close(object)
	}
	if exists && in.absent || !exists && !in.makes() {
		return none
	}
	return w.keeps(in, parent, target, exists)
}

// atHome tells whether a file lies on the mount of the home.
func (w *worker) atHome(file int) bool {
	if w.tree == nil || len(w.tree.home) == 0 {
		return false
	}
	here, err := mountedAt(file)
	return err == nil && slices.Contains(w.tree.home, here.mount)
}

// ofTree is the rule of a Tree by which nothing of the host's is in a directory, or is a file: "" for one that is not the Tree's.
func (w *worker) ofTree(file int) string {
	if w.tree == nil {
		return ""
	}
	here, err := mountedAt(file)
	if err != nil {
		return ""
	}
	return w.tree.rule(here)
}

// notHere is the refusal of a change to what is a Tree's: it is none where a file is not.
func (w *worker) notHere(file int, target string) (none refusal) {
	rule := w.ofTree(file)
	if rule == "" {
		return none
	}
	return refusal{target: target, errno: unix.EACCES, reason: reasons[rule], rule: rule}
}
