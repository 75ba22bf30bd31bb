// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSince(t *testing.T) {
	start := time.Unix(1000, 500_000_700)
	for _, c := range []struct {
		name string
		set  time.Duration // of the clock, in a run of a minute
		want time.Time
	}{
		{"a clock that goes on", 0, time.Unix(1000, 500_000_000)},
		{"one that is read a little later", -10 * time.Millisecond, time.Unix(1000, 500_000_000)},
		{"set forward", time.Hour, time.Unix(1000, 500_000_000)},
		{"set back", -10 * time.Second, time.Unix(990, 500_000_000)},
	} {
		end := mark{start.Add(time.Minute + c.set), time.Hour + time.Minute}
		if got := (mark{start, time.Hour}).since(end); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestChanged(t *testing.T) {
	since := time.Unix(1000, 500_000_000)
	for _, c := range []struct {
		sec  int64
		nsec uint32
		want bool
	}{
		{999, 999_999_999, false}, {1000, 499_999_999, false}, {1000, 500_000_000, true}, {1001, 1, true},
		{1000, 0, true}, {999, 0, false}, {1001, 0, true}, // a file system that keeps seconds
	} {
		if got := changed(unix.StatxTimestamp{Sec: c.sec, Nsec: c.nsec}, since); got != c.want {
			t.Errorf("%d.%09d: %v, want %v", c.sec, c.nsec, got, c.want)
		}
	}
}
