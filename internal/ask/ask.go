// SPDX-License-Identifier: Apache-2.0

// Package ask asks questions that may hang for ever, such as one about a file system that does not answer: who asks gets on, and
// those that hang are bounded in number.
package ask

import "time"

// interruptGrace is how long an interrupted question goes on, so that a signal that nobody dies of does not make
// calls fail that never failed with EINTR before.
const interruptGrace = 100 * time.Millisecond

// Slots bounds how many questions of a kind are open at once.
type Slots chan struct{}

// Within returns the answer to a question, false if there was none in time or before it was interrupted; a nil interrupt never comes.
// The question keeps its slot for as long as it hangs.
func Within[T any](s Slots, wait time.Duration, interrupt <-chan struct{}, question func() T) (answer T, ok bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case s <- struct{}{}: // a free one is taken also where an interrupt is there, of which select would choose either
	default:
		select {
		case s <- struct{}{}:
		case <-timer.C:
			return answer, false
		case <-interrupt:
			return answer, false
		}
	}
	answers := make(chan T, 1)
	go func() {
		defer func() { <-s }()
		answers <- question()
	}()
	for {
		select {
		case answer = <-answers:
			return answer, true
		case <-timer.C:
			return answer, false
		case <-interrupt:
			interrupt = nil
			timer.Reset(interruptGrace)
		}
	}
}
