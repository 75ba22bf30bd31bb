// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

func TestAmount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234: "1.2 kB", 9949: "9.9 kB", 9950: "10 kB", 34_100: "34 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		5 << 30: "5.4 GB", math.MaxUint64: "18 EB",
	} {
		if got := amount(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

func TestLogLineOfAnEnd(t *testing.T) {
	e := audit.Event{
		Time: time.Date(2026, 1, 1, 10, 20, 30, 0, time.UTC), Class: audit.ClassNet, Action: "tcp.close", Decision: audit.Report,
		Target: "a.test:443", Process: audit.Process{PID: 7, Exe: "/usr/bin/curl"},
		Traffic: &audit.Traffic{Address: netip.MustParseAddrPort("[2001:db8::1]:443"), Sent: 1234, Received: 34_000, Duration: 312},
	}
	want := "10:20:30.000 report net/tcp.close            a.test:443  curl[7]  1.2 kB out, 34 kB in, 0.3 s, with [2001:db8::1]:443"
	if got := logLine(e, time.UTC); got != want {
		t.Errorf("line is\n%s, want\n%s", got, want)
	}
	if got := trafficText(audit.Traffic{Duration: math.MaxUint64}); strings.Contains(got, "-") {
		t.Errorf("a negative time: %s", got)
	}
	e.Count, e.Reason, e.Traffic = 3, "the connection was reset", &audit.Traffic{}
	if got := logLine(e, time.UTC); !strings.HasSuffix(got, "curl[7]  0 B out, 0 B in, 0.0 s: the connection was reset  (3 times)") {
		t.Errorf("line is %s", got)
	}
}
