// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agentjail/agentjail/profiles"
)

// Compile decides a whole run: what of the host is mounted where, what the network gateway allows, which variables enter.
// It reads the host through host.Files alone, and changes nothing. Its errors are for people: they name the path or the
// flag that asked for the impossible.
func Compile(policy profiles.Policy, host Host, command []string) (Plan, error) {
	if len(command) == 0 {
		return Plan{}, requestErrorf("no command was given; say what to run after --")
	}
	c := &compiler{policy: policy, host: host, symlinks: map[string]string{}}
	steps := []func() error{
		c.findPlaces, c.workdir, c.privateHome, c.system, c.userGrants, c.tools, c.repository,
		func() error { return c.commandFiles(command) }, c.provided, c.mountHome, c.hides, c.secretFiles, c.sockets, c.ownFiles, c.protects, c.pins,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Plan{}, err
		}
	}
	env, withheld := policy.Environment().Select(host.Environ)
	entering, err := c.trust(c.environment(env))
	if err != nil {
		return Plan{}, err
	}
	withheld = slices.DeleteFunc(withheld, func(name string) bool { return hasVariable(entering, name) })
	proxies, err := c.upstream(env)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{
		Command: command, Around: c.around(), OwnProgram: c.isOwnProgram(command[0]), Places: c.places, Workdir: c.dir, Identity: host.Identity, Home: c.home,
		WithoutFUSE: host.WithoutFUSE, Mounts: c.ordered(), Symlinks: c.symlinks, Noise: policy.Files().Noise, Protected: c.protected,
		Tools: c.toolsFound, Env: entering, Withheld: withheld, Secrets: secrets(host.Environ, withheld, proxies != ""),
		Rules: policy.Rules(), Denials: policy.Denials(), Loopback: policy.Loopback(), Publish: policy.Publish(),
		Upstream: policy.Upstream(), Proxies: proxies, Proxy: policy.Proxy(), Quota: policy.Quota(), Syscalls: policy.Syscalls(),
		Limits: policy.Limits(), GoesOn: policy.LogOnError() == profiles.LogContinue, LogMaxSize: policy.LogMaxSize(), Umask: host.Umask, State: host.State,
		Policy: PolicyRef{Name: policy.Name(), Digest: policy.Digest(), Sources: policy.Sources()},
		policy: policy, entries: c.entries, own: c.own,
	}
	if err := plan.checkAliases(host.Files); err != nil {
		return Plan{}, err
	}
	if err := plan.describe(); err != nil {
		return Plan{}, err
	}
	return plan, nil
}

// upstream names the proxies by which hosts are reached, if any host is. Their variables must not enter then: they name a host that
// is out of reach inside, with its password.
func (c *compiler) upstream(env []string) (string, error) {
	if len(c.policy.Rules()) == 0 {
		return "", nil
	}
	found, err := profiles.FindUpstream(c.policy.Upstream(), c.host.Environ)
	if err != nil {
		return "", requestErrorf("%v", err)
	}
	if !found.Used() {
		return "", nil
	}
	set := c.policy.Environment().Set
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if _, own := set[name]; !own && profiles.IsProxyVariable(name) {
			return "", requestErrorf("the policy lets the variable %s in, whose proxy the gateway itself uses, and the command needs none; "+
				"take it out, or give --upstream none to reach hosts without that proxy", name)
		}
	}
	return found.String(), nil
}

// compiler collects the mounts and links of a plan.
type compiler struct {
	policy       profiles.Policy
	host         Host
	dir          string // the canonical working directory
	home         Home
	protected    Protected
	elsewhere    string    // the repository of a worktree or submodule
	global       []setting // see globalSettings
	settingsCost int       // see maxSettingsCost
	mounts       []Mount
	symlinks     map[string]string
	places       []string // see findPlaces
	entries      []entry
	// toolsFound is what of the policy's sets of tools is installed.
	toolsFound []Tools
	own        []string // files that the next run trusts: see ownFiles
	followed   []string // the symbolic links on the way of the path that was resolved last
}

