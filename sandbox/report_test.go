// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
)

func TestFailuresSummary(t *testing.T) {
	var s audit.Summary
	for range failureLines + 2 {
		s.Unreached = append(s.Unreached, audit.Failure{Target: "a.test:443", Reason: "no such\x1bhost", Count: 3})
	}
	s.Unaccepted = []audit.Failure{{Target: "b.test:443", Reason: "unknown\x1bauthority"}}
	want := strings.Repeat("agentjail: a.test:443 is allowed, and could not be reached: no such\\x1bhost\n", failureLines) +
		"agentjail: and 2 more (agentjail log R)\n" +
		"agentjail: b.test:443 is inspected in TLS, and a program did not go on with that: unknown\\x1bauthority\n"
	if got := (Result{ID: "R", Summary: s}).String(); got != want {
		t.Errorf("the summary is\n%swant\n%s", got, want)
	}
}

func TestWorkspaceSummary(t *testing.T) {
	if text := (Result{ID: "R"}).String(); text != "" {
		t.Errorf("of a run that left nothing: %q", text)
	}
	found := []audit.Finding{{Action: "special", Target: "/w/a\n\x1b[31mb"}}
	for range workspaceLines {
		found = append(found, audit.Finding{Action: "build", Target: "/w/Makefile"})
	}
	found = append(found, audit.Finding{Action: "dependencies", Target: "/w/vendor", Count: 7}, audit.Finding{Action: "truncated", Reason: "why"})
	want := `agentjail: left for programs of yours to run or follow: 1 special, 5 build, 7 dependencies, 1 truncated (agentjail log R)
    special "/w/a\n\x1b[31mb"
` + strings.Repeat("    build /w/Makefile\n", workspaceLines-1) + "    and 3 more\n"
	if got := (Result{ID: "R", Workspace: found}).String(); got != want {
		t.Errorf("the summary is\n%swant\n%s", got, want)
	}
}
