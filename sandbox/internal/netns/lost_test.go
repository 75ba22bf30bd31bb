// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
)

// flood sends datagrams from inside.
func flood(t *testing.T, n *Namespace, address string, count int) {
	t.Helper()
	c := dial(t, n, "udp", address)
	for range count {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoDatagramIsLostUncounted: of a flood that nobody reads, what fits into the buffer is read after Close, and the rest counted.
func TestNoDatagramIsLostUncounted(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		const sent = 10_000
		var lost uint64
		addresses := []string{"93.184.216.34:443", "[2606:4700::1111]:443"}
		if mechanism() == ByRedirect { // one for both families, and those that are answered
			addresses = []string{"[2606:4700::1111]:443", "93.184.216.34:53", "[2606:4700::1111]:53"}
		}
		for _, address := range addresses {
			flood(t, n, address, sent)
			before := n.Lost()
			if before == 0 || before >= sent {
				t.Errorf("%s: %d lost while it goes on", address, before)
			}
			flood(t, n, address, sent)
			u := udpFor(n, address)
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
			read := uint64(0)
			for ; ; read++ {
				_, _, dst, err := u.ReadFromTo(nil)
				if errors.Is(err, net.ErrClosed) {
					break
				}
				if err != nil || dst.String() != address {
					t.Fatalf("%s: after Close: to %v, %v", address, dst, err)
				}
			}
			lost = n.Lost()
			if read == 0 || read+before+lost != 2*sent {
				t.Errorf("%s: sent %d, read %d, counted %d and %d", address, 2*sent, read, before, lost)
			}
		}
		n.Close()
		if lost = n.Lost(); lost != 0 {
			t.Errorf("counted %d again", lost)
		}
	})
}

// TestClosedUDPKeepsWhatItRead: a reader that waits, or reads just then, gets what came before Close, each once, in its order.
func TestClosedUDPKeepsWhatItRead(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		for range 50 {
			readWhileClosing(t)
		}
	})
}

func readWhileClosing(t *testing.T) {
	n := newNamespace(t)
	defer n.Close()
	const to, sent = "93.184.216.34:53", 100
	u := udpFor(n, to)
	got := make(chan byte, sent)
	go func() {
		defer close(got)
		b := make([]byte, 10)
		for {
			if _, _, _, err := u.ReadFromTo(b); err != nil {
				return
			}
			got <- b[0]
		}
	}()
	c := dial(t, n, "udp", to)
	for i := range byte(sent) {
		c.Write([]byte{i})
	}
	u.Close()
	next := byte(0)
	for b := range got {
		if b != next {
			t.Fatalf("datagram %d came, want %d", b, next)
		}
		next++
	}
	if next != sent {
		t.Errorf("%d datagrams came, want %d", next, sent)
	}
}

// TestNoRefusalIsLostUncounted: the same for what the namespace refuses by itself.
func TestNoRefusalIsLostUncounted(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		var told atomic.Uint64
		slow := make(chan struct{})
		n := watchedBy(t, &Watch{Refused: func(Refusal) { <-slow; told.Add(1) }})
		const sent = 20_000
		flood(t, n, "239.1.2.3:5353", sent)
		before := n.Lost()
		close(slow)
		n.Close()
		lost := n.Lost()
		if before == 0 || told.Load() == 0 || told.Load()+before+lost != sent {
			t.Errorf("sent %d, told %d, counted %d and %d", sent, told.Load(), before, lost)
		}
	})
}