// refusedDirs would hand the run more than a project: system directories and the parents of homes.
var refusedDirs = []string{
	"/", "/bin", "/boot", "/dev", "/dev/shm", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run",
	"/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/tmp",
}

func (c *compiler) workdir() error {
	dir, info, err := c.resolve(c.host.Workdir)
	if err != nil {
		return requestErrorf("working directory %q: %v", c.host.Workdir, reason(err))
	}
	if link := c.planted(dir); link != "" {
		return planted("working directory", c.host.Workdir, link, dir)
	}
	switch {
	case !info.IsDir():
		return requestErrorf("working directory %q is not a directory", c.host.Workdir)
	case slices.Contains(c.host.Homes, dir):
		return requestErrorf("working directory %q is the home directory, with all that it holds; change to a project's directory", dir)
	case !c.isProject(dir):
		return requestErrorf("working directory %q is more than a project's directory; change to one", dir)
	case isKernelPath(dir):
		return requestErrorf("working directory %q belongs to the kernel; change to a project's directory", dir)
	}
	if c.isProtected(dir) {
		return requestErrorf("working directory %q is protected, since programs outside trust what is called so; change to another, or name it with --unprotect",
			dir)
	}
	c.dir = dir
	return c.add(Mount{
		Kind: Bind, Target: dir, Source: dir, Dir: true, Writable: c.policy.Files().Workdir == "rw", Origin: "working directory",
	})
}

// isProject tells whether a directory is no more than that.
func (c *compiler) isProject(dir string) bool {
	return !c.holdsHome(dir) && !slices.Contains(refusedDirs, dir)
}

// holdsHome tells whether a directory has a home of the caller's in it, or is one.
func (c *compiler) holdsHome(dir string) bool {
	return slices.ContainsFunc(c.host.Homes, func(home string) bool { return within(dir, home) })
}

