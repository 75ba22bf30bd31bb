// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Values of Files.Workdir and Files.Home. An empty Workdir grants no working
// directory; an empty Home is to be taken for HomeEphemeral.
const (
	WorkdirReadWrite = "rw"
	WorkdirReadOnly  = "ro"
	HomePrivate      = "private"
	HomeEphemeral    = "ephemeral"
)

// Values of Policy.LogOnError. An empty one is to be taken for LogStop.
const (
	LogStop     = "stop"
	LogContinue = "continue"
)

// Files is what a run may see of the machine's files. Every list is sorted and
// free of repetitions. Paths are absolute or start with "~/", which the sandbox
// resolves to the caller's home; as a "~/" path and an absolute one may be the
// same place, it then has to apply the precedence again: the most specific path,
// and of the same path hide over read over write, where what embedded profiles
// alone name gives way to all else.
type Files struct {
	Workdir string // WorkdirReadWrite, WorkdirReadOnly or ""
	Home    string // HomePrivate, HomeEphemeral or ""
	Secrets string // SecretsShow, SecretsHide or "": whether files of the working directory are hidden for which IsSecretFile holds
	Read    []string
	Write   []string // readable, too
	Hide    []string // with all below but what Read and Write name there
	// Protect lists names that may be read, but neither written nor made, with all below, wherever they are found in a place that may
	// be written. See Protection.
	Protect []string
	// Unprotect takes names out of that list.
	Unprotect []string
	// Private lists names below the home that the agent may make anew in its
	// private home although the machine's home has them.
	Private []string
	// Noise lists patterns for IsNoise.
	Noise []string
	// With names sets of tools that may be read where they are installed: see Toolchain.
	With []string
	// Provide has the text of files that the run finds at their paths instead of the machine's, and may read.
	Provide map[string]string
	// Optional lists the paths of Read, Write and Provide that only embedded profiles
	// name: they are left out where they do not exist, or another grant shows what does. Any other path must
	// exist, or the run is refused.
	Optional []string
}

// clone returns a copy that shares no memory.
func (f Files) clone() Files {
	f.Read = slices.Clone(f.Read)
	f.Write = slices.Clone(f.Write)
	f.Hide = slices.Clone(f.Hide)
	f.Protect = slices.Clone(f.Protect)
	f.Unprotect = slices.Clone(f.Unprotect)
	f.Private = slices.Clone(f.Private)
	f.Noise = slices.Clone(f.Noise)
	f.With = slices.Clone(f.With)
	f.Provide = maps.Clone(f.Provide)
	f.Optional = slices.Clone(f.Optional)
	return f
}

// Limits bounds what a run may use. Zero is no limit.
type Limits struct {
	Memory int64         `json:"memory"` // bytes
	Pids   int64         `json:"pids"`
	CPUs   float64       `json:"cpus"`
	TTL    time.Duration `json:"ttl"` // nanoseconds in JSON
}

// Source says where a layer of a policy came from.
type Source struct {
	Name   string `json:"name"`   // "profile:base", or the name given to Parse
	Digest string `json:"digest"` // of the layer's text, as "sha256:<hex>"
}

// Policy says what a run may do. It is immutable; the zero Policy grants nothing.
type Policy struct {
	name     string
	files    Files
	rules    []Rule
	denials  []Denial
	loopback []uint16
	publish  []uint16
	sockets  []string
	upstream string
	proxy    string // proxyOn, proxyOff or ""
	quota    Quota
	env      Environment
	limits   Limits
	syscalls []string
	logError string
	logSize  int64
	sources  []Source
	origins  []Origin
}

// Name returns the name of the embedded profile that the policy was begun
// with, "" if none. A run's private home is kept under it.
func (p Policy) Name() string { return p.name }

// Files returns the grants of files.
func (p Policy) Files() Files { return p.files.clone() }

// Rules returns the network rules, sorted, one for each target.
func (p Policy) Rules() []Rule { return mergeRules(p.rules) }

