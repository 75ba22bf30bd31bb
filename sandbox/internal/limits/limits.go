// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
)

// Group is the cgroup of a run. Its methods may be called from any goroutine.
type Group struct {
	host    host
	version version
	spec    Spec

	mu     sync.Mutex
	places []*place
	scope  *scope // asks systemd for the place; nil where the places are made here
	watch  *watch // of a place that systemd may take away
	reaper *reaper
	seen   map[string]uint64 // counts of the kernel, by controller
	fresh  []Hit             // not told yet
	closed bool
}

// Hit tells that a limit was reached since the last time.
type Hit struct {
	Limit  string // "memory" or "pids"
	Count  uint64
	Reason string
}

// Create makes the group of a run, whose id is a ULID: see isGroup. The error is an *UnavailableError where this host or user cannot have
// one.
func Create(s Spec) (*Group, error) {
	if s.Memory < 0 || s.Pids < 0 || s.CPUs < 0 || len(controllers(s)) == 0 || !isGroup(prefix+s.Run) {
		return nil, fmt.Errorf("bug: limits of run %q: %+v", s.Run, s)
	}
	h, err := thisHost()
	if err != nil {
		return nil, &UnavailableError{"cgroups", err, fixMount}
	}
	if !s.Leaving {
		return create(h, s, 0)
	}
	r, err := startReaper()
	if err != nil {
		return nil, &UnavailableError{"cgroups: the process that removes the group", err, fixMount}
	}
	g, err := create(h, s, r.cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := r.take(g.places); err != nil {
		g.Close()
		return nil, errors.Join(err, r.close())
	}
	g.reaper = r
	return g, nil
}

// create chooses the version. A controller is in one tree only, and on hybrid hosts most are still in version 1. The reaper's
// number is needed where the caller is about to leave.
func create(h host, s Spec, reaper int) (*Group, error) {
	inV1 := 0
	for _, c := range controllers(s) {
		if _, ok := h.v1[c]; ok {
			inV1++
		}
	}
	switch {
	case inV1 == len(controllers(s)):
		return createV1(h, s)
	case inV1 == 0 && h.v2 != nil:
		return createV2(h, s, reaper)
	case inV1 == 0:
		return nil, &UnavailableError{"cgroups", errors.New("no controller is mounted"), fixMount}
	}
	return nil, &UnavailableError{"cgroups", fmt.Errorf("the controllers %v are not in one version", controllers(s)), fixMount}
}

func newGroup(h host, v version, s Spec) *Group {
	return &Group{host: h, version: v, spec: s, seen: map[string]uint64{}}
}

func createV1(h host, s Spec) (*Group, error) {
	together := map[string][]string{} // controllers by directory: some are mounted as one tree
	var parents []string
	for _, c := range controllers(s) {
		parent := h.v1[c].own
		if together[parent] == nil {
			parents = append(parents, parent)
		}
		together[parent] = append(together[parent], c)
	}
	g := newGroup(h, v1, s)
	for _, parent := range parents {
		if err := g.make(parent, together[parent]); err != nil {
			g.Close()
			return nil, &UnavailableError{"cgroup v1: " + strings.Join(together[parent], ", "), err, fixFor(err, fixV1)}
		}
	}
	return g, nil
}

// make adds a place below a directory, with the settings of some controllers.
func (g *Group) make(parent string, controllers []string) error {
	removeStale(parent, g.host.rmdir)
	p, err := newPlace(g.host, parent, g.spec.Run)
	if err != nil {
		return err
	}
	p.controllers = controllers
	g.places = append(g.places, p)
	return p.set(settings(g.version, g.spec))
}

// fixFor is the fix for what went wrong with a file: rights, or else a value.
func fixFor(err error, rights string) string {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrNotExist) {
		return rights
	}
	return fixQuota
}

// Dir is the group's directory; the first of several in version 1, and empty as long as systemd has not made it.
func (g *Group) Dir() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places) == 0 {
		return ""
	}
	return g.places[0].path
}

// Add moves a process into the group. What it has started before stays where it is.
func (g *Group) Add(pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places) == 0 && g.scope != nil {
		path, err := g.scope.start(pid, g.spec, scopeProperties(g.spec))
		if err != nil {
			return err
		}
		p, err := openPlace(path)
		if err != nil {
			return err
		}
		p.controllers = controllers(g.spec)
		g.places = append(g.places, p)
		if g.watch, err = newWatch(p.events(g.version), g.look); err != nil {
			return err
		}
		return p.verify(settings(v2, g.spec))
	}
	for _, p := range g.places {
		if err := p.add(pid); err != nil {
			return fmt.Errorf("move process %d into %s: %w", pid, p.path, err)
		}
	}
	return nil
}

