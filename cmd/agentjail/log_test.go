// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// Run ids in the order of their times. The first two start alike.
const (
	oldRun = "01ARZ3NDEKTSV4RRFFQ69G5FAA"
	midRun = "01ARZ3NDEKTSV4RRFFQ69G5FAB"
	newRun = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
)

// logState gives the test a state directory of its own.
func logState(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	return filepath.Join(dir, "agentjail")
}

// openRun starts the log of a run below the state directory.
func openRun(t *testing.T, state, id string) (*audit.Recorder, string) {
	t.Helper()
	dir := filepath.Join(state, "runs", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "events.jsonl")
	r, err := audit.Open(audit.Options{Path: path, Run: id, Key: filepath.Join(state, sandbox.KeyFile), Owner: os.Geteuid()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(map[string]any{"command": []string{"make", "test"}}); err != nil {
		t.Fatal(err)
	}
	return r, path
}

// writeRun writes a whole log and returns its path and head.
func writeRun(t *testing.T, state, id string, events ...audit.Event) (path, head string) {
	t.Helper()
	r, path := openRun(t, state, id)
	for _, e := range events {
		r.Emit(e)
	}
	s, err := r.Close(audit.End{Status: 3})
	if err != nil {
		t.Fatal(err)
	}
	return path, s.Head
}

func denial(target string) audit.Event {
	return audit.Event{
		Class: audit.ClassFile, Action: "open-read", Decision: audit.Deny, Target: target, Reason: "not granted",
		Process: audit.Process{PID: 7, Exe: "/usr/bin/cat", Argv: []string{"cat", target}},
	}
}

// agentjail runs a verb as main does, and returns what it printed and its exit code.
func agentjail(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	app := &cli.App{
		Name: "agentjail", Commands: []*cli.Command{psCommand(), stopCommand(), logCommand(), verifyCommand(), keyCommand()}, Writer: &out, ErrWriter: &errs,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	err := app.Run(append([]string{"agentjail"}, args...))
	var coded cli.ExitCoder
	switch {
	case errors.As(err, &coded):
		code = coded.ExitCode()
	case err != nil:
		code = 125
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintln(&errs, err)
	}
	return out.String(), errs.String(), code
}

func TestLogShowsARun(t *testing.T) {
	state := logState(t)
	allowed := audit.Event{Class: audit.ClassNet, Action: "tcp.connect", Decision: audit.Allow, Target: "good.example:443"}
	secret := denial("/home/u/.ssh/id_rsa")
	secret.Severity, secret.Provenance = audit.SeverityCredential, audit.FromClaimed
	writeRun(t, state, newRun, secret, allowed)
	out, errs, code := agentjail(t, "log")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{
		"run " + newRun,
		"report run.start                make test",
		"deny   file/open-read           /home/u/.ssh/id_rsa  cat[7]  not granted  (credential, as the process claims)",
		"allow  net/tcp.connect          good.example:443",
		"report run.end                  status 3, 1 denied, 1 allowed, 0 dropped",
	}
	if len(lines) != len(want) {
		t.Fatalf("printed\n%s", out)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("line %q, want %q in it", lines[i], want[i])
		}
	}
	out, _, code = agentjail(t, "log", "--denied")
	if code != 0 || !strings.Contains(out, "id_rsa") || strings.Contains(out, "good.example") || strings.Contains(out, "run.start") {
		t.Errorf("--denied: exit %d, printed\n%s", code, out)
	}
}

func TestLogFindsRuns(t *testing.T) {
	state := logState(t)
	for i, id := range []string{oldRun, midRun, newRun} {
		writeRun(t, state, id, denial(fmt.Sprint("/file", i)))
	}
	for _, junk := range []string{"not-a-run", "01BX5ZZKBKACTAV9WEVGEMMVR0X", newRun[:25] + "0"} {
		if err := os.MkdirAll(filepath.Join(state, "runs", junk), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args []string
		want string // on stdout, or on stderr where code is not 0
		code int
	}{
		{[]string{}, "/file2", 0},
		{[]string{oldRun}, "/file0", 0},
		{[]string{strings.ToLower(midRun)}, "/file1", 0},
		{[]string{"01BX"}, "/file2", 0},
		{[]string{"--denied", oldRun}, "/file0", 0},
		{[]string{oldRun, "--denied"}, "/file0", 0},
		{[]string{filepath.Join(state, "runs", midRun, "events.jsonl")}, "/file1", 0},
		{[]string{"01ARZ3"}, oldRun + ", " + midRun, 1},
		{[]string{"nosuchrun"}, "nosuchrun", 1},
		{[]string{"\x1b[2J"}, `\x1b`, 1},
		{[]string{"./nosuch"}, "no such file", 1},
		{[]string{"/"}, "not a file", 1},
		{[]string{oldRun, midRun}, "one run at most", 1},
		{[]string{oldRun, "--nonsense"}, "nonsense", 1},
	}
	for _, tt := range tests {
		out, errs, code := agentjail(t, append([]string{"log"}, tt.args...)...)
		text := out
		if tt.code != 0 {
			text = errs
		}
		if code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("log %q: exit %d, printed %s%s", tt.args, code, out, errs)
		}
		if strings.Contains(errs, "\x1b") {
			t.Errorf("log %q: an escape reaches the terminal", tt.args)
		}
	}
	if out, _, _ := agentjail(t, "log", oldRun, "--denied"); strings.Contains(out, "run.start") {
		t.Error("a flag after the run was ignored")
	}
}

func TestLogWithoutRuns(t *testing.T) {
	state := logState(t)
	for _, verb := range []string{"log", "verify"} {
		_, errs, code := agentjail(t, verb)
		if code == 0 || !strings.Contains(errs, "no run has a log below "+state) {
			t.Errorf("%s: exit %d: %s", verb, code, errs)
		}
	}
	if out, _, code := agentjail(t, "log", "--list"); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("--list: exit %d, printed %s", code, out)
	}
}

// TestLogJSON: the lines come out as they are in the file.
func TestLogJSON(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, newRun, denial("/a\xff\u202e"), denial(`/b\xff`))
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, code := agentjail(t, "log", "--json"); code != 0 || out != string(want) {
		t.Errorf("exit %d, printed\n%s%s, want\n%s", code, out, errs, want)
	}
	out, _, _ := agentjail(t, "log", "--json", "--denied")
	if lines := bytes.SplitAfter(want, []byte("\n")); out != string(lines[1])+string(lines[2]) {
		t.Errorf("--denied printed\n%s", out)
	}
}

