// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tracing is set by AGENTJAIL_TRACE=1: each step of a start is printed with the time since boot, so that the lines of the
// launcher and the supervisor can be compared.
var tracing = os.Getenv("AGENTJAIL_TRACE") == "1"

func trace(step string) {
	if !tracing {
		return
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		fmt.Fprintf(os.Stderr, "agentjail: trace %12.3f ms %s\n", float64(ts.Nano())/float64(time.Millisecond), step)
	}
}
