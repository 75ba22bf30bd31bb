// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"sync"
)

// maxDialed bounds the memory of dialed.
const maxDialed = 1024

// dialed remembers which addresses allowed names had, only to explain later denials of these addresses.
type dialed struct {
	mu    sync.Mutex
	names map[netip.Addr]string
}

func (d *dialed) add(addrs []netip.Addr, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil || len(d.names)+len(addrs) > maxDialed {
		d.names = make(map[netip.Addr]string)
	}
	for _, a := range addrs {
		d.names[a] = name
	}
}

func (d *dialed) name(addr netip.Addr) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[addr]
}
