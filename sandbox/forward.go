// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"sync"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// forwardQueue is how many events of the supervisor wait for the launcher before they are counted instead.
const forwardQueue = 8192

// forwarder is the supervisor's audit.Sink: it sends events to the launcher, which keeps the log. Emit never blocks: what can be sent at
// once is with the launcher when it returns, though this process be killed then; what cannot waits, and what does not fit is counted, and
// the count is sent.
type forwarder struct {
	conn  *wire.Conn
	queue chan *forwarded // pointers: 3 MB of events that are not there would take the place of what a start allocates

	mu      sync.Mutex
	waiting int // items in the queue, or being sent
	dropped map[audit.Class]uint64
}

// forwarded is an event, a request to say when all before it are sent, or neither: there are counts to send.
type forwarded struct {
	event audit.Event
	sent  chan<- struct{}
}

func newForwarder(conn *wire.Conn) *forwarder {
	f := &forwarder{conn: conn, queue: make(chan *forwarded, forwardQueue), dropped: map[audit.Class]uint64{}}
	go f.run()
	return f
}

// Emit queues one event.
func (f *forwarder) Emit(e audit.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting == 0 && f.conn.TrySend(msgEvent, e) {
		return
	}
	if !f.add(forwarded{event: e}) {
		f.dropped[e.Class] += max(e.Count, 1) // the count goes with what waits
	}
}

// add puts an item into the queue, if there is room. The caller holds mu.
func (f *forwarder) add(item forwarded) bool {
	select {
	case f.queue <- &item:
		f.waiting++
		return true
	default:
		return false
	}
}

// lost counts accesses that there is no event of. What count takes from elsewhere is counted here before flush can miss it.
func (f *forwarder) lost(class audit.Class, count func() uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := count()
	if n == 0 {
		return
	}
	f.dropped[class] += n
	f.add(forwarded{}) // without room, the counts go with what waits
}

// take returns the counts so far, nil for none.
func (f *forwarder) take() map[audit.Class]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dropped) == 0 {
		return nil
	}
	counts := f.dropped
	f.dropped = map[audit.Class]uint64{}
	return counts
}

// run sends until the process ends; when the launcher is gone, so is this process.
func (f *forwarder) run() {
	for item := range f.queue {
		if item.event.Class != "" {
			f.conn.Send(msgEvent, item.event)
		}
		if counts := f.take(); counts != nil {
			f.conn.Send(msgDropped, counts)
		}
		if item.sent != nil {
			close(item.sent)
			continue
		}
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}
}

// flush waits until every event so far has been sent.
func (f *forwarder) flush() {
	sent := make(chan struct{})
	f.queue <- &forwarded{sent: sent}
	<-sent
}