// TestLogHarmless is Q04: whatever a name holds, the terminal gets text.
// Containment check: M05.
func TestLogHarmless(t *testing.T) {
	state := logState(t)
	for i, s := range []string{
		"a\nreport run.end", "a\r\n", "\x00", "\x1b[2K\x1b[1A", "\x1b]52;c;eA==\x07", "\x9b31m", "\u009b31m", "\u2028", "\u202e\u2066",
		"\u05d0", "\u200b", "\U000e0041", "\xff\xfe", "\ufe0f", "\x7f", strings.Repeat("\x1b", 5000),
	} {
		e := audit.Event{
			Class: audit.ClassFile, Action: s, Decision: audit.Decision(s), Target: s, Reason: s, Severity: s, Errno: s, Rule: s,
			Process: audit.Process{PID: 1, Exe: s, Argv: []string{s}},
		}
		argvOnly := e
		argvOnly.Exe = ""
		writeRun(t, state, fmt.Sprintf("%s%c%c", newRun[:24], 'A'+i/10, '0'+i%10), e, argvOnly)
		out, errs, code := agentjail(t, "log")
		if code != 0 || strings.Count(out, "\n") != 5 {
			t.Errorf("%q: exit %d, printed %d lines\n%s%s", s, code, strings.Count(out, "\n"), out, errs)
		}
		for _, r := range strings.ReplaceAll(out, "\n", "") {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Hebrew, unicode.Mn) || r == unicode.ReplacementChar {
				t.Errorf("%q: %U reaches the terminal", s, r)
			}
		}
	}
}

