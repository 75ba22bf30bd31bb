// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the ways to a server are compared by. Bytes can be set by BENCH_BYTES, rounds by BENCH_ROUNDS.
const (
	netBytes   = 2 << 30
	agentShare = 8 // launchers made for agents carry so many times less: they take 20 s for all of it
	netRounds  = 3
	netTime    = 2 * time.Second // of a measurement that counts
	netShaped  = 128 << 20       // bytes over the shaped link
	netTLS     = 256 << 20       // bytes in TLS
	netMany    = "1000"          // connections at once
	netLimit   = time.Minute     // of a measurement: a way that hangs is left out of it
)

// way is one way from a client to the server.
type way struct {
	name    string
	argv    []string // what the client is started by
	server  string   // as the client is told it
	env     []string // what it has beside the environment
	resolve bool     // there is a resolver to measure
	agent   bool     // a launcher made for agents, like agentjail
	tasks   []string // those that it is measured by; nil for all but TLS
	refused string
	began   time.Duration       // processor time of a start, with one request
	results map[string][]sample // by task
	failed  map[string]bool     // tasks that are not tried again
}

func (w *way) does(task string) bool {
	if w.tasks != nil {
		return slices.Contains(w.tasks, task)
	}
	return !strings.HasPrefix(task, "tls-") && (task != "dns" || w.resolve)
}

// sample is what a client measured, and the processor time of all that served it, its own included.
type sample struct {
	Rate     float64       `json:"rate"` // MiB/s, or requests a second
	P50, P99 time.Duration // of a request
	Count    int           // of requests
	CPU      time.Duration `json:"-"`
	Memory   float64       `json:"-"` // KiB of a connection, of all processes that serve it but the client
}

// benchNet runs in a network namespace that it may shape, as root; the clients run as the user in BENCH_USER.
func benchNet([]string) error {
	credential, err := userCredential(os.Getenv("BENCH_USER"))
	if err != nil {
		return err
	}
	b := &netBench{credential: credential}
	if err := serveAll(b.hold); err != nil {
		return err
	}
	authorities, policy, err := serveTLS(os.Getenv("TMPDIR"))
	if err != nil {
		return err
	}
	prepareLink()
	relay := exec.Command("/proc/self/exe", "relay", relayAddr, serverAddr)
	relay.Stderr = os.Stderr
	if err := relay.Start(); err != nil {
		return err
	}
	defer func() { relay.Process.Kill(); relay.Wait() }()
	b.relay = relay.Process.Pid
	await(relayAddr)
	bytes, err := bytesOf(netBytes)
	if err != nil {
		return err
	}
	ways := netWays()
	for _, w := range ways {
		b.try(w, "new", "1")
	}
	b.rounds(ways, []task{
		{"down", bytes}, {"up", bytes}, {"keep", netTime.String()}, {"new", netTime.String()}, {"hello", netTime.String()},
		{"many", netMany}, {"dns", netTime.String()},
	})
	printNet(ways, bytes)
	tls := tlsWays(authorities, policy)
	for _, w := range tls {
		b.try(w, "tls-down", "1")
	}
	b.rounds(tls, []task{{"tls-down", strconv.Itoa(netTLS)}, {"tls-up", strconv.Itoa(netTLS)}})
	printTLS(tls)
	return b.overShapedLink(ways)
}

// await waits for a server to listen. What uses one that never does says so.
func await(addr string) {
	for range 250 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bytesOf is how many bytes are carried.
func bytesOf(otherwise int64) (string, error) {
	text := os.Getenv("BENCH_BYTES")
	if text == "" {
		return strconv.FormatInt(otherwise, 10), nil
	}
	_, err := strconv.ParseInt(text, 10, 64)
	return text, err
}

// prepareLink makes what the ways need of the namespace. What cannot be made is said; a way that needs it is left out.
func prepareLink() {
	// The clients of many connections end them first: thousands of them would take the ports of the next measurements for a minute.
	err := os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("0"), 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err := openTun(filepath.Join(os.Getenv("TMPDIR"), "tun")); err != nil {
		fmt.Fprintln(os.Stderr, "bench: /dev/net/tun:", err)
	}
	// pasta copies the addresses and routes of an interface that leads out.
	for _, args := range []string{"link add out0 type veth peer name out1", "addr add 192.0.2.2/24 dev out0", "link set out0 up", "link set out1 up", "route add default via 192.0.2.1"} {
		if err := exec.Command("ip", strings.Fields(args)...).Run(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: ip %s: %v\n", args, err)
		}
	}
}

// openTun puts a device that all may open, as udev makes it, in the place of /dev/net/tun, in this mount namespace: pasta and slirp4netns
// need it.
func openTun(path string) error {
	tun := unix.Mkdev(10, 200) // linux/Documentation/networking/tuntap.rst
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(tun)); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Chmod(path, 0o666); err != nil {
		return err
	}
	return unix.Mount(path, "/dev/net/tun", "", unix.MS_BIND, "")
}

