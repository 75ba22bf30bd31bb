// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of limits: outside of them a value is more likely a slip of the pen.
const (
	minMemory = 1 << 20
	maxMemory = 1 << 50
	maxPids   = 1 << 22 // PID_MAX_LIMIT of the kernel, see proc_sys_kernel(5)
	minCPUs   = 0.01
	maxCPUs   = 1 << 16
	maxTTL    = 10 * 365 * 24 * time.Hour
)

// check refuses limits that no run could keep. Zero is no limit.
func (l Limits) check() error {
	switch {
	case l.Memory != 0 && (l.Memory < minMemory || l.Memory > maxMemory):
		return errorf("memory of %d bytes is out of range: from 1MiB to 1024TiB", l.Memory)
	case l.Pids < 0 || l.Pids > maxPids:
		return errorf("pids %d is out of range: from 1 to %d", l.Pids, maxPids)
	case math.IsNaN(l.CPUs) || l.CPUs != 0 && (l.CPUs < minCPUs || l.CPUs > maxCPUs):
		return errorf("cpus %v is out of range: from %v to %d", l.CPUs, minCPUs, maxCPUs)
	case l.TTL < 0 || l.TTL > maxTTL || l.TTL != 0 && l.TTL < time.Millisecond:
		return errorf("ttl %s is out of range: from 1ms to ten years", l.TTL)
	}
	return nil
}

// unit is a suffix of a size and what it multiplies with.
type unit struct {
	suffix string
	factor int64
}

// units in the order in which suffixes are tried and sizes are written: those
// of memory are powers of 1024, whichever way they are spelt.
var units = []unit{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10},
}

// ParseSize reads a size of memory: a whole number, and K, M, G, T or KiB,
// MiB, GiB, TiB, all of them powers of 1024; without a unit it is bytes. The
// error is an *Error without a position.
func ParseSize(s string) (int64, error) {
	n, err := parseBytes(s)
	if err != nil {
		return 0, err
	}
	return n, Limits{Memory: n}.check()
}

// parseBytes reads a number of bytes, with a unit or not.
func parseBytes(s string) (int64, error) {
	digits, factor := s, int64(1)
	for _, u := range units {
		if n := len(s) - len(u.suffix); n > 0 && strings.EqualFold(s[n:], u.suffix) {
			digits, factor = s[:n], u.factor
			break
		}
	}
	n, ok := parseDigits(digits)
	if !ok || n > math.MaxInt64/factor {
		return 0, errorf("%s is not a size: write a whole number and a unit, as in 512MiB or 4GiB", show(s))
	}
	if n == 0 {
		return 0, errorf("a limit of 0 would stop everything: leave it out for no limit")
	}
	return n * factor, nil
}

// minLogSize is the least that a file of a log may hold: the longest line has 256 KiB.
const minLogSize = 1 << 20

func parseLogSize(s string) (int64, error) {
	size, err := parseBytes(s)
	if err == nil && size < minLogSize {
		return 0, errorf("a file of a log must have room for its lines: %s at least", FormatSize(minLogSize))
	}
	if err == nil && size > maxMemory {
		return 0, errorf("a file of a log of %s is out of range: up to %s", FormatSize(size), FormatSize(maxMemory))
	}
	return size, err
}

// FormatSize writes a size with the largest unit that loses nothing.
func FormatSize(n int64) string {
	for _, u := range units {
		if n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// parsePids reads a number of processes.
func parsePids(s string) (int64, error) {
	n, ok := parseDigits(s)
	if !ok || n == 0 {
		return 0, errorf("%s is not a number of processes: write a whole number from 1", show(s))
	}
	return n, Limits{Pids: n}.check()
}

// parseCPUs reads a number of processors, which may have a fraction.
func parseCPUs(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.Trim(s, "0123456789.") != "" || n == 0 {
		return 0, errorf("%s is not a number of processors: write one such as 2 or 0.5", show(s))
	}
	return n, Limits{CPUs: n}.check()
}

// parseTTL reads a duration.
func parseTTL(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, errorf("%s is not a duration: write one such as 90s, 30m or 2h", show(s))
	}
	return d, Limits{TTL: d}.check()
}

// parseDigits reads a decimal number without sign, leading zero or separator.
func parseDigits(s string) (int64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
