// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net"
	"time"
)

// A delivery is what one end of a connection has sent, and the other does not have yet. A program may end as soon as the kernel has all
// that it says: without a gateway in between the kernel would see to the rest (close(2) of a TCP socket). So the end of a run waits for it.
type delivery struct {
	g  *Gateway
	to net.Conn // nil until there is one; of g.mu
}

// deliver begins a delivery.
func (g *Gateway) deliver() *delivery {
	d := &delivery{g: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deliveries[d] = struct{}{}
	return d
}

// over ends it, whatever became of it. It may be called again.
func (d *delivery) over() {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	delete(d.g.deliveries, d)
	d.g.delivered.Broadcast()
}

// toward says who is to have it, and begins it where it was over.
func (d *delivery) toward(to net.Conn) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.to = to
	d.g.deliveries[d] = struct{}{}
}

// settle waits for what is on its way, and resets what takes too long: an orderly end would make what was cut look whole.
func (g *Gateway) settle() {
	late := false
	timer := time.AfterFunc(g.wait.settle, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		late = true
		g.delivered.Broadcast()
	})
	defer timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.deliveries) > 0 && !late {
		g.delivered.Wait()
	}
	for d := range g.deliveries {
		if d.to != nil {
			reset(d.to)
		}
	}
}
