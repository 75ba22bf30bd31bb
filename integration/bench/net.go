// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the ways to a server are compared by. Bytes can be set by BENCH_BYTES, rounds by BENCH_ROUNDS.
const (
	netBytes  = 2 << 30
	netRounds = 5
	netTime   = 2 * time.Second // of a measurement that counts
	netShaped = 256 << 20       // bytes over the shaped link
	netLimit  = time.Minute     // of a measurement: a way that hangs is left out of it
)

// way is one way from a client to the server.
type way struct {
	name    string
	argv    []string // what the client is started by
	server  string   // as the client is told it
	resolve bool     // there is a resolver to measure
	agent   bool     // a launcher made for agents, like agentjail
	refused string
	began   time.Duration       // processor time of a start, with one request
	results map[string][]sample // by task
}

// sample is what a client measured, and the processor time of all that served it, its own included.
type sample struct {
	Rate     float64       `json:"rate"` // MiB/s, or requests a second
	P50, P99 time.Duration // of a request
	Count    int           // of requests
	CPU      time.Duration `json:"-"`
}

// benchNet runs in a network namespace that it may shape, as root; the clients run as the user in BENCH_USER.
func benchNet([]string) error {
	credential, err := userCredential(os.Getenv("BENCH_USER"))
	if err != nil {
		return err
	}
	if err := serveAll(); err != nil {
		return err
	}
	// pasta copies the addresses and routes of an interface that leads out.
	for _, args := range []string{"link add out0 type veth peer name out1", "addr add 192.0.2.2/24 dev out0", "link set out0 up", "link set out1 up", "route add default via 192.0.2.1"} {
		if err := exec.Command("ip", strings.Fields(args)...).Run(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: ip %s: %v\n", args, err)
		}
	}
	relay := exec.Command("/proc/self/exe", "relay", relayAddr, serverAddr)
	relay.Stderr = os.Stderr
	if err := relay.Start(); err != nil {
		return err
	}
	defer func() { relay.Process.Kill(); relay.Wait() }()
	b := netBench{credential: credential, relay: relay.Process.Pid}
	ways := netWays()
	for _, w := range ways {
		trial, err := b.measure(w, "new", "1")
		if err != nil && w.refused == "" {
			w.refused = err.Error()
		}
		w.began = trial.CPU
	}
	bytes := int64(netBytes)
	if text := os.Getenv("BENCH_BYTES"); text != "" {
		if bytes, err = strconv.ParseInt(text, 10, 64); err != nil {
			return err
		}
	}
	tasks := [][]string{
		{"down", strconv.FormatInt(bytes, 10)}, {"up", strconv.FormatInt(bytes, 10)},
		{"keep", netTime.String()}, {"new", netTime.String()}, {"hello", netTime.String()}, {"many", "1000"}, {"dns", netTime.String()},
	}
	b.rounds(ways, tasks)
	printNet(ways, bytes)
	if err := shape("add", "dev", "lo", "root", "tbf", "rate", "1gbit", "burst", "256k", "latency", "20ms"); err != nil {
		fmt.Println("  over 1 Gbit/s        left out:", err)
		return nil
	}
	defer shape("del", "dev", "lo", "root")
	var two []*way
	for _, w := range ways {
		if w.name == direct || w.name == byName {
			two = append(two, w)
		}
	}
	b.rounds(two, [][]string{{"shaped-down", strconv.Itoa(netShaped)}, {"shaped-up", strconv.Itoa(netShaped)}})
	for _, task := range []string{"shaped-down", "shaped-up"} {
		fmt.Printf("  agentjail's %s over 1 Gbit/s is %.3f x direct (at least 0.97)\n", strings.TrimPrefix(task, "shaped-"), over(ways, task, byName, direct))
	}
	return nil
}

