// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"io/fs"

	"github.com/agentjail/agentjail/internal/audit"
)

// Grant is a place that the supervisor binds over the tree.
type Grant struct {
	Path string // absolute and clean
	Dir  bool   // whether a directory or a file is offered to mount on
}

// Hide is a place inside a grant that stays hidden: the supervisor binds <mount>/hidden/N over it.
type Hide struct {
	Path string // absolute and clean; what events name
	Dir  bool
	// Shown are the places below it that the supervisor binds over it again: their names, and the directories on the way to them, are
	// all that shows in it.
	Shown []Grant
}

// HomeConfig describes the home, a union of grants and a private home. The zero HomeConfig is no home.
type HomeConfig struct {
	Path    string   // of the home, on the host as inside
	Private string   // host directory that holds what the run keeps; its owner owns everything made in it
	Dirs    []string // directories below the home that are bound natively from the private home
	Names   []string // names below the home that are the private home's own even where the host's home has them too
}

// Config is what a file system is made of. The zero Config grants nothing.
type Config struct {
	Grants   []Grant
	Symlinks map[string]string // absolute path to target, such as "/bin" to "usr/bin"
	Hidden   []Hide
	Home     HomeConfig

	// HostLstat tells what the host has at a path; os.Lstat where it is nil. It must not walk the mount.
	HostLstat func(path string) (fs.FileMode, error)

	// Severity is that of an event about a path, "" for an ordinary one; it may be nil.
	Severity func(path string) string

	// Sink takes the events.
	Sink audit.Sink

	// Caller describes a thread that is blocked in a request. It must not hang, also where it reads the thread's memory,
	// which may be a mapped file of the home. Nil: events carry the thread's id alone.
	Caller func(tid int) audit.Process

	// Ignore names threads, such as the supervisor's own, whose requests are answered without an event. Nil is none.
	Ignore func(tid int) bool

	// CallOf tells the system call that a thread is blocked in; /proc/TID/syscall where it is nil.
	CallOf func(tid int) (Call, bool)
}

// ConfigError is a Config that no tree can be made of.
type ConfigError struct {
	Path    string // the place at fault
	Problem string
}

func (e *ConfigError) Error() string { return fmt.Sprintf("denyfs: %q: %s", e.Path, e.Problem) }
