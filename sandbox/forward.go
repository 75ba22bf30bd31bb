// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"sync/atomic"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// forwardQueue is how many events of the supervisor wait for the launcher before they are counted instead.
const forwardQueue = 8192

// forwarder is the supervisor's audit.Sink: it sends events to the launcher, which keeps the log. Emit never blocks; what
// does not fit is counted, and the count is sent.
type forwarder struct {
	conn    *wire.Conn
	queue   chan forwarded
	dropped atomic.Uint64
}

// forwarded is an event, or a request to say when all before it are sent.
type forwarded struct {
	event audit.Event
	sent  chan<- struct{}
}

func newForwarder(conn *wire.Conn) *forwarder {
	f := &forwarder{conn: conn, queue: make(chan forwarded, forwardQueue)}
	go f.run()
	return f
}

// Emit queues one event.
func (f *forwarder) Emit(e audit.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case f.queue <- forwarded{event: e}:
	default:
		f.dropped.Add(1)
	}
}

// run sends until the process ends; when the launcher is gone, so is this process.
func (f *forwarder) run() {
	for item := range f.queue {
		if item.sent == nil {
			f.conn.Send(msgEvent, item.event)
		}
		if n := f.dropped.Swap(0); n > 0 {
			f.conn.Send(msgDropped, n)
		}
		if item.sent != nil {
			close(item.sent)
		}
	}
}

// flush waits until every event so far has been sent.
func (f *forwarder) flush() {
	sent := make(chan struct{})
	f.queue <- forwarded{sent: sent}
	<-sent
}
