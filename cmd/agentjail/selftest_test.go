// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/selftest"
)

var tried = selftest.Results{
	{ID: "A02-privileges", What: "have a capability", Verdict: selftest.Held, Why: "none"},
	{ID: "E04-setuid", What: "become root", Verdict: selftest.Untestable, Why: "root already"},
}

func TestPrintResults(t *testing.T) {
	leaked := append(slices.Clone(tried), selftest.Result{ID: "D03-memory", Verdict: selftest.Leaked})
	silent := append(slices.Clone(tried), selftest.Result{ID: "D03-memory", Verdict: selftest.Silent})
	both := append(slices.Clone(leaked), silent...)
	for _, tt := range []struct {
		name    string
		results selftest.Results
		want    int
	}{
		{"good", tried, 0},
		{"leaked", leaked, exitLeaked},
		{"silent", silent, exitSilent},
		{"both", both, exitLeaked},
		{"nothing", nil, exitSilent},
	} {
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			code := 0
			if err := printResults(&out, tt.results, asJSON); err != nil {
				code = err.(cli.ExitCoder).ExitCode()
			}
			if code != tt.want {
				t.Errorf("%s: exit %d, not %d", tt.name, code, tt.want)
			}
			if asJSON && !json.Valid(out.Bytes()) {
				t.Errorf("%s: no JSON: %s", tt.name, out.String())
			}
		}
	}
	if err := printResults(brokenWriter{}, tried, false); err == nil {
		t.Error("what could not be printed is a success")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }

// sink keeps events.
type sink []audit.Event

func (s *sink) Emit(e audit.Event) { *s = append(*s, e) }

func TestRecordResults(t *testing.T) {
	var log sink
	if err := recordResults(tried)(&log); err != nil {
		t.Error(err)
	}
	bad := append(slices.Clone(tried), selftest.Result{ID: "D03-memory", What: "read", Verdict: selftest.Leaked, Why: "x"})
	if err := recordResults(bad)(&log); err == nil || !strings.Contains(err.Error(), "D03-memory leaked") {
		t.Errorf("a leak: %v", err)
	}
	if err := recordResults(nil)(&log); err == nil {
		t.Error("no result is a good one")
	}
	if len(log) != 3 || log[1].Action != "run.selftest" || !strings.Contains(string(log[1].Detail), `"id":"D03-memory"`) {
		t.Errorf("recorded %+v", log)
	}
}

// TestPolicyArgs: the jail that is tried has the policy of the run.
func TestPolicyArgs(t *testing.T) {
	var got []string
	app := &cli.App{
		DisableSliceFlagSeparator: true, // as main
		Commands: []*cli.Command{{Name: "run", Flags: policyFlags(""), Action: func(c *cli.Context) error {
			got = policyArgs(c)
			return nil
		}}},
	}
	args := []string{
		"--policy=/p q.yaml", "--workdir=/w", "--ro=/a,b", "--ro=-c", "--rw=/d", "--with=node,rust", "--hide=/a/x", "--hide-secrets=true", "--protect=.npmrc",
		"--unprotect=.vscode", "--allow-net=h:1", "--deny-net=*.com:1=a=b, c", "--max-upload=1GiB", "--max-upload-per-host=5", "--max-connections=3", "--publish=3000", "--socket=/s", "--proxy=true", "--upstream=none", "--allow-syscalls=debug", "--env=A=b=c", "--memory=4GiB", "--pids=100", "--cpus=0.5", "--ttl=1m30s", "--log-on-error=continue",
	}
	if err := app.Run(slices.Concat([]string{"agentjail", "run", "--profile", "ci"}, args, []string{"cmd", "--ro", "/z"})); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, args) {
		t.Errorf("%q, want %q", got, args)
	}
	if len(policyFlags("")) != 26 {
		t.Error("a flag of a policy is not in this test")
	}
}