func TestLogMarks(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	detail := func(text string) json.RawMessage { return json.RawMessage(text) }
	tests := []struct {
		name string
		e    audit.Event
		want string
	}{
		{"counted", audit.Event{Class: audit.ClassFile, Action: "stat", Decision: audit.Deny, Target: "/a", Count: 12, Process: audit.Process{Exe: "/bin/find"}},
			"03:04:05.006 deny   file/stat                /a  find  (12 times)"},
		{"cut", audit.Event{Class: audit.ClassFile, Action: "stat", Decision: audit.Deny, Truncated: []string{"target", "argv"}},
			"03:04:05.006 deny   file/stat                (cut: target argv)"},
		{"arguments", audit.Event{Class: audit.ClassFile, Action: "stat", Decision: audit.Deny, Target: "/a", Process: audit.Process{PID: 3, Exe: "/bin/ls", Unread: true}},
			"03:04:05.006 deny   file/stat                /a  ls[3]  (arguments not read in time)"},
		{"killed", audit.Event{Class: audit.ClassUnix, Action: "connect", Decision: audit.Deny, Process: audit.Process{PID: 3, Ended: true}},
			"03:04:05.006 deny   unix/connect             pid[3]  (killed while it waited for the answer)"},
		{"no exe", audit.Event{Class: audit.ClassDNS, Action: "dns.query", Decision: audit.Deny, Target: "x", Process: audit.Process{PID: 3}},
			"03:04:05.006 deny   dns.query                x  pid[3]"},
		{"dropped", audit.Event{Class: audit.ClassRun, Action: audit.ActionDropped, Decision: audit.Report, Reason: "lost", Detail: detail(`{"dropped":{"file":2}}`)},
			`03:04:05.006 report run/events.dropped       lost {"file":2}`},
		{"end", audit.Event{Class: audit.ClassRun, Action: audit.ActionEnd, Decision: audit.Report, Reason: "deadline", Detail: detail(`{"status":124,"counts":{"net":{"deny":2}},"dropped":1}`)},
			"03:04:05.006 report run.end                  status 124, 2 denied, 0 allowed, 1 dropped: deadline"},
		{"end without body", audit.Event{Class: audit.ClassRun, Action: audit.ActionEnd, Decision: audit.Report, Reason: "r"},
			"03:04:05.006 report run.end                  r"},
	}
	for _, tt := range tests {
		tt.e.Time = at
		if got := logLine(tt.e, time.UTC); got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func TestLogOfABrokenFile(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, newRun, denial("/a"), denial("/b"))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bytes.Join([][]byte{lines[0], []byte("\x1b[2J junk\n"), lines[1], lines[3]}, nil))
	out, errs, code := agentjail(t, "log")
	if code != 1 || !strings.Contains(out, "/a") || !strings.Contains(errs, "line 2") || strings.Contains(out+errs, "\x1b") {
		t.Errorf("a bad line: exit %d\n%s%s", code, out, errs)
	}
	write(whole[:len(whole)-5])
	out, errs, code = agentjail(t, "log")
	if code != 0 || !strings.Contains(out, "/b") || !strings.Contains(errs, "cut off") || !strings.Contains(errs, "no run.end") {
		t.Errorf("a cut log: exit %d\n%s%s", code, out, errs)
	}
	write(lines[0])
	if out, _, _ := agentjail(t, "log", "--denied"); out != "no denial is recorded\n" {
		t.Errorf("--denied of a log without any: %q", out)
	}
}

