// SPDX-License-Identifier: Apache-2.0

// Package posture reads from outside what the kernel holds a process to, and compares it with what was meant.
//
//	got, err := posture.Read(pid)
//	differences := posture.Compare(want, got)     // empty, or the command must not be executed
//
// The supervisor does that with the command's process when every layer is on and nothing of the command has run, so that
// a step that failed silently, or a kernel that does not do what it says, refuses the run instead of weakening it. It does
// it again while the command runs, with what no command can change: every thread is read.
//
// What it refuses: what is not in a Want is not wanted, each mount and each file included. The zero Want equals no process.
//
// Limits: procfs shows no Landlock domain, no dumpable flag and no keyring. A bind is known by where it is and how it is
// restricted, not by what it shows. Ids and cgroup paths are as the reader's own namespaces show them. A process that runs
// while it is read may change meanwhile; its threads that end are left out.
package posture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

// Posture is what a process is held to.
type Posture struct {
	PID       int // in the reader's pid namespace
	Threads   []Thread
	UIDMap    []IDRange
	GIDMap    []IDRange
	Setgroups string // "allow" or "deny"
	Limits    map[string]Limit
	Mounts    []Mount
	Cgroups   []Cgroup
	Dir       string // the working directory
	DirMount  int    `json:"-"` // ID of the mount that it is in
}

// Thread is one thread. Credentials, filters and even files belong to threads in Linux, not to processes.
type Thread struct {
	TID        int
	UIDs       [4]int // real, effective, saved, of the file system
	GIDs       [4]int
	Groups     []int
	Caps       Caps
	NoNewPrivs int
	Seccomp    int // 2 is SECCOMP_MODE_FILTER
	Filters    int // of those that are stacked
	Umask      int
	Blocked    uint64 // signals, bit n-1 for signal n
	Ignored    uint64
	Caught     uint64
	Namespaces map[string]uint64 // by the name in /proc/PID/ns, the inode
	Files      []File
}

// Caps are the capability sets of a thread.
type Caps struct{ Inheritable, Permitted, Effective, Bounding, Ambient uint64 }

// IDRange is a line of uid_map or gid_map.
type IDRange struct{ Inside, Outside, Size uint32 }

// Limit is one resource limit; Unlimited where there is none.
type Limit struct{ Soft, Hard uint64 }

// Unlimited is RLIM_INFINITY.
const Unlimited = ^uint64(0)

// File is an open file.
type File struct {
	FD          int
	Target      string
	CloseOnExec bool
}

// Detail is the posture for the event run.start: what a reader of the log wants to know, and a digest of all that does not
// differ from run to run under the same policy.
func (p Posture) Detail() map[string]any {
	d := map[string]any{
		"pid": p.PID, "threads": len(p.Threads), "uid_map": ranges(p.UIDMap), "gid_map": ranges(p.GIDMap),
		"setgroups": p.Setgroups, "mounts": len(p.Mounts), "cgroups": groupPaths(p.Cgroups), "dir": p.Dir, "core_limit": p.Limits[coreLimit].Hard, "digest": p.Digest(),
	}
	if len(p.Threads) > 0 {
		t := p.Threads[0]
		d["uid"], d["gid"], d["groups"], d["umask"] = t.UIDs[1], t.GIDs[1], append([]int{}, t.Groups...), octal(t.Umask)
		d["no_new_privs"], d["seccomp"], d["seccomp_filters"] = t.NoNewPrivs, t.Seccomp, t.Filters
		d["capabilities"] = map[string]string{
			"inheritable": hexadecimal(t.Caps.Inheritable), "permitted": hexadecimal(t.Caps.Permitted),
			"effective": hexadecimal(t.Caps.Effective), "bounding": hexadecimal(t.Caps.Bounding),
			"ambient": hexadecimal(t.Caps.Ambient),
		}
		d["namespaces"] = t.Namespaces
		fds := []int{}
		for _, f := range t.Files {
			fds = append(fds, f.FD)
		}
		d["fds"] = fds
	}
	return d
}

// Digest is a hash of the posture without pids, inode numbers, cgroup paths and the targets of files.
func (p Posture) Digest() string {
	mounts := p.Mounts
	p.PID, p.Cgroups, p.Mounts = 0, nil, nil
	threads := make([]Thread, len(p.Threads))
	for i, t := range p.Threads {
		t.TID, t.Namespaces = 0, nil
		files := make([]File, len(t.Files))
		for j, f := range t.Files {
			files[j] = File{FD: f.FD, CloseOnExec: f.CloseOnExec}
		}
		t.Files = files
		threads[i] = t
	}
	p.Threads = threads
	b, err := json.Marshal(p)
	if err != nil {
		panic("posture: bug: " + err.Error()) // numbers, strings and maps of strings only
	}
	for _, m := range mounts { // by hand: they are most of it, and every start waits for it
		b = fmt.Appendf(b, "%q %s %d %s\n", m.Point, m.Type, m.Flags, m.Propagation)
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func ranges(list []IDRange) [][3]uint32 {
	out := [][3]uint32{}
	for _, r := range list {
		out = append(out, [3]uint32{r.Inside, r.Outside, r.Size})
	}
	return out
}

func octal(v int) string          { return "0" + strconv.FormatInt(int64(v), 8) }
func hexadecimal(v uint64) string { return strconv.FormatUint(v, 16) }
