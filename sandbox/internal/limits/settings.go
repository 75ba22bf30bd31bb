// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"math"
	"strconv"
)

// Spec is what a run is limited to. A zero field is no limit.
type Spec struct {
	Memory int64   // bytes, swap included
	Pids   int64   // processes and threads
	CPUs   float64 // processors' worth of time, rounded up to a hundredth
	Run    string  // id of the run, of which the group's name is made

	// Leaving says that the caller is going to give up the rights with which it makes the group, as after sudo. A process
	// that keeps them then removes the group; see Reap.
	Leaving bool
}

// version is a version of cgroups.
type version int

const (
	v1 version = 1
	v2 version = 2
)

// setting is a value for a file of a group.
type setting struct {
	controller, file, value string
	optional                bool // the file may be missing: the kernel does not account swap
}

// The period of a share of processor time, and the steps of the share, in microseconds. systemd has steps of one percent
// (systemd.resource-control(5), CPUQuota=), and the kernel takes no less than a millisecond (kernel/sched/core.c).
const (
	cpuPeriod = 100_000
	cpuStep   = 1_000
)

// settings are the files that keep a run to its limits, in the order in which they must be written (cgroups v1: memory.rst,
// sched-bwc.rst, pids.rst; v2: cgroup-v2.rst).
func settings(v version, s Spec) []setting {
	var out []setting
	if s.Memory > 0 {
		bytes := strconv.FormatInt(s.Memory, 10)
		if v == v1 {
			// memsw is memory and swap together, and can never be below memory alone.
			out = append(out, setting{"memory", "memory.limit_in_bytes", bytes, false}, setting{"memory", "memory.memsw.limit_in_bytes", bytes, true})
		} else {
			out = append(out, setting{"memory", "memory.max", bytes, false}, setting{"memory", "memory.swap.max", "0", true})
		}
	}
	if s.Pids > 0 {
		out = append(out, setting{"pids", "pids.max", strconv.FormatInt(s.Pids, 10), false})
	}
	if s.CPUs > 0 {
		quota := strconv.FormatInt(cpuQuota(s.CPUs), 10)
		period := strconv.Itoa(cpuPeriod)
		if v == v1 {
			out = append(out, setting{"cpu", "cpu.cfs_period_us", period, false}, setting{"cpu", "cpu.cfs_quota_us", quota, false})
		} else {
			out = append(out, setting{"cpu", "cpu.max", quota + " " + period, false})
		}
	}
	return out
}

func cpuQuota(cpus float64) int64 {
	steps := math.Ceil(cpus*cpuPeriod/cpuStep - 1e-6) // 0.29 is 29.000000000000004 hundredths
	return int64(max(steps, 1)) * cpuStep
}

// controllers are those that a Spec needs.
func controllers(s Spec) []string {
	var out []string
	if s.Memory > 0 {
		out = append(out, "memory")
	}
	if s.Pids > 0 {
		out = append(out, "pids")
	}
	if s.CPUs > 0 {
		out = append(out, "cpu")
	}
	return out
}

// counter is a number that the kernel counts up when a limit is hit.
type counter struct{ controller, file, key, reason string }

// counters tell of hits. Both versions have the same keys (memory.oom_control's oom_kill since Linux 4.13, pids.events since 4.8).
func counters(v version) []counter {
	memory := "memory.events"
	if v == v1 {
		memory = "memory.oom_control"
	}
	return []counter{
		{"memory", memory, "oom_kill", "the memory limit was reached and the kernel killed a process"},
		{"pids", "pids.events", "max", "the limit of processes was reached and a fork failed"},
	}
}
