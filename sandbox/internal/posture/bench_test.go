// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// runTable is a mountinfo of the size of a run's.
func runTable() string {
	var b strings.Builder
	b.WriteString("222 133 0:39 /root / rw,nosuid,nodev,relatime - fuse agentjail rw,user_id=0,group_id=0,allow_other\n")
	for i := range 89 {
		fmt.Fprintf(&b, "%d 222 254:0 /etc/some%d /etc/some%d ro,nosuid,nodev,relatime - ext4 /dev/vda rw,discard,resv_strict,resuid=65534\n", i+223, i, i)
	}
	return b.String()
}

func BenchmarkParseMounts(b *testing.B) {
	b.ReportAllocs()
	text := runTable()
	for b.Loop() {
		if _, err := parseMounts(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompareMounts(b *testing.B) {
	b.ReportAllocs()
	got, err := parseMounts(runTable())
	if err != nil {
		b.Fatal(err)
	}
	want := wantAll(got)
	for b.Loop() {
		if d := differences(want, got); d != nil {
			b.Fatal(d)
		}
	}
}

// cpuTime is what this process has used so far, in microseconds: on a busy machine the clock tells of the others.
func cpuTime(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return (usage.Utime.Nano() + usage.Stime.Nano()) / 1000
}

// BenchmarkRead reads this process, or the one that POSTURE_PID names: a run's has more mounts, fewer threads and fewer files.
func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	pid, err := strconv.Atoi(os.Getenv("POSTURE_PID"))
	if err != nil {
		pid = os.Getpid()
	}
	before := cpuTime(b)
	for b.Loop() {
		p, err := Read(pid)
		if err != nil {
			b.Fatal(err)
		}
		p.Detail()
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-us/op")
}