// TestLogOfMissingSegments: what is missing in the middle is not a run that was killed.
func TestLogOfMissingSegments(t *testing.T) {
	state := logState(t)
	dir := filepath.Join(state, "runs", newRun)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Open(audit.Options{
		Path: filepath.Join(dir, "events.jsonl"), Run: newRun, Key: filepath.Join(state, sandbox.KeyFile), Owner: os.Geteuid(), MaxSize: 2000,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Start(map[string]any{"command": []string{"make"}})
	for i := range 30 {
		r.Emit(denial(fmt.Sprint("/", i)))
		r.Flush()
	}
	if _, err := r.Close(audit.End{}); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(dir, "events.2.jsonl")
	whole, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, verified int, verdict, note string) {
		t.Helper()
		out, errs, code := agentjail(t, "verify")
		if code != verified || !strings.Contains(out, verdict) {
			t.Errorf("%s: verify: exit %d\n%s%s", what, code, out, errs)
		}
		out, errs, code = agentjail(t, "log")
		if code != 0 || !strings.Contains(out, "/0") || note == "" && errs != "" || !strings.Contains(errs, note) || strings.Contains(errs, "was killed") {
			t.Errorf("%s: log: exit %d\n%s%s", what, code, out, errs)
		}
	}
	check("whole", 0, "ok: ", "")
	lines := bytes.SplitAfter(whole, []byte("\n"))
	os.WriteFile(second, bytes.Join(lines[:len(lines)-2], nil), 0o600)
	check("cut", exitChanged, "segment 3 is there, and segment 2 has no log.next", "segment 3 is there, and neither it nor")
	os.Truncate(second, 0)
	check("emptied", exitChanged, "segment 3 is there, and no line of segment 2: it was removed, replaced or emptied", "segment 2 of the log is missing or empty; segment 3 is there")
	os.Remove(second)
	check("removed", exitChanged, "segment 3 is there, and no line of segment 2: it was removed, replaced or emptied", "segment 2 of the log is missing or empty; segment 3 is there")
}

// lockedBuffer is a buffer that a verb writes while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLogFollow(t *testing.T) {
	state := logState(t)
	r, _ := openRun(t, state, newRun)
	var out lockedBuffer
	app := &cli.App{Commands: []*cli.Command{logCommand()}, Writer: &out, ErrWriter: io.Discard, ExitErrHandler: func(*cli.Context, error) {}}
	done := make(chan error, 1)
	go func() { done <- app.Run([]string{"agentjail", "log", "--follow"}) }()
	for i := range 3 {
		target := fmt.Sprint("/late/", i)
		r.Emit(denial(target))
		for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), target); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not show:\n%s", target, out.String())
			}
		}
	}
	select {
	case err := <-done:
		t.Fatalf("it ended before the run (%v)", err)
	default:
	}
	if _, err := r.Close(audit.End{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !strings.Contains(out.String(), "run.end") {
		t.Errorf("it ended with %v:\n%s", err, out.String())
	}
}

// TestLogFollowEnds: a run that was killed does not keep its followers.
func TestLogFollowEnds(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, newRun, denial("/a"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := agentjail(t, "log", "-f")
	if code != 0 || !strings.Contains(out, "/a") || !strings.Contains(errs, "no run.end") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestLogList(t *testing.T) {
	state := logState(t)
	writeRun(t, state, oldRun, denial("/a"), denial("/b"))
	killed, _ := writeRun(t, state, midRun)
	data, err := os.ReadFile(killed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(killed, data[:bytes.IndexByte(data, '\n')+1], 0o600); err != nil {
		t.Fatal(err)
	}
	running, _ := openRun(t, state, newRun)
	defer running.Close(audit.End{})
	empty := newRun[:25] + "Y"
	if err := os.MkdirAll(filepath.Join(state, "runs", empty), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "runs", empty, "events.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := agentjail(t, "log", "--list")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var got []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 5 {
			got = append(got, fields[0]+" "+strings.Join(fields[3:], " ")) // without the time
		}
	}
	want := []string{oldRun + " ended 3 2 make test", midRun + " killed - make test", newRun + " running - make test"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || !strings.Contains(out, empty+"  -") {
		t.Errorf("printed\n%s", out)
	}
	out, _, _ = agentjail(t, "log", "--list", "--json")
	var first runLine
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&first); err != nil || first.Run != oldRun || *first.Status != 3 || *first.Denied != 2 {
		t.Errorf("--json printed\n%s (%v)", out, err)
	}
}
