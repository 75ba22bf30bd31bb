// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io/fs"

	"github.com/agentjail/agentjail/sandbox/internal/posture"
)

// What package rootfs and libcontainer restrict mounts to. Device nodes and terminals have to be devices.
const (
	mountFlags  = posture.NoSuid | posture.NoDev
	deviceFlags = posture.NoSuid | posture.NoExec
	procFlags   = posture.NoSuid | posture.NoDev | posture.NoExec
)

// wantedMounts is the whole mount table of a run: its plan, and what libcontainer adds. lstat tells which files of /proc this
// kernel has; they are the same in every instance of procfs.
func wantedMounts(plan Plan, lstat func(string) (fs.FileInfo, error)) []posture.WantMount {
	want := []posture.WantMount{{Point: "/", Type: "fuse", Flags: mountFlags}}
	if plan.plain() {
		want[0].Type, want[0].Flags = "tmpfs", mountFlags|posture.ReadOnly
	}
	for _, m := range plan.Mounts {
		want = append(want, wantedMount(m, plan.plain()))
	}
	want = append(want, posture.WantMount{Point: "/proc", Type: "proc", Flags: procFlags})
	// libcontainer binds the finished /dev over itself; see jailConfig.
	for _, m := range plan.Mounts {
		if within("/dev", m.Target) {
			want = append(want, wantedMount(m, plan.plain()))
		}
	}
	for _, path := range readonlyProc {
		if _, err := lstat(path); err == nil {
			want = append(want, posture.WantMount{Point: path, Type: "proc", Flags: procFlags | posture.ReadOnly})
		}
	}
	for _, path := range masked(plan) {
		info, err := lstat(path)
		switch {
		case err != nil:
		case info.IsDir():
			want = append(want, posture.WantMount{Point: path, Type: "tmpfs", Flags: posture.ReadOnly})
		default: // by /dev/null
			want = append(want, posture.WantMount{Point: path, Flags: deviceFlags})
		}
	}
	return posture.Stack(want)
}

func wantedMount(m Mount, plain bool) posture.WantMount {
	w := posture.WantMount{Point: m.Target, Flags: mountFlags}
	if !m.Writable {
		w.Flags |= posture.ReadOnly
	}
	switch m.Kind {
	case Bind, Socket, Cgroup:
		w.Tree = m.Dir
	case Device:
		w.Flags = deviceFlags
	case File, Tmpfs:
		w.Type = "tmpfs"
	case Pts:
		w.Type, w.Flags = "devpts", deviceFlags
	case Hidden:
		w.Type = "tmpfs" // read-only
		if !plain {
			w.Type, w.Flags = "fuse", mountFlags
		}
	}
	return w
}

// wantedLimits are those of this process, but for the soft limit of open files: the Go runtime raises its own, and the stage
// sets it back (see package stage).
func wantedLimits(own map[string]posture.Limit) map[string]posture.Limit {
	const files = "Max open files"
	limit := own[files]
	own[files] = posture.Limit{Soft: min(1024, limit.Hard), Hard: limit.Hard}
	return own
}
