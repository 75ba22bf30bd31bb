// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// The group nested gives a process namespaces of its own, and in them every capability (user_namespaces(7)). What it can do with those
// is kept small: there is no mount namespace to be had, so that a path leads to the same file for all processes of the run, but for
// one that has another root (chroot(2)); and in a network namespace of its own it has no socket by which the kernel would take orders.
// See docs/decisions/0009-nested.md.

const nestedGroup = "nested"

const (
	// nestedFlags are the namespaces that Chromium's and Firefox's sandboxes ask for.
	nestedFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC
	// sharedFlags are what else unshare(2) may be asked for: what threads share.
	sharedFlags = unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SYSVSEM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM
)

func nestedRules() map[string]rule {
	made := Verdict{Kind: Namespace}
	rules := map[string]rule{}
	rules["clone"] = orElse(allowed, when(refused, hasBits(0, namespaceFlags&^nestedFlags)), when(made, hasBits(0, nestedFlags)))
	rules["unshare"] = orElse(allowed, when(refused, hasBits(0, ^uint32(nestedFlags|sharedFlags))), when(made, hasBits(0, nestedFlags)))
	socket := socketRule()
	clauses := slices.Clone(socket.Clauses)
	for i, c := range clauses {
		if c.Then == allowed && !slices.Contains(c.Tests[0].In, unix.AF_UNIX) {
			clauses[i].Then = Verdict{Kind: Socket}
		}
	}
	rules["socket"] = rule{Clauses: clauses, Otherwise: socket.Otherwise}
	return rules
}

// MaxNamespaces is how many a run may have of each kind that its policy allows: more than one for each page of a browser.
const MaxNamespaces = 256

// Namespaces are the kinds of namespaces that a process of the run may make, by their names in /proc.
func (p Policy) Namespaces() []string {
	if !p.nests() {
		return nil
	}
	return []string{"ipc", "net", "pid", "user"}
}

// nests tells whether the policy has the group nested.
func (p Policy) nests() bool {
	return slices.ContainsFunc(p.groups, func(g group) bool { return g.Name == nestedGroup })
}

// spaces are what processes of the run can leave for some of their own: its root, and namespaces by their numbers (namespaces(7)).
type spaces struct {
	root      mountedFile
	user, net uint64
}

func newSpaces(u *usher, c Config) (*spaces, error) {
	if !c.Policy.nests() {
		return nil, nil
	}
	root, err := mountedAt(int(u.root.Fd()))
	if err != nil {
		return nil, fmt.Errorf("seccomp: the run's root: %w", err)
	}
	s := spaces{root: root}
	for kind, to := range map[string]*uint64{"user": &s.user, "net": &s.net} {
		if *to, err = u.namespace(uint32(c.Init), kind); err != nil {
			return nil, fmt.Errorf("seccomp: the run's %s namespace: %w", kind, err)
		}
	}
	return &s, nil
}

// namespace is the number of a thread's namespace. A thread that waits for an answer cannot change it, nor can another for it.
func (u *usher) namespace(tid uint32, kind string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(u.proc.Fd()), strconv.Itoa(int(tid))+"/ns/"+kind, &st, 0)
	return st.Ino, err
}

// asCaller has f decide with the root of the caller as this thread's. Only who has a user namespace of its own can have another than
// the run's: chroot(2) takes a capability.
func (w *worker) asCaller(n *notification, f func(*notification)) {
	if w.spaces == nil {
		f(n)
		return
	}
	if user, err := w.usher.namespace(n.PID, "user"); err == nil && user == w.spaces.user {
		f(n)
		return
	}
	left, err := w.enterRootOf(n.PID)
	w.nested, w.away, w.rootless = true, left, err != nil
	f(n)
	w.nested, w.away, w.rootless = false, false, false
	if left {
		if err := changeRoot(int(w.usher.root.Fd())); err != nil {
			w.fail(err) // what this thread resolved from now on would be another's
		}
	}
}

// enterRootOf gives the calling thread the root of another, and tells whether it may have left that of the run.
func (w *worker) enterRootOf(tid uint32) (left bool, err error) {
	root, err := unix.Openat(int(w.usher.proc.Fd()), strconv.Itoa(int(tid))+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(root)
	if here, err := mountedAt(root); err == nil && here == w.spaces.root {
		return false, nil
	}
	return true, changeRoot(root)
}

// fromTheRoot is the path of a file from the run's root, which is not this thread's now.
func (u *usher) fromTheRoot(fd int) string {
	path := make(chan string)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		if u.enter() != nil {
			path <- unknownPath
			return
		}
		path <- u.pathOf(fd, make([]byte, maxPath))
	}()
	return <-path
}

// openInRun opens a file by its path from the run's root, which is this thread's own where the caller has no other.
func (w *worker) openInRun(file string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if !w.away {
		return unix.Open(file, flags, 0)
	}
	return unix.Openat2(int(w.usher.root.Fd()), file, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT})
}

const noRoot = "what it aims at is not known: the root that the caller has given itself cannot be looked at"

// exceeds says why a caller in a user namespace of its own may not do what it asks: "" if it may.
func (w *worker) exceeds(intents []intent) string {
	switch {
	case !w.nested:
	case w.rootless && slices.ContainsFunc(intents, func(in intent) bool { return in.path != "" }):
		return noRoot
	case slices.ContainsFunc(intents, func(in intent) bool { return in.action == "xattr" }):
		// Capabilities of a file (capabilities(7), "File capability extended attribute versioning"): those that root of a namespace
		// gives count on the host where its uid there is 0.
		return "from a user namespace of its own, a file could be given capabilities that count outside"
	}
	return ""
}

// namespace records that a caller makes namespaces, and lets the kernel go on: the decision is about the flags alone.
func (w *worker) namespace(n *notification) {
	name := Name(uint32(n.NR))
	w.emit(n, audit.Event{
		Class: audit.ClassSyscall, Action: name, Decision: audit.Allow, Target: describe(name, n.Args), Rule: nestedGroup,
		Reason: "the policy allows the group " + nestedGroup + " of system calls", Provenance: audit.FromKernel, Process: w.describeCaller(n.PID),
	})
	w.carryOn(n)
}

// noNamespace says why one is refused that no group gives.
func (w *worker) noNamespace() string {
	if w.spaces != nil {
		return "the group " + nestedGroup + " gives user, pid, net and ipc namespaces: a program whose sandbox mounts something (bubblewrap) works without it"
	}
	return "there are no namespaces to be had in a run: a program that has a sandbox of its own works without it (such as by --no-sandbox)"
}

// socket lets the kernel make a socket of the run's network namespace. In one of its own the caller has every capability, which takes
// it to parts of the kernel that a run has no use for (interfaces, routes, queues), and no network.
func (w *worker) socket(n *notification) {
	if net, err := w.usher.namespace(n.PID, "net"); err == nil && net == w.spaces.net {
		w.carryOn(n)
		return
	}
	w.emit(n, audit.Event{
		Class: audit.ClassSyscall, Action: "socket", Decision: audit.Deny, Target: describe("socket", n.Args), Errno: "EAFNOSUPPORT",
		Reason: "in a network namespace of its own, a process of the run has unix sockets alone", Provenance: audit.FromKernel,
		Process: w.describeCaller(n.PID),
	})
	w.answer(n, unix.EAFNOSUPPORT)
}
