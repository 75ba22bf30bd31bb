// SPDX-License-Identifier: Apache-2.0

package denyfs

import "golang.org/x/sys/unix"

// HostKind is what the host has at a path.
type HostKind uint8

// The kinds of a host path. A path that could not be looked at is unknown, and treated as a file that is there.
const (
	HostAbsent HostKind = iota
	HostFile            // anything that is no directory, symbolic links too
	HostDir
	HostUnknown
)

// The rules that denials name.
const (
	RuleNotGranted = "not-granted"
	RuleHidden     = "hidden"
	RuleHostName   = "home.host-name"
	RuleProtected  = "home.protected"
	RuleSetID      = "home.set-id"
)

// Denial is one denied access, ready to become an event.
type Denial struct {
	Action Action
	Path   string
	Errno  unix.Errno // 0 where the call went through to a stand-in
	Rule   string
	Reason string
	Walk   bool // at a directory that the run may make anew: most often a tool that looks for settings it can do without
}

// Answer is what a lookup finds.
type Answer uint8

// The answers to a lookup of a name that the tree does not have itself.
const (
	AnswerMissing Answer = iota // ENOENT
	AnswerReal                  // a file of the private home
	AnswerThrough               // a directory that can be walked through and nothing else
)

// When says whether and when a lookup's denial is reported.
type When uint8

// The times of a report.
const (
	Quiet When = iota
	Now
	Later // unless the kernel comes back for the same call: then that request reports
)

// Query is a lookup of a name that is not the tree's own.
type Query struct {
	Path    string
	Private bool // the private home has it
	Host    HostKind
	Call    Call
}

// Verdict is the answer to a Query.
type Verdict struct {
	Answer Answer
	When   When
	Denial Denial
}

// denial is the refusal of an action at a path that is not of the home.
func (t *Tree) denial(path string, a Action) Denial {
	d := Denial{Action: a, Path: path, Errno: unix.EACCES, Rule: RuleNotGranted, Reason: "not granted"}
	if t.hides(path) {
		d.Rule, d.Reason = RuleHidden, "hidden by the policy"
	}
	return d
}

// Lookup decides a lookup of a name that is not the tree's own.
func (t *Tree) Lookup(q Query) Verdict {
	switch {
	case q.Private:
		return Verdict{Answer: AnswerReal}
	case q.Host == HostAbsent:
		return Verdict{Answer: AnswerMissing}
	case t.owns(q.Path) && q.Call.makesNames():
		return Verdict{Answer: AnswerMissing} // it may be made, as if the host had none
	}
	d := t.denial(q.Path, q.Call.Action())
	d.Errno = unix.ENOENT
	if q.Host != HostDir || t.owns(q.Path) {
		d.Walk = q.Host == HostDir
		if q.Host == HostUnknown {
			d.Reason += ", and not known to exist"
		}
		if q.Call.makesNames() {
			return Verdict{AnswerMissing, Later, d}
		}
		return Verdict{AnswerMissing, Now, d}
	}
	// A directory is walked through quietly. Two kinds of call end at it without another request: one that would make
	// the name, which the kernel itself answers with EEXIST, and a watch, which cannot be told from a walk.
	switch d.Action {
	case ActionMkdir, ActionMknod, ActionLink, ActionSymlink, ActionCreate, ActionBind:
		d.Errno = unix.EEXIST
		return Verdict{AnswerThrough, Later, d}
	case ActionWatch:
		d.Errno, d.Reason = 0, d.Reason+": the watch is on a stand-in that never changes"
		return Verdict{AnswerThrough, Later, d}
	}
	return Verdict{Answer: AnswerThrough}
}

// Naming is the making of a name: by create, mkdir, mknod, symlink, link or as the target of a rename.
type Naming struct {
	Path    string
	Action  Action
	Union   bool // the directory is part of the private home
	Symlink bool // what gets the name is a symbolic link
	Private bool // the private home has the name already
	Host    HostKind
}

// Name decides whether a name may be made.
func (t *Tree) Name(n Naming) (Denial, bool) {
	d := t.denial(n.Path, n.Action)
	rel, home := t.relative(n.Path)
	switch {
	case !n.Union || !home || rel == "":
		return d, false
	case Protected(rel):
		d.Rule, d.Reason = RuleProtected, "a file that shells or sessions run by themselves"
		return d, false
	case n.Symlink && len(protectedBelow(rel)) > 0:
		d.Rule, d.Reason = RuleProtected, "a link in place of a directory that holds protected files"
		return d, false
	case n.Host != HostAbsent && !n.Private && !t.owns(n.Path):
		d.Rule, d.Reason = RuleHostName, "the host's home has this name; a policy that lists it under private lets the run have its own"
		return d, false
	}
	return Denial{}, true
}

// Change decides whether something of the private home may be written to, changed, moved or removed.
func (t *Tree) Change(path string, action Action) (Denial, bool) {
	if rel, ok := t.relative(path); ok && rel != "" && !Protected(rel) {
		return Denial{}, true
	}
	return Denial{action, path, unix.EACCES, RuleProtected, "a file that shells or sessions run by themselves", false}, false
}
