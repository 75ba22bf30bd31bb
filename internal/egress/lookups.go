// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of lookups. A program that opens connections one after the other has the host's resolver asked once a second, and not for
// each. No resolver is held to a record's time so closely.
const (
	answersFor = time.Second
	maxAnswers = 16  // addresses of a name that are looked at
	maxKept    = 256 // names
)

// lookups remembers for a moment what names resolved to. They are judged at every use: what is refused is refused from here as well.
type lookups struct {
	mu    sync.Mutex
	names map[string]answer
}

type answer struct {
	addrs []netip.Addr
	at    time.Time
}

// of returns the addresses of a name, nil where they have to be asked for.
func (l *lookups) of(name string, now time.Time) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.names[name]; ok && now.Sub(known.at) < answersFor {
		return known.addrs
	}
	return nil
}

// add remembers the answer to a question that was asked at a time.
func (l *lookups) add(name string, addrs []netip.Addr, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil || len(l.names) >= maxKept {
		l.names = make(map[string]answer)
	}
	l.names[name] = answer{addrs[:min(len(addrs), maxAnswers)], asked}
}

// forget has the next connection ask again.
func (l *lookups) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.names, name)
}
