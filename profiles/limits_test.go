// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"math"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1048576": 1 << 20, "1024K": 1 << 20, "1024kib": 1 << 20, "512MiB": 512 << 20,
		"1m": 1 << 20, "4G": 4 << 30, "4GiB": 4 << 30, "1T": 1 << 40, "1024TiB": 1 << 50,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "G", "0", "0G", "-1G", "+1G", "1.5G", "1 GiB", "1GB", "1e9", "01G", "1_000G",
		"1048575", "1025TiB", "9223372036854775807T", "99999999999999999999", "0x100000",
	} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q: accepted as %d", in, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{
		1 << 20: "1MiB", 1536 << 20: "1536MiB", 4 << 30: "4GiB", 1<<20 + 1024: "1025KiB", 1<<20 + 1: "1048577",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
		if back, err := ParseSize(want); err != nil || back != n {
			t.Errorf("%s reads back as %d, %v", want, back, err)
		}
	}
}

func TestParseOtherLimits(t *testing.T) {
	for _, in := range []string{"0", "-1", "1.5", "x", "4194305", "", "01"} {
		if n, err := parsePids(in); err == nil {
			t.Errorf("pids %q: accepted as %d", in, n)
		}
	}
	for _, in := range []string{"0", "-1", "NaN", "Inf", "0x1", "1e2", "0.001", "65537", "", ".", "1_0"} {
		if n, err := parseCPUs(in); err == nil {
			t.Errorf("cpus %q: accepted as %v", in, n)
		}
	}
	for _, in := range []string{"0s", "-1s", "30", "1us", "100000h", "", "1d"} {
		if n, err := parseTTL(in); err == nil {
			t.Errorf("ttl %q: accepted as %v", in, n)
		}
	}
}

func TestWithLimits(t *testing.T) {
	p, err := Policy{}.WithLimits(Limits{Memory: 1 << 30, Pids: 10})
	if err != nil {
		t.Fatal(err)
	}
	p, err = p.WithLimits(Limits{Pids: 20, CPUs: 0.5, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Limits(), (Limits{Memory: 1 << 30, Pids: 20, CPUs: 0.5, TTL: time.Minute}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []Limits{
		{Memory: -1}, {Memory: 1}, {Pids: -1}, {CPUs: -1}, {CPUs: math.NaN()}, {CPUs: math.Inf(1)}, {TTL: -1}, {TTL: 1},
	} {
		if got, err := p.WithLimits(bad); err == nil || got.Limits() != (Limits{}) {
			t.Errorf("%+v: accepted: %+v", bad, got.Limits())
		}
	}
}
