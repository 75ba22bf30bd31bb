// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// middle is the sample of a task with the median rate.
func (w *way) middle(task string) (sample, bool) {
	list := slices.Clone(w.results[task])
	if len(list) == 0 {
		return sample{}, false
	}
	slices.SortFunc(list, func(a, b sample) int { return cmp.Compare(a.Rate, b.Rate) })
	return list[len(list)/2], true
}

// over is the median rate of one way over that of another.
func over(ways []*way, task, a, b string) float64 {
	rate := map[string]float64{}
	for _, w := range ways {
		s, _ := w.middle(task)
		rate[w.name] = s.Rate
	}
	return rate[a] / rate[b]
}

func printNet(ways []*way, bytes string) {
	n, _ := strconv.ParseFloat(bytes, 64)
	all := n / (1 << 30)
	fmt.Printf("network, medians of interleaved rounds; transfers of %.1f GiB; 8 clients at once; processor time with the client's own; memory of the processes\n", all)
	fmt.Printf("  %-20s %10s %9s %10s %27s %27s %27s %8s %6s %10s %7s\n", "", "down", "up", "CPU s/GiB", "requests/s, p50, p99", "with new connections",
		"by a TLS name", "CPU each", "1000", "KiB each", "DNS/s")
	for _, w := range ways {
		if w.refused != "" {
			fmt.Printf("  %-20s left out: %s\n", w.name, w.refused)
			continue
		}
		gib := all
		if w.agent {
			gib /= agentShare
		}
		down, _ := w.middle("down")
		up, _ := w.middle("up")
		many, _ := w.middle("many")
		dns, _ := w.middle("dns")
		fmt.Printf("  %-20s %6.0f MiB %5.0f MiB %4.2f %5.2f %s %s %s %8s %6.0f %10.1f %7.0f\n", w.name, down.Rate, up.Rate, down.CPU.Seconds()/gib, up.CPU.Seconds()/gib,
			w.requests("keep"), w.requests("new"), w.requests("hello"), w.each("new"), many.Rate, many.Memory, dns.Rate)
	}
	for _, aim := range []struct {
		task, what string
		least      float64
	}{{"down", "download", 0.9}, {"up", "upload", 0.9}, {"new", "new connections a second", 0.9}, {"keep", "requests a second", 0.9}} {
		fmt.Printf("  agentjail's %s: %.2f x a Go splice relay (at least %.1f), %.2f x direct\n", aim.what, over(ways, aim.task, byName, splice), aim.least,
			over(ways, aim.task, byName, direct))
	}
	name, _ := find(ways, byName).middle("hello")
	addr, _ := find(ways, byAddr).middle("hello")
	fmt.Printf("  agentjail's p50 of a connection whose TLS name is checked: %.2f x one to an address, of which nothing is\n", ratio(name.P50, addr.P50))
	many, _ := find(ways, byName).middle("many")
	fmt.Printf("  agentjail's memory of a connection: %.1f KiB (at most 64), of %.0f that are open\n", many.Memory, many.Rate)
	printBest(ways)
}

// printBest compares new connections with the best launcher that is made for agents.
func printBest(ways []*way) {
	best, name := 0.0, ""
	for _, w := range ways {
		if s, _ := w.middle("new"); w.agent && s.Rate > best {
			best, name = s.Rate, w.name
		}
	}
	if name != "" {
		fmt.Printf("  agentjail's new connections a second: %.1f x %s (at least 4)\n", over(ways, "new", byName, name), name)
	}
}

// printTLS compares transfers in TLS.
func printTLS(ways []*way) {
	for _, w := range ways {
		if w.refused != "" {
			fmt.Printf("  %-20s TLS left out: %s\n", w.name, w.refused)
			continue
		}
		down, _ := w.middle("tls-down")
		up, _ := w.middle("tls-up")
		fmt.Printf("  %-20s %6.0f MiB %5.0f MiB in TLS\n", w.name, down.Rate, up.Rate)
	}
	fmt.Printf("  agentjail's TLS that is inspected: download %.2f x, upload %.2f x TLS that it passes on\n", over(ways, "tls-down", inspected, byName),
		over(ways, "tls-up", inspected, byName))
}

// find is the way of a name, which is there.
func find(ways []*way, name string) *way {
	return ways[slices.IndexFunc(ways, func(w *way) bool { return w.name == name })]
}

// each is the processor time of a request.
func (w *way) each(task string) string {
	s, _ := w.middle(task)
	return (s.CPU / time.Duration(max(s.Count, 1))).Round(time.Microsecond).String()
}

func (w *way) requests(task string) string {
	s, ok := w.middle(task)
	if !ok {
		return fmt.Sprintf("%27s", "-")
	}
	return fmt.Sprintf("%8.0f %8s %9s", s.Rate, s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond))
}
