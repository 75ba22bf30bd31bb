// SPDX-License-Identifier: Apache-2.0

// Command bench compares agentjail with the bare command and with other jails, side by side: every round runs each variant
// once, in turn, so that what else the machine does falls on all of them. It prints medians and their ratios; absolute times
// say little about another machine.
//
//	bench start     /bin/true from start to end: bare, agentjail, bwrap, runc, firejail, and agent launchers from npm
//	bench work [W]  work with files, or what of it has W in its name: inside against bare, bwrap, and where FUSE cannot be used; BENCH_ROUNDS
//	                is how often. The start of a jail is not in it
//	bench calls     frequent system calls, inside against bare, and those that are refused
//	bench memory    what agentjail keeps in memory while a command runs (as root, started as the user in BENCH_USER)
//	bench net       the network: throughput, requests, connections and DNS by every way (as root, in a namespace of bench.sh)
//	bench inner W   one workload; work runs itself with this, bare and inside, and calls with innercalls and innerdenied
//	bench kernel P  a program under the least that the kernel confines by; work compares with this too
//
// A variant that is not installed, or that cannot run here, is named with its reason and left out.
package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

func main() {
	verbs := map[string]func([]string) error{
		"start": benchStart, "work": benchWork, "calls": benchCalls, "memory": benchMemory, "net": benchNet,
		"inner": inner, "innercalls": innerCalls, "innerdenied": innerDenied, "kernel": kernel, "client": client, "relay": relay,
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench start|work|calls|memory|net|inner|innercalls|innerdenied|kernel|client|relay")
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// median is the middle of durations, which are sorted by it.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%8.2f ms", float64(d)/float64(time.Millisecond))
}