// Denials returns what is denied whatever the rules grant, sorted.
func (p Policy) Denials() []Denial { return mergeDenials(p.denials) }

// Loopback returns the ports of the machine's own loopback that may be
// reached, sorted.
func (p Policy) Loopback() []uint16 { return slices.Clone(p.loopback) }

// Publish returns the ports of the run's own loopback that the machine reaches
// at the same ports of its own, sorted.
func (p Policy) Publish() []uint16 { return slices.Clone(p.publish) }

// Sockets returns the paths of the machine's Unix sockets that may be
// connected to, sorted, written as those of Files.
func (p Policy) Sockets() []string { return slices.Clone(p.sockets) }

// Upstream returns by which proxy of the caller's network hosts are reached:
// UpstreamEnvironment, UpstreamNone, the URL of a proxy, or "" where no layer
// says it. See FindUpstream.
func (p Policy) Upstream() string { return p.upstream }

// Quota returns the bounds on the use of the network.
func (p Policy) Quota() Quota { return p.quota }

// Environment returns the variables that may enter, with those that the sets of tools pass.
func (p Policy) Environment() Environment { return p.files.toolVariables().with(p.env) }

// Limits returns the limits on resources.
func (p Policy) Limits() Limits { return p.limits }

// Syscalls returns the names of the groups of system calls that are allowed in
// addition to the default, sorted.
func (p Policy) Syscalls() []string { return slices.Clone(p.syscalls) }

// SyscallGroups returns the names of all groups of system calls that a policy may allow, sorted.
func SyscallGroups() []string { return slices.Clone(syscallGroups) }

// LogOnError returns what becomes of a run whose log cannot be written:
// LogStop ends it, LogContinue does not. It is "" where no layer says it.
func (p Policy) LogOnError() string { return p.logError }

// LogMaxSize returns how large a file of a run's log may become before it goes on in another; 0 where no layer says it.
func (p Policy) LogMaxSize() int64 { return p.logSize }

// Sources returns the layers that the policy was made from, in their order.
// Values set by modifiers other than With have no source.
func (p Policy) Sources() []Source { return slices.Clone(p.sources) }

// With returns the policy with another layer over it:
//
//   - lists are united, so the order of layers does not matter for them;
//   - denials beat rules, whichever layer they are of;
//   - of the same path hide beats read beats write: the others are dropped;
//   - what embedded profiles alone grant gives way to what is said of the same
//     path, and is dropped below a hidden one;
//   - of a file that both provide the later layer's text is taken; a hidden one is dropped;
//   - scalars (workdir, home, secrets, upstream, proxy, what is said of the log, each quota and limit) are the later layer's where it sets them;
//   - for a single variable the later layer decides between passing the
//     caller's value and setting one;
//   - a path is optional only if every layer that names it says so;
//   - the name stays that of the first layer with a name other than "base".
func (p Policy) With(over Policy) Policy {
	if reflect.ValueOf(over).IsZero() {
		return p
	}
	out := Policy{
		name:     p.name,
		rules:    mergeRules(p.rules, over.rules),
		denials:  mergeDenials(p.denials, over.denials),
		loopback: unite(p.loopback, over.loopback),
		publish:  unite(p.publish, over.publish),
		sockets:  unite(p.sockets, over.sockets),
		upstream: cmp.Or(over.upstream, p.upstream),
		proxy:    cmp.Or(over.proxy, p.proxy),
		quota:    p.quota.with(over.quota),
		env:      p.env.with(over.env),
		limits:   p.limits.with(over.limits),
		syscalls: unite(p.syscalls, over.syscalls),
		logError: cmp.Or(over.logError, p.logError),
		logSize:  cmp.Or(over.logSize, p.logSize),
		origins:  p.originsWith(over),
	}
	if (p.name == "" || p.name == baseProfile) && over.name != "" {
		out.name = over.name
	}
	out.files = p.files.with(over.files)
	for _, s := range slices.Concat(p.sources, over.sources) {
		if !slices.Contains(out.sources, s) {
			out.sources = append(out.sources, s)
		}
	}
	return out
}

