// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// A traffic is what one connection of the run exchanges with the server, for the event about its end. It holds nothing up: the bytes are
// counted where they are copied, those that the kernel copies once for each copy. The zero value is one of nobody.
type traffic struct {
	sent, received atomic.Int64 // bytes to the server, and from it
	cut            atomic.Bool  // it did not end by both sides having said so

	mu    sync.Mutex
	since time.Time      // when the server was reached, first
	addr  netip.AddrPort // where, last
}

// metered is a connection to a server whose bytes are counted.
type metered struct {
	wrapped
	t *traffic
}

// meter counts what goes by a connection that stands.
func (t *traffic) meter(conn net.Conn) metered {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addr = addrPort(conn.RemoteAddr()); t.since.IsZero() {
		t.since = time.Now()
	}
	return metered{wrapped{conn}, t}
}

func (m metered) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.t.received.Add(int64(n))
	return n, err
}

// Write counts before it writes: the answer may end everything before this goroutine goes on.
func (m metered) Write(b []byte) (int, error) {
	m.t.sent.Add(int64(len(b)))
	n, err := m.Conn.Write(b)
	m.t.sent.Add(int64(n - len(b)))
	return n, err
}

// NetConn is the connection itself.
func (m metered) NetConn() net.Conn { return m.Conn }

// spliced is a metered connection that leaves copies between two of TCP to the kernel: io.Copy uses splice(2) where it can see both.
type spliced struct{ metered }

// ReadFrom sends all that comes from r.
func (s spliced) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(s.Conn, r)
	s.t.sent.Add(n)
	return n, err
}

// WriteTo writes all that the server sends to w.
func (s spliced) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, s.Conn)
	s.t.received.Add(n)
	return n, err
}

// ended takes the error of a copy. One that was stopped goes on. EPIPE is of who had said all and closed before the rest came (the state
// CLOSE-WAIT in tcp_reset of net/ipv4/tcp_input.c), as every client of TLS does that does not wait for the other's close_notify.
func (t *traffic) ended(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.EPIPE) {
		t.cut.Store(true)
	}
}

// witness takes the error of a read or write where others than this package copy. One who closes in an orderly way is no reset, whatever
// is then still sent to them: that is EPIPE, as above.
func (t *traffic) witness(err error) {
	if errors.Is(err, unix.ECONNRESET) {
		t.cut.Store(true)
	}
}

// witnessed is the client's end of a connection that net/http reads and writes.
type witnessed struct {
	wrapped
	t *traffic
}

func (w witnessed) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.t.witness(err)
	return n, err
}

func (w witnessed) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.t.witness(err)
	return n, err
}

// NetConn is the connection itself.
func (w witnessed) NetConn() net.Conn { return w.Conn }

// tellEnd makes the event about the end of a connection of the one about its beginning, and writes it; none where no server was reached.
func (g *Gateway) tellEnd(t *traffic, e audit.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return
	}
	e.Action, e.Decision, e.Reason = actionClose, audit.Report, ""
	switch {
	case g.ctx.Err() != nil, t.cut.Load() && g.ending():
		e.Reason = "the run was over"
	case t.cut.Load():
		e.Reason = "the connection was reset"
	}
	e.Argv, e.Unread = nil, false // as the event before has it
	e.Traffic = &audit.Traffic{
		Address: t.addr, Sent: uint64(t.sent.Load()), Received: uint64(t.received.Load()), Duration: uint64(time.Since(t.since).Milliseconds()),
	}
	g.cfg.Sink.Emit(e)
}
