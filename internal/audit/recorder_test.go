// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testRun = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

// started returns a Recorder that has been started, and the path of its log.
func started(t *testing.T) (*Recorder, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(map[string]any{"command": []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	return r, path
}

// closed ends a log that must be whole, and returns its events.
func closed(t *testing.T, r *Recorder, path string) (Summary, []Event) {
	t.Helper()
	s, err := r.Close(End{})
	if err != nil {
		t.Fatal(err)
	}
	return s, wholeLog(t, path)
}

// wholeLog reads a log that Verify must call good and complete.
func wholeLog(t *testing.T, path string) []Event {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(bytes.NewReader(data), "")
	if err != nil || report.FirstBad != nil || !report.Complete {
		t.Fatalf("verify: %+v, %v, %v", report, report.FirstBad, err)
	}
	var events []Event
	for e, err := range Scan(bytes.NewReader(data)) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	assertASCII(t, path, bytes.ReplaceAll(data, []byte("\n"), nil))
	return events
}

func TestRecorderWritesALog(t *testing.T) {
	r, path := started(t)
	e := denied(ClassFile, "/etc/shadow")
	e.Time = time.Time{}
	before := time.Now()
	r.Emit(e)
	s, err := r.Close(End{Status: 3, Reason: "deadline"})
	if err != nil {
		t.Fatal(err)
	}
	events := wholeLog(t, path)
	if len(events) != 3 {
		t.Fatalf("the log has %d lines", len(events))
	}
	start, got, end := events[0], events[1], events[2]
	if start.Action != ActionStart || start.Run != testRun || string(start.Detail) != `{"command":["true"],"schema":1}` {
		t.Errorf("first event %+v, detail %s", start, start.Detail)
	}
	if got.Target != "/etc/shadow" || got.Time.Before(before.Add(-time.Second)) || got.Mono <= start.Mono || got.Mono > end.Mono {
		t.Errorf("second event %+v", got)
	}
	var d endDetail
	if err := json.Unmarshal(end.Detail, &d); err != nil || d.Status != 3 || d.Counts[ClassFile][Deny] != 1 || d.Head != end.Prev || end.Reason != "deadline" {
		t.Errorf("last event %+v, detail %s", end, end.Detail)
	}
	if s.Lines != 3 || s.Denied != 1 || s.Status != 3 || s.Dropped != 0 || len(s.Top) != 1 || s.Top[0].Target != "/etc/shadow" {
		t.Errorf("summary %+v", s)
	}
	report, err := Verify(mustOpen(t, path), "")
	if err != nil || report.Head != s.Head || report.Events != 3 || report.Status != 3 || report.Run != testRun {
		t.Errorf("verify %+v (%v), head of the summary %s", report, err, s.Head)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v (%v)", st.Mode(), err)
	}
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestStartIsSynchronous(t *testing.T) {
	r, path := started(t)
	report, err := Verify(mustOpen(t, path), "")
	if err != nil || report.Events != 1 || report.Complete || report.FirstBad != nil {
		t.Errorf("after Start the log is %+v (%v)", report, err)
	}
	if err := r.Start(nil); err == nil {
		t.Error("a log was started twice")
	}
	closed(t, r, path)
}

func TestEventsBeforeStartComeAfterIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	r.Emit(denied(ClassFile, "/early"))
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	_, events := closed(t, r, path)
	if len(events) != 3 || events[0].Action != ActionStart || events[1].Target != "/early" {
		t.Errorf("the log is %+v", events)
	}
}

func TestCloseWithoutStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	r.Emit(Event{Class: ClassRun, Action: "run.refused", Decision: Deny, Reason: "no user namespaces"})
	_, events := closed(t, r, path)
	if len(events) != 3 || events[1].Action != "run.refused" {
		t.Errorf("the log is %+v", events)
	}
}

func TestCloseTwice(t *testing.T) {
	r, path := started(t)
	first, events := closed(t, r, path)
	r.Emit(denied(ClassFile, "/late"))
	second, err := r.Close(End{Status: 9})
	if err != nil || second.Head != first.Head || second.Status != first.Status {
		t.Errorf("second Close: %+v (%v)", second, err)
	}
	if again := wholeLog(t, path); len(again) != len(events) {
		t.Error("something was written after Close")
	}
}

func TestEmitFromManyGoroutines(t *testing.T) {
	r, path := started(t)
	const goroutines, each = 16, 300
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				r.Emit(denied(ClassFile, fmt.Sprint(g, "/", i)))
			}
		})
	}
	wg.Wait()
	s, events := closed(t, r, path)
	seen := make(map[string]bool)
	var mono time.Duration
	for _, e := range events[1 : len(events)-1] {
		if seen[e.Target] || e.Count > 1 {
			t.Fatalf("%s is there twice", e.Target)
		}
		seen[e.Target] = true
		if e.Count == 0 && e.Mono < mono {
			t.Fatal("lines are not in the order of their times")
		}
		mono = max(mono, e.Mono)
	}
	if len(seen) != goroutines*each || s.Denied != goroutines*each || s.Dropped != 0 {
		t.Errorf("%d events in the log, summary %d, dropped %d", len(seen), s.Denied, s.Dropped)
	}
}

