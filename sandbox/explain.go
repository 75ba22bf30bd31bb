// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

// Access says what a run may do with a path.
type Access string

// The kinds of access.
const (
	AccessReadOnly  Access = "read-only"
	AccessReadWrite Access = "read-write"
	AccessProtected Access = "protected" // readable; neither written nor moved
	AccessHidden    Access = "hidden"
	AccessHome      Access = "private home"
	AccessOwn       Access = "made by the run"
	AccessAbsent    Access = "does not exist"
)

// Explanation is what a run may do with a path of the host, and why.
type Explanation struct {
	Asked   string   `json:"asked"`
	Path    string   `json:"path"`            // where it leads inside, as far as it is followed there
	Links   []string `json:"links,omitempty"` // symbolic links on the way
	Access  Access   `json:"access"`
	Reason  string   `json:"reason"`
	From    []string `json:"from,omitempty"` // what asked for it: places in policies, flags, defaults
	Read    Attempt  `json:"read"`
	Write   Attempt  `json:"write"`
	Changes []string `json:"changes,omitempty"` // what would change it
}

// Attempt is what becomes of an attempt, and whether it is recorded.
type Attempt struct {
	Allowed  bool   `json:"allowed"`
	Event    string `json:"event,omitempty"` // empty where there is none
	At       string `json:"at,omitempty"`    // what the event is about, where that is a directory on the way
	Severity string `json:"severity,omitempty"`
}

// Explain says what a run by this plan may do with an absolute path, which it resolves as the run would. It asks the host's files and
// changes nothing. The answer is the plan's: which of the rights the caller has on the host, the kernel adds.
func (p Plan) Explain(files Files, path string) (Explanation, error) {
	tree, err := denyfs.NewTree(denyfsConfig(p, nil, nil))
	if err != nil {
		return Explanation{}, err
	}
	v := viewer{plan: p, files: files, tree: tree}
	e := Explanation{Asked: path}
	at := v.walk(path)
	e.Path, e.Links = at, v.links
	v.judge(&e)
	for _, a := range []*Attempt{&e.Read, &e.Write} {
		if a.Event == "" {
			continue
		}
		a.Severity = cmp.Or(p.severity(at), a.Severity)
	}
	return e, nil
}

// viewer sees the files as a run does.
type viewer struct {
	plan  Plan
	files Files
	tree  *denyfs.Tree
	links []string
	loops bool // the path leads through too many links
}

// walk resolves a path inside, up to what the run is told is not there.
func (v *viewer) walk(path string) string {
	current, rest := "/", components(path)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			current = filepath.Dir(current)
			continue
		}
		next := filepath.Join(current, name)
		to := v.link(next)
		switch {
		case to == "" && v.ends(next):
			return next
		case to == "":
			current = next
			continue
		case len(v.links) == maxLinks:
			v.loops = true
			return next
		}
		v.links = append(v.links, next)
		if filepath.IsAbs(to) {
			current = "/"
		}
		rest = append(components(to), rest...)
	}
	return current
}

// link is where a path leads that is a symbolic link inside: "" if it is none there, whatever it is on the host.
func (v *viewer) link(path string) string {
	if to, ok := v.plan.Symlinks[path]; ok {
		return to
	}
	if to, ok := devLinks[strings.TrimPrefix(path, "/dev/")]; ok && within("/dev", path) {
		return to
	}
	source := v.source(path)
	if source == "" {
		return ""
	}
	to, err := v.files.Readlink(source)
	if err != nil {
		return ""
	}
	return to
}

// ends tells whether a walk ends at a name of the host that is no directory, and that the run is not shown: a symbolic link of the
// host's leads nowhere there.
func (v *viewer) ends(path string) bool {
	if v.plan.innermost(path) != nil || within("/proc", path) || v.tree.Has(path) || v.isPrivate(path) {
		return false
	}
	return v.onHost(path) == denyfs.HostFile
}

// onHost is what the host has at a path.
func (v *viewer) onHost(path string) denyfs.HostKind { return denyfs.HostKindOf(v.files.Lstat(path)) }

// source is the file of the host that is seen at a path, "" where none is.
func (v *viewer) source(path string) string {
	m := v.plan.innermost(path)
	switch {
	case m != nil && m.Kind == Bind:
		return m.Source + strings.TrimPrefix(path, m.Target)
	case m == nil && v.inHome(path):
		return v.plan.Home.Private + strings.TrimPrefix(path, v.plan.Identity.Home)
	}
	return ""
}

