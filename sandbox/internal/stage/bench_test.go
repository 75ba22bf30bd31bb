// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"testing"
	"time"
)

// BenchmarkStage is the stage's share of a start: from its process to the command's execve, and to the end of all.
func BenchmarkStage(b *testing.B) {
	var ready, executed, ended time.Duration
	for b.Loop() {
		j := start(b, nil)
		from := time.Now()
		r, err := j.Prepare(spec("/bin/true"))
		if err != nil {
			b.Fatal(err)
		}
		ready += time.Since(from)
		if err := j.Go(); err != nil {
			b.Fatal(err)
		}
		executed += time.Since(from)
		if _, err := j.Wait(nil); err != nil {
			b.Fatal(err)
		}
		j.end(b)
		ended += time.Since(from)
		r.Listener.Close()
	}
	for name, d := range map[string]time.Duration{"us/ready": ready, "us/executed": executed, "us/ended": ended} {
		b.ReportMetric(float64(d.Microseconds())/float64(b.N), name)
	}
}