// TestFlood is Q07: counts stay exact, and what is rare is there by name.
// Containment check: G16.
func TestFlood(t *testing.T) {
	r, path := started(t)
	const noisy = 200_000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range noisy / 4 {
				r.Emit(denied(ClassFile, "/proc/noisy"))
			}
		})
	}
	for i := range 50 {
		r.Emit(denied(ClassNet, fmt.Sprintf("rare%d.example:443", i)))
		r.Emit(denied(ClassFile, fmt.Sprintf("/rare/%d", i)))
	}
	wg.Wait()
	s, events := closed(t, r, path)
	var total uint64
	rare := 0
	for _, e := range events {
		if e.Target == "/proc/noisy" {
			total += weight(e)
		}
		if strings.Contains(e.Target, "rare") {
			rare++
		}
	}
	if total != noisy || rare != 100 || s.Dropped != 0 || s.Denied != noisy+100 {
		t.Errorf("%d of %d noisy, %d of 100 rare, dropped %d, denied %d", total, noisy, rare, s.Dropped, s.Denied)
	}
	if len(events) > 1000 {
		t.Errorf("%d lines for %d events", len(events), noisy)
	}
	if s.Top[0].Target != "/proc/noisy" || s.Top[0].Count != noisy {
		t.Errorf("top of the summary is %+v", s.Top[0])
	}
}

func TestCountsAreWrittenWhileTheRunGoesOn(t *testing.T) {
	r, path := started(t)
	for range Verbatim + 5 {
		r.Emit(denied(ClassFile, "/a"))
	}
	deadline := time.Now().Add(time.Minute)
	for counted := uint64(0); counted != 5; time.Sleep(10 * time.Millisecond) {
		for e := range Scan(mustOpen(t, path)) {
			if e.Count > 0 {
				counted = e.Count
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no count was written")
		}
	}
	closed(t, r, path)
}

func TestDroppedTravelsInTheLog(t *testing.T) {
	r, path := started(t)
	r.Dropped(map[Class]uint64{ClassNet: 4, ClassFile: 1})
	r.Dropped(map[Class]uint64{ClassNet: 2})
	s, events := closed(t, r, path)
	got := events[1]
	if got.Class != ClassRun || got.Action != ActionDropped || string(got.Detail) != `{"dropped":{"file":1,"net":6}}` || s.Dropped != 7 {
		t.Errorf("event %+v, detail %s, dropped %d", got, got.Detail, s.Dropped)
	}
	if report, _ := Verify(mustOpen(t, path), ""); report.Dropped != 7 {
		t.Errorf("verify says %d were dropped", report.Dropped)
	}
}

// TestFullQueue fills the queue while nothing is written: before Start.
func TestFullQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	body := Event{Class: ClassRun, Action: "run.posture", Decision: Report, Detail: json.RawMessage(`{}`)}
	const denials, bodies = 7_000, 3_000
	for i := range denials {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
	}
	if r.waiting > maxQueue*3/4 || r.waitBytes > maxQueueBytes*3/4 {
		t.Errorf("%d denials wait, %d bytes", r.waiting, r.waitBytes)
	}
	for range bodies {
		r.Emit(body) // cannot be counted: its detail would be lost
	}
	if r.waiting > maxQueue || r.waitBytes > maxQueueBytes {
		t.Errorf("%d events wait, %d bytes", r.waiting, r.waitBytes)
	}
	s, events := closed(t, r, path)
	var files, written uint64
	for _, e := range events {
		switch {
		case e.Class == ClassFile:
			files += weight(e)
		case e.Action == body.Action:
			written++
		}
	}
	if files != denials {
		t.Errorf("%d of %d denials are accounted for", files, denials)
	}
	if s.Dropped == 0 || written+s.Dropped != bodies {
		t.Errorf("%d written and %d dropped of %d", written, s.Dropped, bodies)
	}
}

func TestStartDetailIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Start(map[string]any{
		"workdir": "/w\xff", "command": []string{"sh\xff", "-c", strings.Repeat("x", 1<<20)},
		"huge": map[string]string{"a": strings.Repeat("y", MaxDetail)}, "bad": func() {}, "schema": 99,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, events := closed(t, r, path)
	if got, want := fmt.Sprint(events[0].Truncated), "[detail.bad detail.command detail.huge]"; got != want {
		t.Errorf("truncated %s, want %s", got, want)
	}
	var d struct {
		Schema  int
		Workdir string
		Command []string
	}
	if err := json.Unmarshal(events[0].Detail, &d); err != nil || d.Schema != Schema || unquote(d.Workdir) != "/w\xff" {
		t.Errorf("detail %+v (%v)", d, err)
	}
	if len(d.Command) != 3 || unquote(d.Command[0]) != "sh\xff" || len(d.Command[2]) != maxArgList-5 {
		t.Errorf("command has %d entries", len(d.Command))
	}
}

func TestCopies(t *testing.T) {
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "fresh"), filepath.Join(dir, "old")
	if err := os.WriteFile(old, bytes.Repeat([]byte("old\n"), 10000), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	r, err := Open(Options{Path: path, Copies: []Copy{{File: fresh}, {File: old}}, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	r.Emit(denied(ClassFile, "/a"))
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	r.Emit(denied(ClassFile, "/b"))
	closed(t, r, path)
	want, _ := os.ReadFile(path)
	for _, name := range []string{fresh, old} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the log (%v)", name, err)
		}
	}
	if st, _ := os.Stat(fresh); st.Mode() != 0o600 {
		t.Errorf("mode of a new copy is %v", st.Mode())
	}
}

// TestCopyOfFailedStart: what a copy holds of an earlier run is there until a command starts; an empty one has the refusal.
func TestCopyOfFailedStart(t *testing.T) {
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "fresh"), filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	_, err := Open(Options{Path: path, Copies: []Copy{{File: old}, {File: dir}}, Run: testRun})
	if err == nil {
		t.Fatal("a directory was taken for a copy")
	}
	r, err := Open(Options{Path: path, Copies: []Copy{{File: fresh}, {File: old}}, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	r.Emit(Event{Class: ClassRun, Action: "run.refused", Decision: Deny})
	closed(t, r, path)
	if got, _ := os.ReadFile(old); string(got) != "old\n" {
		t.Errorf("the earlier copy is now %q", got)
	}
	want, _ := os.ReadFile(path)
	if got, _ := os.ReadFile(fresh); !bytes.Equal(got, want) {
		t.Errorf("the new copy has %q", got)
	}
}

// TestOpenRefuses is Q14: what somebody planted at the place of a log is left alone.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	victim := at("victim")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(victim, []byte("precious"), 0o600))
	must(os.Symlink(victim, at("link")))
	must(os.Symlink(at("absent"), at("dangling")))
	must(os.Link(victim, at("hard")))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(os.Mkdir(at("dir"), 0o700))
	busy, err := Open(Options{Path: at("busy"), Run: testRun})
	must(err)
	defer busy.Close(End{})

	tests := []struct {
		name string
		o    Options
		want error
	}{
		{"log exists", Options{Path: victim}, os.ErrExist},
		{"log is a link", Options{Path: at("link")}, os.ErrExist},
		{"log is a dangling link", Options{Path: at("dangling")}, os.ErrExist},
		{"no directory", Options{Path: at("no/such")}, os.ErrNotExist},
		{"copy is a link", Options{Copies: []Copy{{File: at("link")}}}, ErrNotRegular},
		{"copy is a dangling link", Options{Copies: []Copy{{File: at("dangling")}}}, ErrNotRegular},
		{"copy has two names", Options{Copies: []Copy{{File: at("hard")}}}, ErrLinked},
		{"copy is a pipe", Options{Copies: []Copy{{File: at("fifo")}}}, ErrNotRegular},
		{"copy is a directory", Options{Copies: []Copy{{File: at("dir")}}}, ErrNotRegular},
		{"copy is a device", Options{Copies: []Copy{{File: "/dev/null"}}}, ErrNotRegular},
		{"copy is another run's log", Options{Copies: []Copy{{File: at("busy")}}}, ErrInUse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Run = testRun
			made := tt.o.Path == ""
			if made {
				tt.o.Path = at("log")
			}
			r, err := Open(tt.o)
			var fe *FileError
			if r != nil || !errors.Is(err, tt.want) || !errors.As(err, &fe) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if _, err := os.Lstat(at("log")); made && !errors.Is(err, os.ErrNotExist) {
				t.Error("the log was left behind")
			}
		})
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("the victim is now %q (%v)", data, err)
	}
	if _, err := os.Lstat(at("absent")); err == nil {
		t.Error("a file was made through a link")
	}
	for _, run := range []string{"", "a\nb", strings.Repeat("x", 65)} {
		if _, err := Open(Options{Path: at("log"), Run: run}); err == nil {
			t.Errorf("run id %q was taken", run)
		}
	}
}

func TestWriting(t *testing.T) {
	r, path := started(t)
	f := mustOpen(t, path)
	if !Writing(f) {
		t.Error("a log that is being written does not say so")
	}
	closed(t, r, path)
	if Writing(f) {
		t.Error("a closed log says that it is being written")
	}
}