// with merges two layers of grants and settles their precedence.
func (f Files) with(over Files) Files {
	out := Files{
		Workdir:   f.Workdir,
		Home:      f.Home,
		Secrets:   f.Secrets,
		Read:      unite(f.Read, over.Read),
		Write:     unite(f.Write, over.Write),
		Hide:      unite(f.Hide, over.Hide),
		Protect:   unite(f.Protect, over.Protect),
		Unprotect: unite(f.Unprotect, over.Unprotect),
		Private:   unite(f.Private, over.Private),
		Noise:     unite(f.Noise, over.Noise),
		With:      unite(f.With, over.With),
	}
	if over.Workdir != "" {
		out.Workdir = over.Workdir
	}
	if over.Home != "" {
		out.Home = over.Home
	}
	if over.Secrets != "" {
		out.Secrets = over.Secrets
	}
	hide := setOf(out.Hide)
	required := setOf(f.required(f.Read), f.required(f.Write), over.required(over.Read), over.required(over.Write))
	hidden := func(path string) bool { return hide[path] || !required[path] && covered(path, hide) }
	read := setOf(f.required(f.Read), over.required(over.Read))
	out.Write = without(out.Write, func(path string) bool { return hidden(path) || read[path] })
	out.Private = without(out.Private, func(path string) bool { return covered(path, hide) })
	written := setOf(out.Write)
	out.Read = without(out.Read, func(path string) bool { return hidden(path) || written[path] })

	for _, layer := range []Files{f, over} {
		insists := setOf(layer.required(layer.provided()))
		for path, text := range layer.Provide {
			if !covered(path, hide) && (insists[path] || !required[path]) {
				out.provide(path, text)
			}
		}
	}
	insists := setOf(f.required(f.provided()), over.required(over.provided()))
	gives := func(path string) bool { return insists[path] && !required[path] }
	out.Read, out.Write = without(out.Read, gives), without(out.Write, gives)
	required = setOf(f.required(f.named()), over.required(over.named()))
	granted := setOf(out.named())
	out.Optional = without(unite(f.Optional, over.Optional), func(path string) bool {
		return required[path] || !granted[path]
	})
	return out
}

// named returns the paths of the layer that may be optional.
func (f Files) named() []string { return slices.Concat(f.Read, f.Write, f.provided()) }

// required returns those of the paths that the layer insists on.
func (f Files) required(paths []string) []string {
	optional := setOf(f.Optional)
	return without(slices.Clone(paths), func(path string) bool { return optional[path] })
}

// with returns the limits with those that over sets.
func (l Limits) with(over Limits) Limits {
	if over.Memory != 0 {
		l.Memory = over.Memory
	}
	if over.Pids != 0 {
		l.Pids = over.Pids
	}
	if over.CPUs != 0 {
		l.CPUs = over.CPUs
	}
	if over.TTL != 0 {
		l.TTL = over.TTL
	}
	return l
}