// inHome tells whether a path is of the home that the run's root serves.
func (v *viewer) inHome(path string) bool {
	return !v.plan.Home.Mounted && within(v.plan.Identity.Home, path)
}

// judge says what the run may do with a path inside.
func (v *viewer) judge(e *Explanation) {
	m := v.plan.innermost(e.Path)
	switch {
	case v.loops:
		e.Links, e.Access, e.Reason = e.Links[:1], AccessAbsent, errLoop.Error()
	case within("/proc", e.Path):
		v.kernel(e)
	case m == nil, v.plan.plain() && v.inHome(e.Path) && m.isPrivate() && !v.plan.isBusy(e.Path):
		v.rooted(e)
	case m.Kind == Hidden:
		v.hidden(e, m)
	case m.Kind != Bind:
		e.Access, e.Reason = AccessOwn, "the run has its own "+quotePath(m.Target)
		e.Read.Allowed, e.Write.Allowed = true, access(*m) == "rw"
		if e.From = v.plan.from("provide", m.Target); len(e.From) > 0 {
			e.Reason, e.Changes = "agentjail writes this file, as the policy says", []string{"--ro " + quotePath(m.Target) + " or read: shows the machine's"}
		}
		v.readOnly(e)
	default:
		v.bound(e, m)
	}
}

// hidden judges a path that a hidden node lies over.
func (v *viewer) hidden(e *Explanation, m *Mount) {
	if slices.ContainsFunc(v.plan.shownBelow(m.Target), func(g denyfs.Grant) bool { return within(e.Path, g.Path) }) {
		e.Access, e.Reason = AccessOwn, "a directory on the way to what is granted in "+quotePath(m.Target)+", which is hidden: it shows that alone"
		e.Read.Allowed, e.Write.Event = true, event(denyfs.ActionCreate, denyfs.RuleHidden)
		return
	}
	e.Access, e.Reason = AccessHidden, "the policy hides "+quotePath(m.Target)
	e.From = v.plan.from("hide", m.Target)
	e.Read.Event, e.Write.Event = event(denyfs.ActionOpenRead, denyfs.RuleHidden), event(denyfs.ActionOpenWrite, denyfs.RuleHidden)
	switch info, err := v.files.Lstat(e.Path); {
	case isAbsent(err):
		e.Reason += "; there is no such file"
		if !v.plan.plain() || v.plan.isPassage(*m) { // what stands for the whole of a directory refuses all that is asked of it
			e.Read.Event = ""
		}
		e.Write.Event = event(denyfs.ActionCreate, denyfs.RuleHidden)
	case err == nil && info.IsDir():
		e.Read.Event, e.Write.Event = event(denyfs.ActionList, denyfs.RuleHidden), event(denyfs.ActionCreate, denyfs.RuleHidden)
	}
	e.Changes = []string{"leave it out of --hide or hide:"}
	if e.Path != m.Target {
		e.Changes = append(e.Changes, "--ro "+quotePath(e.Path)+" or read: lets it alone be read")
	}
	if set, ok := strings.CutPrefix(m.Origin, originTools); ok {
		e.Reason, e.From = "it may hold a credential, and lies beside tools", v.plan.From("with", set)
		e.Changes = []string{"--ro " + quotePath(m.Target) + " or read: lets it be read"}
	}
	if m.Origin == originSecrets {
		e.Reason, e.From = "it has the name of a file that holds secrets, which the policy hides", v.plan.From("secrets", profiles.SecretsHide)
		e.Changes = []string{"--ro " + quotePath(m.Target) + " or read: lets it be read"}
	}
}

// readOnly fills in the event of a write that is refused for the mount.
func (v *viewer) readOnly(e *Explanation) {
	if !e.Write.Allowed {
		e.Write.Event = event(denyfs.ActionOpenWrite, "")
	}
}