// Hits tells which limits were reached since the last call.
func (g *Group) Hits() []Hit {
	g.look()
	g.mu.Lock()
	defer g.mu.Unlock()
	hits := g.fresh
	g.fresh = nil
	return hits
}

// look takes the kernel's counts.
func (g *Group) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range counters(g.version) {
		for _, p := range g.places {
			if !p.has(c.controller) {
				continue
			}
			if n, before := p.count(c), g.seen[c.controller]; n > before {
				g.fresh = append(g.fresh, Hit{Limit: c.controller, Count: n - before, Reason: c.reason})
				g.seen[c.controller] = n
			}
		}
	}
}

// Kill ends every process of the group.
func (g *Group) Kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, p := range g.places {
		errs = append(errs, p.kill())
	}
	return errors.Join(errs...)
}

// Close removes the group. Its processes must have ended, or be about to: the kernel keeps a group until they are gone, for
// which Close waits a while. It may be called again.
func (g *Group) Close() error {
	g.mu.Lock()
	watch := g.watch
	g.watch = nil
	g.mu.Unlock()
	if watch != nil {
		watch.close() // waits for look, which takes the lock
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	var errs []error
	for _, p := range g.places {
		if g.scope == nil && g.reaper == nil {
			errs = append(errs, p.remove(g.host.rmdir))
		}
		p.close()
	}
	if g.reaper != nil {
		errs = append(errs, g.reaper.close())
	}
	if g.scope != nil { // systemd removes what it has made
		errs = append(errs, g.scope.close())
	}
	return errors.Join(errs...)
}

// Name is what the group's directory is called, wherever it is.
func (g *Group) Name() string {
	if g.scope != nil {
		return scopeName(g.spec)
	}
	return prefix + g.spec.Run
}

// Controllers are those that the group keeps the run to.
func (g *Group) Controllers() []string { return controllers(g.spec) }

// View is a directory of the group, and where programs look for it: where its tree is mounted.
type View struct {
	Source string `json:"source"` // empty as long as systemd has not made it
	Target string `json:"target"`
}

// Views are the group's directories, in an order that stays.
func (g *Group) Views() []View {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.version == v2 {
		view := View{Target: g.host.v2.mount}
		if len(g.places) > 0 {
			view.Source = g.places[0].path
		}
		return []View{view}
	}
	var views []View
	for _, p := range g.places {
		views = append(views, View{Source: p.path, Target: g.host.v1[p.controllers[0]].mount})
	}
	return views
}

// Mechanism says how the limits are kept, in words for people.
func (g *Group) Mechanism() string {
	switch {
	case g.version == v1:
		return "cgroup v1"
	case g.scope != nil:
		return "cgroup v2, made by " + g.host.managerName()
	}
	return "cgroup v2"
}

// prefix is what the directories of all runs begin with.
const prefix = "agentjail-"

// isGroup tells whether a directory of that name is a run's: others may call theirs after agentjail, too.
func isGroup(name string) bool {
	run, ok := strings.CutPrefix(name, prefix)
	_, err := ulid.ParseStrict(run)
	return ok && err == nil
}

// RemoveStale removes the groups that launchers which were killed left where the caller's own would be, and returns their directories; with
// keep it finds those that the caller may remove, and leaves them. Create removes them, too, in the trees that it needs.
func RemoveStale(keep bool) (found []string) {
	h, err := thisHost()
	if err != nil {
		return nil
	}
	remove := h.rmdir
	if keep {
		remove = removable
	}
	for _, c := range controllers(Spec{Memory: 1, Pids: 1, CPUs: 1}) {
		if tree, ok := h.v1[c]; ok {
			found = append(found, removeStale(tree.own, remove)...)
		}
	}
	if h.v2 == nil {
		return found
	}
	for dir := h.v2.own; ; dir = filepath.Dir(dir) { // see findParent
		found = append(found, removeStale(dir, remove)...)
		if dir == h.v2.mount || len(dir) <= len(h.v2.mount) {
			return found
		}
	}
}

// removable tells whether the caller may remove a group, and the kernel would: it has no processes.
func removable(path string) error {
	procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err == nil && len(procs) > 0 {
		err = unix.EBUSY
	}
	return errors.Join(err, unix.Access(filepath.Dir(path), unix.W_OK))
}

// removeStale removes what launchers that were killed left behind: groups that are empty and that nobody holds. It returns those that
// are gone.
func removeStale(parent string, remove func(string) error) (gone []string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !e.IsDir() || !isGroup(e.Name()) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		dir, err := os.Open(path)
		if err != nil {
			continue
		}
		// The kernel refuses to remove a group with processes.
		if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && remove(path) == nil {
			gone = append(gone, path)
		}
		dir.Close()
	}
	return gone
}