func shape(args ...string) error {
	out, err := exec.Command("tc", append([]string{"qdisc"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tc: %w: %s", err, out)
	}
	return nil
}

// Names of ways that others are compared with.
const (
	direct = "direct"
	splice = "Go splice relay"
	byName = "agentjail"
)

func netWays() []*way {
	srt, err := srtWay()
	npm := filepath.Join(os.Getenv("BENCH_PEERS"), "node_modules/.bin")
	ways := []*way{
		{name: direct, server: serverAddr, resolve: true},
		{name: splice, server: relayAddr},
		{name: byName, server: serverName, resolve: true, argv: []string{"agentjail", "run", "--quiet", "--allow-net", serverName, "--"}},
		{name: "agentjail, address", server: serverAddr, argv: []string{"agentjail", "run", "--quiet", "--allow-net", serverAddr, "--"}},
		{name: "pasta", server: localAddr, argv: []string{"pasta", "--config-net", "-q", "-T", localPort, "-t", "none", "-u", "none", "-U", "none", "--"}},
		{name: "slirp4netns", server: "10.0.2.2:" + localPort, argv: []string{"sh", "-c", slirp, "slirp"}},
		{name: "sandbox-runtime", agent: true, server: serverName, argv: []string{npm + "/srt", "--settings", srt, "--"}},
	}
	for _, w := range ways {
		w.results = map[string][]sample{}
		if w.name == "sandbox-runtime" && err != nil {
			w.refused = err.Error()
		}
	}
	return ways
}

// slirp starts its arguments in a namespace that slirp4netns serves; its 10.0.2.2 is the host's loopback (slirp4netns(1)).
const slirp = `fifo=$(mktemp -u); mkfifo $fifo $fifo.up
unshare -Urn sh -c 'echo $$ >"$0"; read up <"$0.up"; exec "$@"' $fifo "$@" & client=$!
read pid <$fifo
slirp4netns --configure --mtu=65520 --ready-fd=3 $pid tap0 3>$fifo.up >/dev/null 2>&1 & net=$!
wait $client; code=$?; kill $net; rm -f $fifo $fifo.up; exit $code`

// srtWay writes the settings of sandbox-runtime.
func srtWay() (file string, err error) {
	file = filepath.Join(os.Getenv("TMPDIR"), "srt.json")
	host, _, _ := strings.Cut(serverName, ":")
	settings := map[string]any{
		"network":    map[string]any{"allowedDomains": []string{host}, "deniedDomains": []string{}},
		"filesystem": map[string]any{"denyRead": []string{}, "allowWrite": []string{"."}, "denyWrite": []string{}},
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, text, 0o644)
}

type netBench struct {
	credential *syscall.Credential
	relay      int // its process
}

// rounds measures each task by each way, in turn.
func (b netBench) rounds(ways []*way, tasks [][]string) {
	rounds := netRounds
	if n, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil {
		rounds = n
	}
	for range rounds {
		for _, task := range tasks {
			for _, w := range ways {
				if w.refused != "" || task[0] == "dns" && !w.resolve {
					continue
				}
				s, err := b.measure(w, task[0], task[1])
				if err != nil {
					fmt.Fprintf(os.Stderr, "bench: %s %s: %v\n", w.name, task[0], err)
					continue
				}
				w.results[task[0]] = append(w.results[task[0]], s)
			}
		}
	}
}

// measure runs a client. The processor time that a trial took is that of the way's start, and not of what is measured.
func (b netBench) measure(w *way, task, amount string) (s sample, err error) {
	argv := slices.Concat(w.argv, []string{"bench", "client", w.server, strings.TrimPrefix(task, "shaped-"), amount})
	ctx, cancel := context.WithTimeout(context.Background(), netLimit)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.WaitDelay = time.Second // what it leaves behind holds its output
	c.SysProcAttr = &syscall.SysProcAttr{Credential: b.credential}
	var errs strings.Builder
	c.Stderr = &errs
	before := cpuOf(b.relay)
	out, err := c.Output()
	if err != nil {
		text := strings.TrimSpace(errs.String())
		return s, fmt.Errorf("%w: %s", err, text[:min(len(text), 300)])
	}
	s.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime() + cpuOf(b.relay) - before
	s.CPU = max(s.CPU-w.began, 0)
	line := out[strings.LastIndexByte(strings.TrimSpace(string(out)), '\n')+1:]
	return s, json.Unmarshal(line, &s)
}

// cpuOf is the processor time of a process (proc_pid_stat(5), utime and stime in ticks of 10 ms).
func cpuOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if errors.Join(err1, err2) != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

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

func printNet(ways []*way, bytes int64) {
	gib := float64(bytes) / (1 << 30)
	fmt.Printf("network, medians of interleaved rounds; transfers of %.1f GiB; 8 clients at once; processor time with the client's own\n", gib)
	fmt.Printf("  %-20s %10s %9s %10s %27s %27s %27s %8s %6s %7s\n", "", "down", "up", "CPU s/GiB", "requests/s, p50, p99", "with new connections",
		"by a TLS name", "CPU each", "1000", "DNS/s")
	for _, w := range ways {
		if w.refused != "" {
			fmt.Printf("  %-20s left out: %s\n", w.name, w.refused)
			continue
		}
		down, _ := w.middle("down")
		up, _ := w.middle("up")
		many, _ := w.middle("many")
		dns, _ := w.middle("dns")
		fmt.Printf("  %-20s %6.0f MiB %5.0f MiB %4.2f %5.2f %s %s %s %8s %6.0f %7.0f\n", w.name, down.Rate, up.Rate, down.CPU.Seconds()/gib, up.CPU.Seconds()/gib,
			w.requests("keep"), w.requests("new"), w.requests("hello"), w.each("new"), many.Rate, dns.Rate)
	}
	for _, aim := range []struct {
		task, what string
		least      float64
	}{{"down", "download", 0.9}, {"up", "upload", 0.9}, {"new", "new connections a second", 0.9}, {"keep", "requests a second", 0.9}} {
		fmt.Printf("  agentjail's %s: %.2f x a Go splice relay (at least %.1f), %.2f x direct\n", aim.what, over(ways, aim.task, byName, splice), aim.least,
			over(ways, aim.task, byName, direct))
	}
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
