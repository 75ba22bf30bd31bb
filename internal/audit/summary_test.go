// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"slices"
	"testing"
)

// TestTopOfTheSummary: what explains the rest stands before it, however often the rest was.
func TestTopOfTheSummary(t *testing.T) {
	var all tally
	for _, e := range []Event{
		{Class: ClassNet, Action: "tcp.upload", Target: "a", Decision: Deny, Count: 9},
		{Class: ClassNet, Action: "tcp.connect", Target: "b", Decision: Deny},
		{Class: ClassLimit, Action: "limit.upload", Target: "1MiB", Decision: Deny},
		{Class: ClassCredential, Action: "env.withheld", Target: "TOKEN", Decision: Deny, Severity: SeverityCredential},
		{Class: ClassNet, Action: "tcp.connect", Target: "b", Decision: Allow},
	} {
		all.add(e)
	}
	var got []string
	for _, d := range all.top() {
		got = append(got, d.Action+" "+d.Target)
	}
	if want := []string{"env.withheld TOKEN", "limit.upload 1MiB", "tcp.upload a", "tcp.connect b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
