// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
)

// trafficText is what a connection exchanged, in the command's view, with whom, and for how long.
func trafficText(t audit.Traffic) string {
	parts := []string{
		amount(t.Sent) + " out", amount(t.Received) + " in", fmt.Sprintf("%.1f s", float64(t.Duration)/1000),
	}
	if t.Address.IsValid() {
		parts = append(parts, "with "+t.Address.String())
	}
	return strings.Join(parts, ", ")
}

// amount is a number of bytes in two or three digits, by units of 1000.
func amount(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n)/1000, 0
	const units = "kMGTPE"
	for ; x >= 999.5 && unit < len(units)-1; unit++ {
		x /= 1000
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f %cB", x, units[unit])
	}
	return fmt.Sprintf("%.0f %cB", x, units[unit])
}
