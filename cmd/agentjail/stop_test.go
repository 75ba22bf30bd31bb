// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

func TestPrintLive(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.Local)
	runs := []liveRun{
		{
			Run: oldRun, Started: now.Add(-90*time.Minute - time.Millisecond), PID: 7, Profile: "codex", Workdir: "/w/a b",
			Command: []string{"sh", "-c", `echo "x"`, "", `\x1b`},
		},
		{Run: newRun, Started: now.Add(time.Hour), PID: 8, Profile: "base", Workdir: "/w", Command: []string{"true"}},
		{Run: midRun, PID: 9},
	}
	var out bytes.Buffer
	if err := printLive(&out, runs, now, false); err != nil {
		t.Fatal(err)
	}
	want := `RUN                         STARTED              AGE      PID  PROFILE  DIRECTORY  COMMAND
` + oldRun + `  2026-11-27 10:29:59  1h30m0s  7    codex    "/w/a b"   sh -c "echo \"x\"" "" \x1b
` + newRun + `  2026-11-27 13:00:00  0s       8    base     /w         true
` + midRun + `  -                    -        9    -        -          -
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := printLive(&out, runs[:1], now, true); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, `"seconds":5400,"pid":7,"profile":"codex","workdir":"/w/a b","command":["sh","-c",`) {
		t.Errorf("JSON: %s", got)
	}
}

// TestDescribeLive: what is in the log is not for a terminal.
func TestDescribeLive(t *testing.T) {
	state := logState(t)
	_, path := openRun(t, state, oldRun)
	got := describeLive(loggedRun{oldRun, path}, 7)
	if got.PID != 7 || !slices.Equal(got.Command, []string{"make", "test"}) || got.Started.IsZero() {
		t.Errorf("%+v", got)
	}
	if got := describeLive(loggedRun{midRun, path + "x"}, 7); got.Run != midRun || got.PID != 7 {
		t.Errorf("without a log: %+v", got)
	}
}

// fakeLauncher ends at the signal that it obeys.
type fakeLauncher struct {
	obeys  unix.Signal
	refuse error
	got    []unix.Signal
	waited []time.Duration
}

func (f *fakeLauncher) Signal(sig unix.Signal) error {
	f.got = append(f.got, sig)
	return f.refuse
}

func (f *fakeLauncher) Wait(most time.Duration) bool {
	f.waited = append(f.waited, most)
	return slices.Contains(f.got, f.obeys)
}

func TestEnd(t *testing.T) {
	const term, kill, cont = unix.SIGTERM, unix.SIGKILL, unix.SIGCONT
	for _, tt := range []struct {
		name    string
		obeys   unix.Signal
		timeout time.Duration
		got     []unix.Signal
		how     string
		fails   bool
	}{
		{"asked", term, time.Minute, []unix.Signal{term, cont}, "", false},
		{"killed", sandbox.KillSignal, time.Minute, []unix.Signal{term, cont, sandbox.KillSignal, cont}, "1m0s after SIGTERM", false},
		{"stuck", kill, time.Minute, []unix.Signal{term, cont, sandbox.KillSignal, cont, kill, cont}, "did not answer", false},
		{"at once", sandbox.KillSignal, 0, []unix.Signal{sandbox.KillSignal, cont}, ": it was killed", false},
		{"for ever", 0, time.Minute, []unix.Signal{term, cont, sandbox.KillSignal, cont, kill, cont}, "", true},
	} {
		f := &fakeLauncher{obeys: tt.obeys}
		how, err := end(f, tt.timeout)
		if (err != nil) != tt.fails || !strings.Contains(how, tt.how) || (tt.how == "") != (how == "") || !slices.Equal(f.got, tt.got) {
			t.Errorf("%s: %q, %v, sent %v", tt.name, how, err, f.got)
		}
		if tt.timeout != 0 && f.waited[0] != tt.timeout {
			t.Errorf("%s: waited %v", tt.name, f.waited)
		}
	}
	f := &fakeLauncher{refuse: unix.EPERM}
	if _, err := end(f, time.Minute); err == nil || len(f.waited) != 0 {
		t.Errorf("refused: %v, waited %v", err, f.waited)
	}
}

func TestNotStopped(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, oldRun)
	_, killed := openRun(t, state, midRun)
	for _, tt := range []struct {
		run  loggedRun
		err  error
		want string
	}{
		{loggedRun{oldRun, path}, sandbox.ErrNotLive, "has ended already, with status 3"},
		{loggedRun{midRun, killed}, sandbox.ErrNotLive, "launcher was killed"},
		{loggedRun{midRun, killed}, sandbox.ErrElsewhere, "another pid namespace"},
		{loggedRun{midRun, killed}, &fs.PathError{Op: "open", Path: "x", Err: unix.EACCES}, "another user's"},
		{loggedRun{midRun, killed}, unix.EPERM, "another user's"},
	} {
		if got := notStopped(tt.run, tt.err).Error(); !strings.Contains(got, tt.want) || !strings.Contains(got, tt.run.ID) {
			t.Errorf("%v: %q, want %q in it", tt.err, got, tt.want)
		}
	}
}

func TestEndOf(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, oldRun)
	if got := endOf(loggedRun{oldRun, path}); got != "ended with status 3" {
		t.Errorf("%q", got)
	}
	r, path := openRun(t, state, midRun)
	if got := endOf(loggedRun{midRun, path}); !strings.Contains(got, "no end") {
		t.Errorf("without an end: %q", got)
	}
	if _, err := r.Close(audit.End{Status: 124, Reason: "deadline"}); err != nil {
		t.Fatal(err)
	}
	if got := endOf(loggedRun{midRun, path}); got != "ended with status 124 (deadline)" {
		t.Errorf("%q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := endOf(loggedRun{midRun, path}); !strings.Contains(got, "log is gone") {
		t.Errorf("without a log: %q", got)
	}
}

// TestStopRefuses: a run is named, and is one.
func TestStopRefuses(t *testing.T) {
	state := logState(t)
	for _, id := range []string{oldRun, midRun} {
		writeRun(t, state, id)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"stop"}, "which run"},
		{[]string{"stop", ""}, "empty"},
		{[]string{"stop", oldRun, midRun}, "one run at most"},
		{[]string{"stop", "--timeout", "-1s", oldRun}, "--timeout"},
		{[]string{"stop", oldRun[:20]}, "2 run ids"},
		{[]string{"stop", "7"}, "no run whose id starts with"},
		{[]string{"stop", oldRun}, "has ended already"},
		{[]string{"stop", oldRun, "--timeout", "1s"}, "has ended already"},
	} {
		if _, errs, code := agentjail(t, tt.args...); code != exitNoRun || !strings.Contains(errs, tt.want) {
			t.Errorf("%q: exit %d, %s", tt.args, code, errs)
		}
	}
	if out, errs, code := agentjail(t, "ps"); code != 0 || errs != "" || strings.Count(out, "\n") != 1 {
		t.Errorf("ps: exit %d, %s%s", code, out, errs)
	}
}
