// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// benchEvent is a refused system call, as most events are.
func benchEvent(i int) Event {
	return Event{
		Class: ClassSyscall, Action: "socket", Decision: Deny, Target: fmt.Sprintf("socket(AF_VSOCK, SOCK_STREAM, %d)", i), Errno: "EPERM",
		Process: Process{PID: 4711, PPID: 1, Exe: "/usr/bin/python3.11", Argv: []string{"python3", "tool.py", "--all"}}, Provenance: FromKernel,
	}
}

// BenchmarkEncode and BenchmarkChain are of one event: the difference is what the chain costs.
func BenchmarkEncode(b *testing.B) {
	e := capped(benchEvent(1))
	for b.Loop() {
		mustLine(e)
	}
}

func BenchmarkChain(b *testing.B) {
	e, c := capped(benchEvent(1)), newChain(testRun)
	var buf []byte
	for b.Loop() {
		buf = c.append(buf[:0], e)
	}
}

// BenchmarkLog writes events into a log, as fast as they all get in.
func BenchmarkLog(b *testing.B) {
	r, path := benchLog(b)
	n := 0
	for b.Loop() {
		r.Emit(benchEvent(n))
		if n++; n%500 == 0 {
			if err := r.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	closeBench(b, r, path, n)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkFlood is what a million denials of one key, and of as many keys, make of a log that nobody waits for.
func BenchmarkFlood(b *testing.B) {
	const million = 1_000_000
	for _, c := range []struct {
		name string
		keys int
	}{{"one key", 1}, {"a million keys", million}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r, path := benchLog(b)
				for i := range million {
					r.Emit(benchEvent(i % c.keys))
				}
				closeBench(b, r, path, million)
			}
		})
	}
}

func benchLog(b *testing.B) (*Recorder, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "events.jsonl")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Start(nil); err != nil {
		b.Fatal(err)
	}
	return r, path
}

// closeBench reports the size of the log, and how many of its events are only counted in it.
func closeBench(b *testing.B, r *Recorder, path string, events int) {
	b.Helper()
	s, err := r.Close(End{})
	if err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	os.Remove(path)
	b.ReportMetric(float64(info.Size())/1e6, "MB")
	b.ReportMetric(float64(s.Dropped)/float64(events), "dropped/event")
}