// userGrants are the read and write lists of the policy.
func (c *compiler) userGrants() error {
	files := c.policy.Files()
	for _, list := range []struct {
		paths    []string
		writable bool
	}{{files.Read, false}, {files.Write, true}} {
		for _, path := range list.paths {
			if err := c.grant(path, list.writable, slices.Contains(files.Optional, path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// grant adds one path of the policy. One that only embedded profiles name is left out where it does not exist, since they
// name places of many systems; any other must exist, so that a misspelt path is an error and not a grant of nothing.
func (c *compiler) grant(path string, writable, optional bool) error {
	target, info, err := c.resolve(c.expand(path))
	if optional && isAbsent(err) {
		return nil
	}
	if err != nil {
		return requestErrorf("grant of %q%s: %v", path, c.written(writable, path), reason(err))
	}
	if err := c.mayGrant(path, target, writable); err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return requestErrorf("grant of %q: only files and directories can be granted", path)
	}
	if optional && c.bound(target) != nil {
		return nil // an embedded profile gives way to what else is said of the same path
	}
	c.giveWay(target)
	c.entries = append(c.entries, entry{key: listOf(writable), entry: path, target: target, embedded: optional})
	return c.add(Mount{Kind: Bind, Target: target, Source: target, Dir: info.IsDir(), Writable: writable, Origin: originPolicy})
}

// bound is the bind at a target, nil if there is none.
func (c *compiler) bound(target string) *Mount {
	i := slices.IndexFunc(c.mounts, func(m Mount) bool { return m.Kind == Bind && m.Target == target })
	if i < 0 {
		return nil
	}
	return &c.mounts[i]
}

// giveWay takes away what embedded profiles alone grant of a path.
func (c *compiler) giveWay(target string) {
	embedded := func(e entry) bool { return e.embedded && e.target == target }
	if !slices.ContainsFunc(c.entries, embedded) {
		return
	}
	c.entries = slices.DeleteFunc(c.entries, embedded)
	c.mounts = slices.DeleteFunc(c.mounts, func(m Mount) bool { return m.Kind == Bind && m.Target == target && m.Origin == originPolicy })
}

// mayGrant refuses to grant what a path resolved to, just now, where that is more than anybody means, or what an earlier run has made of it.
func (c *compiler) mayGrant(path, target string, writable bool) error {
	if link, above := c.planted(target), c.covering(target); link != "" && (above == nil || writable && !above.Writable) {
		return planted("grant of", path, link, target)
	}
	if isKernelPath(target) {
		return requestErrorf("grant of %q: /dev, /proc and /sys are the run's own, and hold what a command may have of them", path)
	}
	if writable && (slices.Contains(refusedDirs, target) || c.holdsHome(target)) {
		return requestErrorf("write access to %q would hand over the whole directory; name what is needed below it", path)
	}
	if target == "/" || c.holdsHome(target) {
		return requestErrorf("read access to %q would show everything below it; name what is needed", path)
	}
	return nil
}

// listOf is the list of the policy that a grant stands in.
func listOf(writable bool) string {
	if writable {
		return "write"
	}
	return "read"
}

// written is " (policy.yaml:9:7)" where a grant was written in a file, "" where not.
func (c *compiler) written(writable bool, path string) string {
	for _, o := range c.policy.Origins(listOf(writable), path) {
		if o.Line > 0 {
			return " (" + quotePath(o.String()) + ")"
		}
	}
	return ""
}

// hides adds an unreadable node for each hidden path that lies inside a grant, and takes away what lies below one and is not named by an
// entry of its own there. One that lies in no grant is hidden as it is.
func (c *compiler) hides() error {
	for _, path := range c.policy.Files().Hide {
		target, info, err := c.resolve(c.expand(path))
		if errors.Is(err, fs.ErrNotExist) {
			return requestErrorf("hide %q: it does not exist, so the command could create it; leave it out or make it first", path)
		}
		if err != nil {
			return requestErrorf("hide %q: %v", path, reason(err))
		}
		if link := c.ownLink(); link != "" {
			return planted("hide", path, link, target)
		}
		if err := c.oneName("hide", path, target, info); err != nil {
			return err
		}
		c.entries = append(c.entries, entry{key: "hide", entry: path, target: target})
		if err := c.hideBelow(path, target); err != nil {
			return err
		}
		above := c.covering(target)
		if above == nil || above.Target == c.host.Identity.Home && above.isPrivate() && !c.home.Mounted {
			continue // nothing shows it: the private home has its own, in which no name of the host's is made
		}
		// What the host shows at its own path was found a moment ago: where it is gone, somebody may put it back.
		if above.isPrivate() {
			if _, err := c.host.Files.Lstat(above.Source + strings.TrimPrefix(target, above.Target)); err != nil {
				continue // the private home has none
			}
		}
		if err := c.add(Mount{Kind: Hidden, Target: target, Dir: info.IsDir(), Origin: originPolicy}); err != nil {
			return err
		}
	}
	for i, tools := range c.toolsFound {
		c.toolsFound[i].Found = slices.DeleteFunc(tools.Found, func(path string) bool { return c.covering(path) == nil })
	}
	maps.DeleteFunc(c.symlinks, func(at, _ string) bool { return c.hidesPath(at) && c.leadsNowhere(at) })
	return nil
}

// leadsNowhere tells whether a link of the host leads to nothing that the run shows.
func (c *compiler) leadsNowhere(link string) bool {
	target, _, err := c.canonical(link)
	return err != nil || !slices.ContainsFunc(c.mounts, func(m Mount) bool {
		return m.Kind != Hidden && (within(m.Target, target) || within(target, m.Target))
	})
}

// hideBelow takes away what of the host is mounted at a hidden path and below it. What the run is about cannot be, unless the policy
// names it.
func (c *compiler) hideBelow(path, target string) error {
	var kept []Mount
	for _, m := range c.mounts {
		below := within(target, m.Target) && (m.Kind == Bind && m.Origin != originHome || m.Kind == Hidden)
		switch {
		case target == c.dir && m.Target == c.dir:
			return requestErrorf("hide %q is the working directory itself", path)
		case !below || c.namedBelow(target, m.Target):
			kept = append(kept, m)
		case m.Target == c.dir:
			return requestErrorf("hide %q: the working directory %q lies in it; if you mean that: --rw %s", path, c.dir, strconv.Quote(c.dir))
		case m.Origin == originCommand:
			return requestErrorf("hide %q: the command needs %q, which lies in it; if you mean that: --ro %s", path, m.Target, strconv.Quote(m.Target))
		}
	}
	c.mounts = kept
	return nil
}

// namedBelow tells whether a path is, or lies in, one that the caller's own entries grant below a hidden one: the most specific counts.
func (c *compiler) namedBelow(hidden, path string) bool {
	return slices.ContainsFunc(c.entries, func(e entry) bool {
		return e.key != "hide" && !e.embedded && e.target != hidden && within(hidden, e.target) && within(e.target, path)
	})
}

// shows returns the innermost bind or hidden node that a path lies in, nil if there is none.
func (c *compiler) shows(path string) *Mount {
	var best *Mount
	for i := range c.mounts {
		m := &c.mounts[i]
		if (m.Kind == Bind || m.Kind == Hidden) && within(m.Target, path) && (best == nil || len(m.Target) > len(best.Target)) {
			best = m
		}
	}
	return best
}

// add records a mount, unless the same target is already there; of two binds of one target, the one that cannot be written stays.
func (c *compiler) add(m Mount) error {
	// A pin shows what is shown already.
	if (m.Kind == Bind || m.Kind == Socket) && m.Origin != originHome && m.Origin != originPin {
		if state := c.host.State; within(m.Target, state) || within(state, m.Target) {
			return requestErrorf("%q holds agentjail's own state (%s), which no command may see; use another directory or set XDG_STATE_HOME", m.Target, state)
		}
	}
	for i, old := range c.mounts {
		if old.Target != m.Target {
			continue
		}
		if m.Kind == Hidden || (m.Kind == Bind && old.Kind == Bind && old.Writable && !m.Writable) {
			c.mounts[i] = m
		}
		return nil
	}
	c.mounts = append(c.mounts, m)
	return nil
}

// covering returns the bind that shows a path, nil if none does.
func (c *compiler) covering(path string) *Mount {
	if m := c.shows(path); m != nil && m.Kind == Bind {
		return m
	}
	return nil
}

// ordered sorts the mounts so that each comes after those that hold it, and leaves out binds that change nothing.
func (c *compiler) ordered() []Mount {
	slices.SortStableFunc(c.mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	var kept []Mount
	for _, m := range c.mounts {
		if above := innermost(kept, m.Target); m.Kind == Bind && above != nil && above.Kind == Bind &&
			above.Writable == m.Writable && above.Target == above.Source && m.Target == m.Source && m.Origin != originPin && m.Target != c.dir {
			continue
		}
		kept = append(kept, m)
	}
	return kept
}

func innermost(mounts []Mount, path string) *Mount {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Target != path && within(mounts[i].Target, path) {
			return &mounts[i]
		}
	}
	return nil
}

// within tells whether path is dir or below it. Both are clean and absolute.
func within(dir, path string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// isKernelPath tells whether a path is of a file system of the kernel's; /dev/shm is memory for users, as /tmp may be.
func isKernelPath(path string) bool {
	return within("/proc", path) || within("/sys", path) || within("/dev", path) && !within("/dev/shm", path)
}

// expand resolves ~ and relative paths of a policy.
func (c *compiler) expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
		return filepath.Join(c.host.Identity.Home, rest)
	}
	if !filepath.IsAbs(path) {
		return filepath.Join(c.host.Workdir, path)
	}
	return filepath.Clean(path)
}