// kernel judges a path of /proc, which is the run's own.
func (v *viewer) kernel(e *Explanation) {
	e.Access, e.Reason = AccessOwn, "the run has its own /proc, with its own processes alone"
	e.Read.Allowed = true
	holds := func(dir string) bool { return within(dir, e.Path) }
	switch {
	case slices.ContainsFunc(masked(v.plan), holds):
		e.Access, e.Reason = AccessHidden, "this file of /proc tells of the machine, or acts on it: an empty one lies over it"
		e.Read.Allowed = false
	case slices.ContainsFunc(readonlyProc, holds):
		e.Access, e.Reason = AccessReadOnly, "this part of /proc acts on the machine"
		v.readOnly(e)
	default:
		e.Write.Allowed = true
	}
}

// rooted judges a path that the run's root serves: of the private home, or one that nothing grants.
func (v *viewer) rooted(e *Explanation) {
	host, private := v.onHost(e.Path), v.isPrivate(e.Path)
	switch d, ok := v.makes(e.Path); {
	case ok:
		e.Write.Allowed = true
		e.Access, e.Reason = AccessHome, "the run may make it in its private home"
	case d.Rule == denyfs.RuleHostName || d.Rule == denyfs.RuleProtected:
		e.Write.Event = event(d.Action, d.Rule)
		e.Access, e.Reason = AccessHome, "in the private home it cannot be made: "+d.Reason
	}
	verdict := v.tree.Lookup(denyfs.Query{Path: e.Path, Private: private, Host: host})
	switch {
	case v.tree.Has(e.Path):
		e.Access, e.Reason, e.Read.Allowed = AccessOwn, "a directory on the way to what is granted: it shows that alone", true
		if v.inHome(e.Path) {
			e.Access, e.Reason, e.Write = AccessHome, "a directory of the private home", Attempt{Allowed: true}
		}
	case private:
		e.Read.Allowed, e.Reason = true, "an earlier run has made it in the private home"
	case host == denyfs.HostAbsent:
		if e.Access == "" {
			e.Access, e.Reason = AccessAbsent, "there is none, neither here nor in the run"
			e.Write.Event = event(denyfs.ActionCreate, denyfs.RuleNotGranted)
		}
	default:
		v.notGranted(e, verdict, host == denyfs.HostDir)
	}
	if !e.Write.Allowed && e.Write.Event == "" {
		e.Write.Event = event(denyfs.ActionCreate, denyfs.RuleNotGranted)
	}
	if at := v.missing(e.Path); at != "" && !e.Read.Allowed && !v.plan.isCredential(e.Path) {
		e.Read = Attempt{Event: event(denyfs.ActionOpenRead, denyfs.RuleNotGranted), At: at, Severity: audit.SeverityNoise}
	}
}

// missing is the directory of the home at which a walk to a path ends: the host has it, and the run has none, but can make one. It is "" where
// there is none, and without FUSE, where the path itself is looked for.
func (v *viewer) missing(path string) string {
	if !v.inHome(path) || v.plan.plain() {
		return ""
	}
	dir := v.plan.Identity.Home
	for _, name := range components(strings.TrimPrefix(filepath.Dir(path), dir)) {
		dir = filepath.Join(dir, name)
		if v.tree.Has(dir) || v.isPrivate(dir) {
			continue
		}
		if v.tree.Lookup(denyfs.Query{Path: dir, Host: v.onHost(dir)}).Denial.Walk {
			return dir
		}
	}
	return ""
}

// isPrivate tells whether the private home has a path.
func (v *viewer) isPrivate(path string) bool {
	if !v.inHome(path) {
		return false
	}
	_, err := v.files.Lstat(v.source(path))
	return err == nil
}

// makes tells whether the run can make a name of its home, and if need be the directories that lead to it. In a directory that the host's
// home has and the run has not, there is nothing to make.
func (v *viewer) makes(path string) (denyfs.Denial, bool) {
	n := denyfs.Naming{Path: path, Action: denyfs.ActionCreate, Private: v.isPrivate(path), Host: v.onHost(path)}
	dir := filepath.Dir(path)
	n.Union = dir == v.plan.Identity.Home || v.inHome(dir) && v.tree.Has(dir) || v.isPrivate(dir)
	if !n.Union && v.inHome(dir) {
		d, ok := v.makes(dir)
		if !ok && v.onHost(dir) == denyfs.HostAbsent {
			return d, false
		}
		n.Union = ok
	}
	return v.tree.Name(n)
}

