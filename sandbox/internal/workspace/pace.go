// SPDX-License-Identifier: Apache-2.0

package workspace

import "time"

const (
	restShare = 10                   // of the time, one part is work
	workTime  = 2 * time.Millisecond // at a stretch
)

// pacer has a walk rest most of the time. A lower priority would not do: what the thread holds of the runtime's, others of this process
// would wait for, who answer for the run's files.
type pacer struct {
	since time.Time // it works
	stop  <-chan struct{}
}

func newPacer(stop <-chan struct{}) *pacer { return &pacer{time.Now(), stop} }

// pause rests where it is time to.
func (p *pacer) pause() {
	worked := time.Since(p.since)
	if worked < workTime {
		return
	}
	select {
	case <-p.stop:
	case <-time.After((restShare - 1) * worked):
	}
	p.since = time.Now()
}
