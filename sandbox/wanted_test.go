// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"testing"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
)

// fakeProc has some of the masked files and directories, and one of those that are made read-only.
var fakeProc = fakeFiles{"/proc/kcore": "", "/proc/keys": "", "/proc/acpi/wakeup": "", "/proc/sys/kernel": ""}

func TestWantedMounts(t *testing.T) {
	plan := Plan{Mounts: []Mount{
		{Kind: Tmpfs, Target: "/dev", Dir: true},
		{Kind: Device, Target: "/dev/null"},
		{Kind: Pts, Target: "/dev/pts", Dir: true},
		{Kind: Tmpfs, Target: "/dev/shm", Dir: true, Writable: true},
		{Kind: File, Target: "/etc/hosts"},
		{Kind: Bind, Target: "/home/ann/app", Dir: true, Writable: true},
		{Kind: Hidden, Target: "/home/ann/app/.env"},
		{Kind: Bind, Target: "/usr", Dir: true},
		{Kind: Bind, Target: "/usr/src/f", Writable: true},
	}}
	const fresh = posture.NoSuid | posture.NoDev
	want := []posture.WantMount{
		{Point: "/", Type: "fuse", Flags: fresh},
		{Point: "/dev", Type: "tmpfs", Flags: fresh | posture.ReadOnly},
		{Point: "/dev/null", Flags: posture.NoSuid | posture.NoExec, On: 1},
		{Point: "/dev/pts", Type: "devpts", Flags: posture.NoSuid | posture.NoExec, On: 1},
		{Point: "/dev/shm", Type: "tmpfs", Flags: fresh, On: 1},
		{Point: "/etc/hosts", Type: "tmpfs", Flags: fresh | posture.ReadOnly},
		{Point: "/home/ann/app", Flags: fresh, Tree: true},
		{Point: "/home/ann/app/.env", Type: "fuse", Flags: fresh, On: 6},
		{Point: "/usr", Flags: fresh | posture.ReadOnly, Tree: true},
		{Point: "/usr/src/f", Flags: fresh, On: 8},
		{Point: "/proc", Type: "proc", Flags: fresh | posture.NoExec},
		{Point: "/dev", Type: "tmpfs", Flags: fresh | posture.ReadOnly, On: 1},
		{Point: "/dev/null", Flags: posture.NoSuid | posture.NoExec, On: 11},
		{Point: "/dev/pts", Type: "devpts", Flags: posture.NoSuid | posture.NoExec, On: 11},
		{Point: "/dev/shm", Type: "tmpfs", Flags: fresh, On: 11},
		{Point: "/proc/sys", Type: "proc", Flags: fresh | posture.NoExec | posture.ReadOnly, On: 10},
		{Point: "/proc/acpi", Type: "tmpfs", Flags: posture.ReadOnly, On: 10},
		{Point: "/proc/kcore", Flags: posture.NoSuid | posture.NoExec, On: 10},
		{Point: "/proc/keys", Flags: posture.NoSuid | posture.NoExec, On: 10},
	}
	if got := wantedMounts(plan, fakeProc.Lstat); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// Without FUSE the root and what is hidden are read-only.
	plan.WithoutFUSE = "no"
	for i := range want {
		if want[i].Type == "fuse" {
			want[i].Type, want[i].Flags = "tmpfs", fresh|posture.ReadOnly
		}
	}
	if got := wantedMounts(plan, fakeProc.Lstat); !slices.Equal(got, want) {
		t.Errorf("without FUSE: got  %+v\nwant %+v", got, want)
	}
}

// TestWritablePlaces: Landlock and the mounts say the same of where the command may write. A read-only place in a writable
// one is held by its mount alone.
func TestWritablePlaces(t *testing.T) {
	for name, policy := range map[string]profiles.Policy{
		"base": base(t), "reading": reading(t, "/home/ann/data"), "writing": writing(t, "/home/ann/data/x"),
	} {
		plan, err := Compile(policy, fakeHost(), []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		places := writablePlaces(plan)
		// The root's own file system lets write below the home; its mount does not say so.
		writable := map[string]bool{plan.Identity.Home: true}
		for _, m := range wantedMounts(plan, fakeProc.Lstat)[1:] {
			if m.Flags&posture.ReadOnly != 0 || m.Type == "fuse" {
				continue
			}
			covered := false
			for _, place := range places {
				if within(place, m.Point) {
					covered, writable[place] = true, true
				}
			}
			if !covered {
				t.Errorf("%s: Landlock forbids writing to %s, which is mounted writable", name, m.Point)
			}
		}
		for _, place := range places {
			if !writable[place] {
				t.Errorf("%s: Landlock lets %s be written, where nothing is mounted writable", name, place)
			}
		}
	}
}