// overShapedLink measures what is left of a link of 1 Gbit/s.
func (b *netBench) overShapedLink(ways []*way) error {
	if err := shape("add", "dev", "lo", "root", "tbf", "rate", "1gbit", "burst", "256k", "latency", "20ms"); err != nil {
		fmt.Println("  over 1 Gbit/s        left out:", err)
		return nil
	}
	defer shape("del", "dev", "lo", "root")
	two := slices.DeleteFunc(slices.Clone(ways), func(w *way) bool { return w.name != direct && w.name != byName })
	b.rounds(two, []task{{"shaped-down", strconv.Itoa(netShaped)}, {"shaped-up", strconv.Itoa(netShaped)}})
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

type netBench struct {
	credential *syscall.Credential
	relay      int // its process

	mu     sync.Mutex
	client int    // the process that is measured now
	way    *way   // by which it is connected
	memory [2]int // KiB of what serves it, before and after many connections were made
}

// hold looks at the memory of what serves the client, for the client.
func (b *netBench) hold(time int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory[time&1] = 0
	pids := append(descendants(b.client), b.client)
	if b.way.name == splice {
		pids = []int{b.relay}
	}
	for _, pid := range pids {
		name, pss, err := memoryOf(pid)
		if err == nil && (name != "bench" || pid == b.relay) {
			b.memory[time&1] += pss
		}
	}
}

type task struct{ name, amount string }

// rounds measures each task by each way, in turn.
func (b *netBench) rounds(ways []*way, tasks []task) {
	rounds := netRounds
	if n, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil {
		rounds = n
	}
	for range rounds {
		for _, t := range tasks {
			for _, w := range ways {
				if w.refused != "" || w.failed[t.name] || !w.does(t.name) {
					continue
				}
				s, err := b.measure(w, t)
				if err != nil {
					fmt.Fprintf(os.Stderr, "bench: %s %s: %v\n", w.name, t.name, err)
					w.failed[t.name] = true
					continue
				}
				w.results[t.name] = append(w.results[t.name], s)
			}
		}
	}
}

// try finds out whether a way works here, and what its start costs.
func (b *netBench) try(w *way, name, amount string) {
	trial, err := b.measure(w, task{name, amount})
	if err != nil && w.refused == "" {
		w.refused = strings.Join(strings.Fields(err.Error()), " ")
	}
	w.began = trial.CPU
}

// measure runs a client. The processor time that a trial took is that of the way's start, and not of what is measured.
func (b *netBench) measure(w *way, t task) (s sample, err error) {
	if n, err := strconv.ParseInt(t.amount, 10, 64); err == nil && w.agent && (t.name == "down" || t.name == "up") {
		t.amount = strconv.FormatInt(n/agentShare, 10)
	}
	argv := slices.Concat(w.argv, []string{"bench", "client", w.server, strings.TrimPrefix(t.name, "shaped-"), t.amount})
	ctx, cancel := context.WithTimeout(context.Background(), netLimit)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.WaitDelay = time.Second // what it leaves behind holds its output
	c.SysProcAttr = &syscall.SysProcAttr{Credential: b.credential, Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) } // what a launcher started would go on beside the others
	c.Env = append(os.Environ(), w.env...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	before := cpuOf(b.relay)
	b.mu.Lock()
	if err = c.Start(); err == nil {
		b.client, b.way, b.memory = c.Process.Pid, w, [2]int{}
	}
	b.mu.Unlock()
	if err == nil {
		err = c.Wait()
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done in %v", netLimit)
	}
	if err != nil {
		text := strings.TrimSpace(errs.String())
		return s, fmt.Errorf("%w: %s", err, text[:min(len(text), 300)])
	}
	s.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime() + cpuOf(b.relay) - before
	s.CPU = max(s.CPU-w.began, 0)
	text := strings.TrimSpace(out.String())
	err = json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), &s)
	if t.name == "many" {
		s.Memory = float64(b.memory[1]-b.memory[0]) / max(s.Rate, 1)
	}
	return s, err
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
