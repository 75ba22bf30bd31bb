// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"12h": 12 * time.Hour, "30d": 30 * 24 * time.Hour, "8w": 8 * 7 * 24 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute,
	} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("%s is %v (%v)", text, got, err)
		}
	}
	for _, bad := range []string{"", "0", "+0", "30", "-1h", "soon", "d", "1.5d"} {
		if got, err := parseAge(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// cgroupLine tells of what other tests that kill launchers have left on this machine.
var cgroupLine = regexp.MustCompile(`(?m)^removed cgroup .*\n`)

// TestPrune: everything needs to be asked for in a way that is no slip, and what is printed as removed is gone.
func TestPrune(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, newRun)
	prune := func(args ...string) (string, error) {
		var out bytes.Buffer
		app := &cli.App{Commands: []*cli.Command{pruneCommand()}, Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}}
		err := app.Run(append([]string{"agentjail", "prune"}, args...))
		return cgroupLine.ReplaceAllString(out.String(), ""), err
	}
	if _, err := prune("--older-than", ""); err == nil || !strings.Contains(err.Error(), "give it an AGE") {
		t.Errorf("an empty age: %v", err)
	}
	if out, err := prune("--older-than", "0"); err == nil {
		t.Errorf("an age without a unit: %s", out)
	}
	if out, err := prune(); err != nil || out != "nothing to remove\n" && out != "" {
		t.Errorf("of a new run: %q %v", out, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if out, err := prune("--older-than", "0s"); err != nil || !strings.HasPrefix(out, "removed run "+newRun) {
		t.Errorf("of all: %q %v", out, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Error(err)
	}
}
