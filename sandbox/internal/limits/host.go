// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/cgroups/v3"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// hierarchy is a mounted tree of groups, and the caller's place in it.
type hierarchy struct {
	mount string // where the tree is mounted
	own   string // directory of the caller's group; below mount
}

// hierarchies are the trees that this process can see.
type hierarchies struct {
	v1 map[string]hierarchy // by controller
	v2 *hierarchy
}

// host is what groups are made of. Tests give it directories without a kernel behind them.
type host struct {
	hierarchies
	mkdir   func(path string, mode os.FileMode) error
	rmdir   func(path string) error
	connect func() (manager, error) // to the caller's systemd
	root    bool                    // the caller is root
}

func thisHost() (host, error) {
	h, err := findHierarchies()
	root := os.Geteuid() == 0
	connect := userManager
	if root {
		connect = systemManager
	}
	return host{hierarchies: h, mkdir: os.Mkdir, rmdir: unix.Rmdir, connect: connect, root: root}, err
}

// managerName is what connect leads to, in words for people.
func (h host) managerName() string {
	if h.root {
		return "systemd"
	}
	return "systemd's user manager"
}

// slice is the slice of systemd's (systemd.slice(5)) that root is in, whose limits a run must not leave, or empty. A user's manager
// may be below the user's session, and has slices of its own.
func (h host) slice() string {
	if !h.root {
		return ""
	}
	for dir := h.v2.own; len(dir) > len(h.v2.mount); dir = filepath.Dir(dir) {
		if strings.HasSuffix(dir, ".slice") {
			return filepath.Base(dir)
		}
	}
	return ""
}

// findHierarchies reads where this process is (proc_pid_cgroup(5), proc_pid_mountinfo(5)).
func findHierarchies() (hierarchies, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return hierarchies{}, err
	}
	return parseHierarchies(mounts, groups)
}

func parseHierarchies(mounts, groups []byte) (hierarchies, error) {
	own, unified, err := cgroups.ParseCgroupFromReaderUnified(bytes.NewReader(groups))
	if err != nil {
		return hierarchies{}, err
	}
	infos, err := mountinfo.GetMountsFromReader(bytes.NewReader(mounts), mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return hierarchies{}, err
	}
	h := hierarchies{v1: map[string]hierarchy{}}
	for _, m := range infos {
		if m.FSType == "cgroup2" {
			if h.v2 == nil {
				h.v2 = &hierarchy{m.Mountpoint, below(m, unified)}
			}
			continue
		}
		for _, option := range strings.Split(m.VFSOptions, ",") {
			path, ok := own[option]
			if _, seen := h.v1[option]; ok && !seen {
				h.v1[option] = hierarchy{m.Mountpoint, below(m, path)}
			}
		}
	}
	return h, nil
}

// below turns the path of a group into a directory. A container mounts only a part of the tree: the part's own root is cut off,
// and a group outside of it (shown as /../x in a cgroup namespace) is taken to be the root.
func below(m *mountinfo.Info, path string) string {
	if m.Root != "/" {
		rest, ok := strings.CutPrefix(path, m.Root)
		if ok && (rest == "" || rest[0] == '/') {
			path = rest
		}
	}
	dir := filepath.Join(m.Mountpoint, filepath.Clean("/"+path))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return m.Mountpoint
	}
	return dir
}