// notGranted is for what the host has, and the run does not see.
func (v *viewer) notGranted(e *Explanation, verdict denyfs.Verdict, dir bool) {
	own := ""
	if e.Write.Allowed {
		own = "; it may make its own in the private home"
	}
	e.Access, e.Reason = AccessHidden, "nothing grants it"+own
	e.Read.Event = event(denyfs.ActionOpenRead, denyfs.RuleNotGranted)
	if dir && (!verdict.Denial.Walk || v.plan.plain()) {
		e.Read.Event = event(denyfs.ActionList, denyfs.RuleNotGranted)
	}
	if verdict.Denial.Walk {
		e.Read.Severity = audit.SeverityNoise
	}
	if !e.Write.Allowed && e.Write.Event == "" {
		e.Write.Event = event(denyfs.ActionOpenWrite, denyfs.RuleNotGranted)
	}
	if from := v.plan.from("hide", e.Path); len(from) > 0 {
		e.Reason, e.From, e.Changes = "the policy hides it"+own, from, []string{"leave it out of --hide or hide:"}
		return
	}
	e.Changes = []string{"--ro " + quotePath(e.Path) + " or read: lets it be read", "--rw " + quotePath(e.Path) + " or write: lets it be written as well"}
	if v.inHome(e.Path) && own == "" {
		e.Changes = append(e.Changes, "private: gives the run its own, and does not show yours")
	}
}

// bound judges a path that a mount of the host's shows.
func (v *viewer) bound(e *Explanation, m *Mount) {
	_, err := v.files.Lstat(v.source(e.Path))
	exists := !isAbsent(err)
	e.Read.Allowed, e.Write.Allowed = exists, m.Writable
	e.From = v.plan.originOf(m)
	e.Access, e.Reason = AccessReadOnly, "granted with "+quotePath(m.Target)
	if m.Writable {
		e.Access = AccessReadWrite
	}
	names := v.plan.Protected.by(e.Path, v.isThere)
	switch {
	case m.Origin == originHome:
		e.Access, e.Reason, e.From = AccessHome, "a directory of the private home, "+quotePath(m.Source), nil
		if within(v.plan.Home.Caches, m.Source) {
			e.Reason = "a cache of this working directory's in the private home, " + quotePath(m.Source)
		}
	case m.Origin == originProtected || m.Writable && len(names) > 0:
		v.protected(e, names)
	case !m.Writable:
		v.readOnly(e)
		if m.Origin != "system" && !slices.Contains(refusedDirs, e.Path) {
			e.Changes = []string{"--rw " + quotePath(e.Path) + " or write: lets it be written"}
		}
	}
	if !exists {
		e.Reason += "; there is no such file yet"
		if e.Write.Event != "" {
			e.Write.Event = event(denyfs.ActionCreate, "")
		}
		if e.Access == AccessReadOnly {
			e.Access = AccessAbsent
		}
	}
}

// protected judges a path that names of the policy keep from being written.
func (v *viewer) protected(e *Explanation, names []string) {
	e.Access, e.Reason, e.From = AccessProtected, "programs of the host run or trust it", nil
	e.Write = Attempt{Event: event(denyfs.ActionOpenWrite, "")}
	e.Changes = []string{"--rw " + quotePath(e.Path) + " or write: lets it be written, if it is there"}
	for _, name := range names {
		e.From = append(e.From, v.plan.From("protect", name)...)
		e.Changes = append(e.Changes, "--unprotect "+quotePath(name)+" or unprotect: lets all that is called so be written")
	}
}

// by are the names of the list that protect a path from being written: what a run makes itself is not protected from it, such as a .git
// where there is none.
func (p Protected) by(path string, isThere func(string) bool) (names []string) {
	for _, name := range p.Names {
		one := p
		one.Names = []string{name}
		if name != profiles.RepositoryName {
			one.Repositories, one.Paths = nil, nil
		}
		if refuses := one.refuses(); refuses != nil && slices.ContainsFunc(refuses("open-write", path), isThere) {
			names = append(names, name)
		}
	}
	return names
}

// isThere tells whether a file whose age counts is older than any run.
func (v *viewer) isThere(path string) bool {
	info, err := v.files.Lstat(cmp.Or(v.source(filepath.Clean(path)), "/"))
	return err == nil && (info.IsDir() || !strings.HasSuffix(path, "/"))
}

func event(action denyfs.Action, rule string) string {
	return strings.TrimSuffix(string(action)+" "+rule, " ")
}
