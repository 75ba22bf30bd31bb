// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// checkAliases refuses a plan that hides something, or makes it read-only in a place that may be written, which the host has at another path
// as well (mount(8), "Bind mount operation") that the plan shows.
func checkAliases(plan Plan) error {
	kept := func(m Mount) bool {
		return m.Kind == Hidden || m.Kind == Bind && m.Origin != originProtected && plan.protects(m.Target)
	}
	if !slices.ContainsFunc(plan.Mounts, kept) {
		return nil
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return setupError("files", err)
	}
	for _, m := range plan.Mounts {
		if !kept(m) {
			continue
		}
		for _, alias := range aliases(m.Target, mounts) {
			shown := plan.innermost(alias)
			if shown == nil || shown.Kind != Bind || shown.isPrivate() || m.Kind == Bind && !shown.Writable {
				continue
			}
			what, flag := "hidden", "--hide"
			if m.Kind == Bind {
				what, flag = "read-only", "--ro"
			}
			return &SetupError{
				Layer: "files", Fix: flag + " " + quotePath(alias),
				Err: fmt.Errorf("%s is %s, and a mount of this machine has it at %s as well, which is granted", quotePath(m.Target), what, quotePath(alias)),
			}
		}
	}
	return nil
}

// aliases are the other paths at which a host with these mounts has a file, or a part of a directory.
func aliases(path string, mounts []*mountinfo.Info) (found []string) {
	home := mountPoint(path, mounts)
	if home == nil {
		return nil
	}
	file := filepath.Join(home.Root, strings.TrimPrefix(path, home.Mountpoint)) // on its file system
	for _, m := range mounts {
		alias := ""
		switch {
		case m.Major != home.Major || m.Minor != home.Minor:
		case within(m.Root, file):
			alias = filepath.Join(m.Mountpoint, strings.TrimPrefix(file, m.Root))
		case within(file, m.Root):
			alias = m.Mountpoint
		}
		if alias != "" && alias != path && mountPoint(alias, mounts) == m {
			found = append(found, alias)
		}
	}
	return found
}

// mountPoint is the mount that shows a path: of several at one place, the last.
func mountPoint(path string, mounts []*mountinfo.Info) (inner *mountinfo.Info) {
	for _, m := range mounts {
		if within(m.Mountpoint, path) && (inner == nil || len(m.Mountpoint) >= len(inner.Mountpoint)) {
			inner = m
		}
	}
	return inner
}
