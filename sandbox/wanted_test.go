// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
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

// TestEveryMountIsCompared: a run that lacks any one mount of its plan, or has one that is less restricted, is not as planned, and does
// not start.
// Containment checks: A01, A24.
func TestEveryMountIsCompared(t *testing.T) {
	policy := with(t, writing(t, "/home/ann/data/x"),
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/data") },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/app/.env") })
	plan, err := Compile(policy, fakeHost(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	want := posture.Want{Mounts: wantedMounts(plan, fakeProc.Lstat)}
	differences := func(made []posture.WantMount) (fields []string) {
		for _, d := range posture.Compare(want, posture.Posture{Mounts: kernelMounts(made)}) {
			if strings.HasPrefix(d.Field, `mount "`) {
				fields = append(fields, d.Field)
			}
		}
		return fields
	}
	if fields := differences(want.Mounts); len(fields) > 0 {
		t.Fatalf("as planned, but for %q", fields)
	}
	kinds := map[Kind]bool{}
	for i, m := range plan.Mounts {
		kinds[m.Kind] = true
		lesser := plan
		lesser.Mounts = slices.Delete(slices.Clone(plan.Mounts), i, i+1)
		if fields := differences(wantedMounts(lesser, fakeProc.Lstat)); !slices.Contains(fields, "mount "+strconv.Quote(m.Target)) {
			t.Errorf("%s %s is not missed: %q", m.Kind, m.Target, fields)
		}
	}
	for i, m := range want.Mounts {
		for flag := posture.ReadOnly; flag <= posture.NoExec; flag <<= 1 {
			made := slices.Clone(want.Mounts)
			made[i].Flags &^= flag
			if fields := differences(made); m.Flags&flag != 0 && !slices.Contains(fields, "mount "+strconv.Quote(m.Point)) {
				t.Errorf("%s without %v is as planned: %q", m.Point, flag, fields)
			}
		}
	}
	for _, kind := range []Kind{Bind, Device, File, Tmpfs, Pts, Hidden} {
		if !kinds[kind] {
			t.Errorf("the plan has no mount of the kind %s", kind)
		}
	}
}

// kernelMounts are mounts as the kernel lists them.
func kernelMounts(made []posture.WantMount) []posture.Mount {
	mounts := make([]posture.Mount, len(made))
	for i, m := range made {
		mounts[i] = posture.Mount{ID: i + 1, Parent: m.On + 1, Point: m.Point, Type: cmp.Or(m.Type, "ext4"), Flags: m.Flags}
	}
	mounts[0].Parent = 0
	return mounts
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
