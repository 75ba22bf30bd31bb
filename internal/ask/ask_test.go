// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"testing"
	"time"
)

// TestWithin: who asks what hangs gets on, and what hangs keeps its slot.
func TestWithin(t *testing.T) {
	s := make(Slots, 1)
	if got, ok := Within(s, time.Minute, nil, func() int { return 7 }); !ok || got != 7 {
		t.Errorf("got %d, %v", got, ok)
	}
	let := make(chan struct{})
	hang := func() int { <-let; return 1 }
	if _, ok := Within(s, time.Millisecond, nil, hang); ok {
		t.Error("an answer to what hangs")
	}
	// The slot is still taken.
	if _, ok := Within(s, time.Millisecond, nil, func() int { return 1 }); ok {
		t.Error("an answer without a slot")
	}
	interrupt := make(chan struct{})
	close(interrupt)
	if _, ok := Within(s, time.Hour, interrupt, hang); ok {
		t.Error("an interrupted wait for a slot got an answer")
	}
	close(let)
	if got, ok := Within(s, time.Minute, nil, func() int { return 8 }); !ok || got != 8 {
		t.Errorf("after that: got %d, %v", got, ok)
	}
	other := make(Slots, 1)
	never := make(chan struct{})
	defer close(never)
	if _, ok := Within(other, time.Hour, interrupt, func() int { <-never; return 1 }); ok {
		t.Error("an interrupted question got an answer")
	}
	for range 100 {
		if got, ok := Within(make(Slots, 1), time.Hour, interrupt, func() int { return 9 }); !ok || got != 9 {
			t.Fatalf("a quick answer to an interrupted question is %d, %v", got, ok)
		}
	}
}
