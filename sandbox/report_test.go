// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
)

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
