// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// denialCount is a Sink that keeps what is not denied, and counts the rest: what a flood leaves in the log is not of the gateway's memory.
type denialCount struct {
	*log
	denied atomic.Int64
}

func (c *denialCount) Emit(e audit.Event) {
	if e.Decision == audit.Deny {
		c.denied.Add(1)
		return
	}
	c.log.Emit(e)
}

// usage is what this process holds.
type usage struct{ heap, files, goroutines int }

func measure(t *testing.T) usage {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{int(m.HeapAlloc), len(files), runtime.NumGoroutine()}
}

// TestFloodsAreBounded: clients that hold what they get, in whatever state, have a bounded share of memory and files however many come;
// what is above is reset and on record, and all is given back when they leave.
// Containment checks: I22.
func TestFloodsAreBounded(t *testing.T) {
	const slots = 64
	for name, flood := range map[string]struct {
		port, clients int
		sent          string
	}{
		"idle":           {80, 10_000, ""},
		"half a head":    {80, 500, "GET / HTTP/1.1\r\nHost: site.test\r\nX: " + strings.Repeat("x", maxHead-1000)},
		"half a hello":   {443, 500, "\x16\x03\x01\x40\x00\x01\x00\xf0\x00" + strings.Repeat("x", 16000)},
		"never answered": {7, 500, strings.Repeat("x", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, nil, "site.test:80", "site.test:443", "site.test:7")
			n.host("site.test", "93.184.216.34")
			over := make(chan struct{})
			leave := sync.OnceFunc(func() { close(over) })
			defer leave()
			n.server("93.184.216.34:7", func(net.Conn) { <-over })
			sink := &denialCount{log: n.log}
			// Read once a connection has arrived.
			n.g.slots, n.g.cfg.Sink = make(chan struct{}, slots), sink
			n.g.wait.first, n.g.wait.proof = time.Hour, time.Hour
			before := measure(t)
			var held []net.Conn
			for range slots {
				c := n.dialName("site.test", flood.port)
				send(t, c, flood.sent)
				held = append(held, c)
			}
			for i := slots; i < flood.clients && !t.Failed(); i++ {
				c := n.dialName("site.test", flood.port)
				wantReset(t, c)
				c.Close()
			}
			if got := int(sink.denied.Load()); got != flood.clients-slots {
				t.Errorf("%d denied, want %d", got, flood.clients-slots)
			}
			// The client's end, 8 of the gateway, and the server's.
			const files, heap, goroutines, spare = 10, 4 * maxHead, 6, 32
			now := measure(t)
			if now.files-before.files > slots*files+spare || now.heap-before.heap > slots*heap || now.goroutines-before.goroutines > slots*goroutines+spare {
				t.Errorf("%+v with %d held of %d, %+v before", now, slots, flood.clients, before)
			}
			for _, c := range held {
				reset(c)
			}
			leave()
			eventually(t, func() bool {
				now = measure(t)
				return len(n.g.slots) == 0 && now.files-before.files <= spare && now.goroutines-before.goroutines <= spare
			})
		})
	}
}

// TestLongHeads: what has no end is refused once it is longer than a head may be, whatever more there is: a client of 1 MiB costs no
// more than the bound, and nothing is dialed.
// Containment checks: I22.
func TestLongHeads(t *testing.T) {
	const clients, size = 32, 1 << 20
	for name, long := range map[string]struct {
		port int
		sent string
	}{
		"a field":        {80, "GET / HTTP/1.1\r\nHost: site.test\r\nX: " + strings.Repeat("x", size)},
		"many fields":    {80, "GET / HTTP/1.1\r\nHost: site.test\r\n" + strings.Repeat("X: y\r\n", size/6)},
		"a request line": {80, "GET /" + strings.Repeat("x", size)},
		"a hello":        {443, strings.Repeat("\x16\x03\x01\x40\x00\x01\x0f\xff\xff"+strings.Repeat("x", 1<<14-4), size>>14)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, nil, "site.test:80", "site.test:443")
			n.g.wait.proof = time.Hour // so that the length alone ends it
			sent := []byte(long.sent)  // once, so that it does not count
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var all sync.WaitGroup
			for range clients {
				c := n.dialName("site.test", long.port)
				all.Go(func() {
					c.Write(sent) // until it is reset
					io.Copy(io.Discard, c)
				})
			}
			eventually(t, func() bool { return len(n.log.lines()) == clients })
			all.Wait()
			runtime.ReadMemStats(&after)
			for _, line := range n.log.lines() {
				if !strings.Contains(line, " deny site.test:") {
					t.Error(line)
				}
			}
			if each := (after.TotalAlloc - before.TotalAlloc) / clients; each > size/2 {
				t.Errorf("%d bytes of memory for each client", each)
			}
			if n.dialed() != "" {
				t.Errorf("dialed %s", n.dialed())
			}
		})
	}
}
