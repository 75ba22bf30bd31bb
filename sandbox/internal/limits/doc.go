// SPDX-License-Identifier: Apache-2.0

// Package limits keeps a run within its memory, processes and processors, with a cgroup of its own (cgroups(7)).
//
// [Create] makes the group and [Group.Add] moves the run's first process into it; what that starts is born there. The group
// is made where the caller may make one:
//
//   - cgroup v1: one directory per controller, below the caller's own. Root's to make, or whoever was given the directory.
//   - cgroup v2 with systemd: a transient scope, asked for over D-Bus; of the user's own systemd, or of the machine's for root.
//     Under sudo, a directory in a scope that is made before root's rights are given up.
//   - cgroup v2 without: below the nearest directory above the caller that hands the controllers down and may be written.
//
// A limit that cannot be set is an [UnavailableError] that names the fix, and no group: a run never goes on with fewer
// limits than it was asked for. A run without limits needs no group; do not call Create then.
//
// # Limits
//
// The memory limit counts swap, where the kernel accounts it. Processors are a share of time (CFS quota): no event tells
// that a run was slowed down. A launcher that is killed leaves an empty group, which the next Create or [RemoveStale] removes.
package limits
