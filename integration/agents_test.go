// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var version = regexp.MustCompile(`\d+\.\d+\.\d+`)

// TestAgents: the real agents start inside, say the same version as outside, and are refused no system call.
// Containment check: R03.
func TestAgents(t *testing.T) {
	needSuite(t)
	for _, agent := range []struct{ name, profile string }{
		{"claude", "claude-code"}, {"codex", "codex"}, {"gemini", "gemini-cli"}, {"opencode", "opencode"},
	} {
		t.Run(agent.name, func(t *testing.T) {
			p := newPlace(t)
			program := filepath.Join(suite.cache, "agents/node_modules/.bin", agent.name)
			if _, err := os.Stat(program); err != nil {
				lack(t, "not installed: "+err.Error())
			}
			outside := p.must(t, program, "--version")
			if !version.MatchString(outside) {
				t.Fatalf("outside it says %q", outside)
			}
			stdout, stderr, code := p.run(t, "agentjail", "run", "--", program, "--version")
			if code != 0 || version.FindString(stdout) != version.FindString(outside) {
				t.Fatalf("exit %d, %q, outside %q\n%s", code, stdout, outside, stderr)
			}
			checkAgentLog(t, p, agent.profile)
		})
	}
}

// checkAgentLog checks that the profile was chosen by the command's name, and what was refused on the way.
func checkAgentLog(t *testing.T, p place, profile string) {
	t.Helper()
	events := p.ended(t)
	if !strings.Contains(string(events[0].Detail), profile) {
		t.Errorf("the first event does not name the profile %s: %s", profile, events[0].Detail)
	}
	denied := 0
	for _, e := range events {
		if e.Decision == "deny" {
			denied++
		}
		if e.Decision == "deny" && e.Class == "syscall" {
			t.Logf("refused: %v", e)
		}
	}
	t.Logf("%d events, %d denied", len(events), denied)
}
