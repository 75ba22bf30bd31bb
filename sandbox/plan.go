// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"time"

	"github.com/agentjail/agentjail/profiles"
)

// Kind says how a Mount is made.
type Kind string

// The kinds of mounts.
const (
	Bind   Kind = "bind"   // Source of the host, recursively
	Device Kind = "device" // a device node of the host
	File   Kind = "file"   // a read-only file that agentjail writes: Content
	Tmpfs  Kind = "tmpfs"  // private and empty
	Pts    Kind = "devpts" // a private instance
	Hidden Kind = "hidden" // an unreadable node over a path inside a grant
	Socket Kind = "socket" // Source, a Unix socket of the host, to connect to
	Trust  Kind = "trust"  // a bundle of certificates, Source, with that of the run's own authority; that alone without Source
	Java   Kind = "java"   // the same for a trust store of Java's
	Cgroup Kind = "cgroup" // the run's own cgroup, mounted when the run's first process is in it
)

// Mount is one mount of the run's tree. Paths are absolute and clean; Target is the path inside.
type Mount struct {
	Kind     Kind   `json:"kind"`
	Target   string `json:"target"`
	Source   string `json:"source,omitempty"`
	Writable bool   `json:"writable,omitempty"`
	Dir      bool   `json:"dir,omitempty"`
	Content  string `json:"content,omitempty"`
	Mode     uint32 `json:"mode,omitempty"` // of a tmpfs
	Origin   string `json:"origin"`         // what asked for it
}

// originHome is the origin of mounts that show directories of the private home.
const originHome = "private home"

// originPin is the origin of mounts that show what is there anyway: a mount point can be neither moved nor removed.
const originPin = "pinned"

// originPolicy is the origin of mounts that the policy lists.
const originPolicy = "policy"

// originCommand is the origin of mounts that show the program of the command, and what that needs.
const originCommand = "command"

// originTools begins the origin of mounts that show, or hide, files of a set of tools; its name follows.
const originTools = "with "

// Identity is who the command runs as: the caller, by the numbers and names of the host.
type Identity struct {
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	User  string `json:"user"`
	Group string `json:"group"`
	Home  string `json:"home"`
}

// Home is the private home of a run.
type Home struct {
	Private   string   `json:"private"`             // directory of the host that holds it
	Ephemeral bool     `json:"ephemeral,omitempty"` // removed at the end
	Mounted   bool     `json:"mounted,omitempty"`   // as a whole, in a directory that is the run's own, such as /tmp
	Caches    string   `json:"caches"`              // directory of the host that holds Dirs, for this working directory alone
	Dirs      []string `json:"dirs,omitempty"`      // names below the home that are bound natively
	Pinned    []string `json:"pinned,omitempty"`    // names below a Mounted one that the command can neither move nor replace
	Names     []string `json:"names,omitempty"`     // paths below it that the command may make although the real home has them
	Git       string   `json:"git,omitempty"`       // what its settings of git begin with: the caller's name and address
}

// Tools is a set of tools that the policy names, and what of it is installed.
type Tools struct {
	Name string `json:"name"`
	// Asked says that the caller named the set, and not an embedded profile alone.
	Asked bool     `json:"asked,omitempty"`
	Found []string `json:"found,omitempty"` // canonical paths
	// Places are where it was looked for.
	Places []string `json:"places"`
}

// Plan is everything that a run will be, decided before anything is done. It is a value: it holds no handle of the host.
type Plan struct {
	Command []string `json:"command"`
	Workdir string   `json:"workdir"`
	Around  string   `json:"around,omitempty"` // the Git repository around the working directory, where no grant shows it
	// OwnProgram says that the command, or that of an earlier run, can have written the program that will be executed.
	OwnProgram bool     `json:"own_program,omitempty"`
	Places     []string `json:"places"` // where it can have written anything
	Identity   Identity `json:"identity"`
	Home       Home     `json:"home"`
	// WithoutFUSE says why the run's root is a tmpfs: the FUSE device of this host cannot be opened. Empty where it can.
	WithoutFUSE string            `json:"without_fuse,omitempty"`
	Mounts      []Mount           `json:"mounts"` // in the order in which they are made
	Symlinks    map[string]string `json:"symlinks,omitempty"`
	Noise       []string          `json:"noise,omitempty"`
	Protected   Protected         `json:"protected"`
	Tools       []Tools           `json:"tools,omitempty"`
	Env         []string          `json:"env"`
	Withheld    []string          `json:"withheld,omitempty"` // names of variables that did not enter
	Secrets     []string          `json:"secrets,omitempty"`  // those of them that look like a secret
	Rules       []profiles.Rule   `json:"rules,omitempty"`
	Denials     []profiles.Denial `json:"denials,omitempty"` // go before Rules and Loopback
	Loopback    []uint16          `json:"loopback,omitempty"`
	Publish     []uint16          `json:"publish,omitempty"`  // ports inside that the host reaches at its own loopback
	Upstream    string            `json:"upstream,omitempty"` // as the policy says it; see profiles.FindUpstream
	Proxies     string            `json:"proxies,omitempty"`  // what that found, without credentials; empty for none
	Proxy       bool              `json:"proxy,omitempty"`    // the run has a proxy inside, at profiles.ProxyAddress
	Quota       profiles.Quota    `json:"quota"`              // of the network
	Syscalls    []string          `json:"syscalls,omitempty"` // groups that are allowed beyond the default
	Filter      []string          `json:"filter"`             // summary of the syscall filter
	Limits      profiles.Limits   `json:"limits"`
	GoesOn      bool              `json:"goes_on,omitempty"` // also where its log cannot be written
	LogMaxSize  int64             `json:"log_max_size,omitempty"`
	Collector   string            `json:"collector,omitempty"` // of the log, where the command may reach it, too: see WithoutCollector
	Umask       int               `json:"umask"`
	Policy      PolicyRef         `json:"policy"`
	State       string            `json:"state"` // agentjail's state directory
	Coverage    []string          `json:"coverage"`

	policy  profiles.Policy // for Explain: where its entries were written
	entries []entry         // and what they resolved to
	own     []string        // agentjail's own files that the next run trusts, for checkAliases
}

// PolicyRef names the policy that a plan was compiled from.
type PolicyRef struct {
	Name    string            `json:"name"`
	Digest  string            `json:"digest"`
	Sources []profiles.Source `json:"sources"`
}

// Deadline is the run's time limit, zero for none.
func (p Plan) Deadline() time.Duration { return p.Limits.TTL }

// mount returns the mount at a target.
func (p Plan) mount(target string) (Mount, bool) {
	for _, m := range p.Mounts {
		if m.Target == target {
			return m, true
		}
	}
	return Mount{}, false
}