// unite returns the elements of both lists, sorted, each once.
func unite[T string | uint16](a, b []T) []T {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// without returns the elements for which drop is false; nil if there are none,
// so that equal policies are deeply equal.
func without(list []string, drop func(string) bool) []string {
	if list = slices.DeleteFunc(list, drop); len(list) == 0 {
		return nil
	}
	return list
}

// WithRead returns the policy with further paths that may be read.
func (p Policy) WithRead(paths ...string) (Policy, error) {
	return p.withPaths("read", paths, checkGrant, func(f *Files) { f.Read = paths })
}

// WithWrite returns the policy with further paths that may be read and written.
func (p Policy) WithWrite(paths ...string) (Policy, error) {
	return p.withPaths("write", paths, checkGrant, func(f *Files) { f.Write = paths })
}

// WithHide returns the policy with further paths that are hidden.
func (p Policy) WithHide(paths ...string) (Policy, error) {
	return p.withPaths("hide", paths, checkGrant, func(f *Files) { f.Hide = paths })
}

// WithProtect returns the policy with further names that are protected.
func (p Policy) WithProtect(names ...string) (Policy, error) {
	return p.withPaths("protect", names, checkProtect, func(f *Files) { f.Protect = names })
}

// WithUnprotect returns the policy with further names that are not protected.
func (p Policy) WithUnprotect(names ...string) (Policy, error) {
	return p.withPaths("unprotect", names, checkProtect, func(f *Files) { f.Unprotect = names })
}

func (p Policy) withPaths(key string, paths []string, check func(string) error, set func(*Files)) (Policy, error) {
	if len(paths) == 0 {
		return p, nil
	}
	var layer Policy
	for _, path := range paths {
		if err := check(path); err != nil {
			return Policy{}, err
		}
		layer.origins = append(layer.origins, Origin{Key: key, Entry: path})
	}
	set(&layer.files)
	return p.With(layer), nil
}

// WithAllow returns the policy with further network rules.
func (p Policy) WithAllow(rules ...Rule) (Policy, error) {
	layer := Policy{rules: rules}
	for _, r := range rules {
		if err := r.check(); err != nil {
			return Policy{}, err
		}
		layer.origins = append(layer.origins, Origin{Key: "allow", Entry: r.Target()})
	}
	return p.With(layer), nil
}

// WithDeny returns the policy with further denials.
func (p Policy) WithDeny(denials ...Denial) (Policy, error) {
	layer := Policy{denials: denials}
	for _, d := range denials {
		if err := d.check(); err != nil {
			return Policy{}, err
		}
		layer.origins = append(layer.origins, Origin{Key: "deny", Entry: d.Target()})
	}
	return p.With(layer), nil
}

// WithQuota returns the policy with other quotas, where they are not zero.
func (p Policy) WithQuota(q Quota) (Policy, error) {
	if err := q.check(); err != nil {
		return Policy{}, err
	}
	return p.With(Policy{quota: q}), nil
}

// WithPublish returns the policy with further ports that are published.
func (p Policy) WithPublish(ports ...string) (Policy, error) {
	var layer Policy
	for _, text := range ports {
		port, ok := parsePort(text)
		if !ok {
			return Policy{}, errorf("%s is not a port: write a number from 1 to 65535", show(text))
		}
		layer.publish = append(layer.publish, port)
	}
	return p.With(layer), nil
}

// WithSockets returns the policy with further Unix sockets of the machine.
func (p Policy) WithSockets(paths ...string) (Policy, error) {
	for _, path := range paths {
		if err := checkGrant(path); err != nil {
			return Policy{}, err
		}
	}
	if len(paths) == 0 {
		return p, nil
	}
	return p.With(Policy{sockets: paths}), nil
}

// WithSyscalls returns the policy with further groups of system calls, of those that SyscallGroups names.
func (p Policy) WithSyscalls(groups ...string) (Policy, error) {
	for _, name := range groups {
		if err := checkGroup(name); err != nil {
			return Policy{}, err
		}
	}
	return p.With(Policy{syscalls: groups}), nil
}

// WithEnv returns the policy with further variables: NAME passes the caller's
// value, NAME=VALUE sets one.
func (p Policy) WithEnv(variables ...string) (Policy, error) {
	for _, v := range variables {
		layer, err := parseVariable(v)
		if err != nil {
			return Policy{}, err
		}
		p = p.With(Policy{env: layer})
	}
	return p, nil
}

// WithLogOnError returns the policy with LogStop or LogContinue.
func (p Policy) WithLogOnError(what string) (Policy, error) {
	if what != LogStop && what != LogContinue {
		return Policy{}, errorf("%s is not known: when the log cannot be written, a run can %s or %s", show(what), LogStop, LogContinue)
	}
	return p.With(Policy{logError: what}), nil
}

// WithLimits returns the policy with other limits, where they are not zero.
func (p Policy) WithLimits(l Limits) (Policy, error) {
	if err := l.check(); err != nil {
		return Policy{}, err
	}
	return p.With(Policy{limits: l}), nil
}
