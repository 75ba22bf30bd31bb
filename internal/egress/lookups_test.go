// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestLookups(t *testing.T) {
	var l lookups
	now := time.Now()
	addrs := make([]netip.Addr, 2*maxAnswers)
	l.add("site.test", addrs, now)
	if got := l.of("site.test", now.Add(answersFor-1)); len(got) != maxAnswers {
		t.Errorf("%d addresses are remembered, want %d", len(got), maxAnswers)
	}
	if l.of("site.test", now.Add(answersFor)) != nil {
		t.Error("the answer outlives its time")
	}
	if l.of("other.test", now) != nil {
		t.Error("a name has an answer that nobody gave")
	}
	l.forget("site.test")
	if l.of("site.test", now) != nil {
		t.Error("the answer was not forgotten")
	}
	for i := range 3 * maxKept {
		l.add(fmt.Sprintf("%d.test", i), addrs, now)
		if len(l.names) > maxKept {
			t.Fatalf("%d names are kept", len(l.names))
		}
	}
}

// TestNamesAreAskedForOnce: a second connection has the answer of the first, and is judged by itself.
// Containment checks: I11.
func TestNamesAreAskedForOnce(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	for range 2 {
		c := n.dialName("git.test", 2222)
		send(t, c, "hello\n")
		wantRead(t, c, "echo: hello\n")
	}
	if n.mu.Lock(); len(n.looked) != 1 {
		t.Errorf("names that were asked for: %q, want one", n.looked)
	}
	n.own = []netip.Addr{netip.MustParseAddr("93.184.216.34")} // the host has it from now on
	n.mu.Unlock()
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow git.test:2222", "net tcp.connect allow git.test:2222", "net dial.special_address deny git.test:2222")
}

// TestUnreachedIsAskedForAgain: a host may have moved.
func TestUnreachedIsAskedForAgain(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	for range 2 {
		c := n.dialName("git.test", 2222)
		send(t, c, "hello\n")
		wantReset(t, c)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.looked) != 2 {
		t.Errorf("names that were asked for: %q, want two", n.looked)
	}
}
