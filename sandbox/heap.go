// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"runtime/debug"
	"time"
)

const (
	startHeap = 32 << 20 // bytes: far more than a start leaves behind
	startTime = time.Second
)

// postponeCollection keeps the garbage collector from running while a run starts. The few megabytes that a start allocates are
// not worth the time, which the one who waits for the command would see. After a second, or from startHeap on, it runs as ever.
func postponeCollection() {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(startHeap)
	time.AfterFunc(startTime, func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}
