// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// sampleLog returns the lines of a whole log of a run: run.start, 6 denials, run.end. Time stands still in it.
func sampleLog(run string) [][]byte {
	c := newChain(run)
	body, _ := startBody(nil)
	events := []Event{{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: body}}
	for i := range 6 {
		events = append(events, denied(ClassFile, fmt.Sprint("/", i)))
	}
	return chained(c, events, func() Event { return endEvent(c, 0, 0) })
}

func endEvent(c *chain, status int, dropped uint64) Event {
	d := mustDetail(c.endDetail(status, dropped))
	return Event{Class: ClassRun, Action: ActionEnd, Decision: Report, Detail: d}
}

// chained writes events and an end as lines.
func chained(c *chain, events []Event, end func() Event) [][]byte {
	var lines [][]byte
	add := func(e Event) {
		e.Time = epoch
		lines = append(lines, c.append(nil, e))
	}
	for _, e := range events {
		add(e)
	}
	if end != nil {
		add(end())
	}
	return lines
}

func join(lines [][]byte) []byte { return bytes.Join(lines, nil) }

// edited returns the lines with one text replaced in line n (from 1).
func edited(lines [][]byte, n int, old, new string) [][]byte {
	lines = slices.Clone(lines)
	changed := bytes.Replace(lines[n-1], []byte(old), []byte(new), 1)
	if bytes.Equal(changed, lines[n-1]) {
		panic("the test changes nothing")
	}
	lines[n-1] = changed
	return lines
}

// Containment check: Q05.
func TestVerifyTampered(t *testing.T) {
	log := sampleLog(testRun)
	other := sampleLog("01BX5ZZKBKACTAV9WEVGEMMVRZ")
	last := len(log)
	tests := []struct {
		name    string
		lines   [][]byte
		line    int
		problem string
	}{
		{"first line edited", edited(log, 1, `"mono":0`, `"mono":1`), 1, "it was changed"},
		{"line edited", edited(log, 4, `"/2"`, `"/x"`), 4, "it was changed"},
		{"line before the last edited", edited(log, 7, `"/5"`, `"/x"`), 7, "it was changed"},
		{"prev edited", edited(log, 4, `"prev":"`+hashLine(bytes.TrimSpace(log[2])), `"prev":"`+firstPrev), 4, "prev is not"},
		{"prev of the last edited", edited(log, last, `"prev":"`+hashLine(bytes.TrimSpace(log[6])), `"prev":"`+firstPrev), last, "prev is not"},
		{"prev of the first edited", edited(log, 1, `"prev":"00`, `"prev":"11`), 1, "prev is not"},
		{"first line removed", log[1:], 1, "seq 2"},
		{"line removed", slices.Delete(slices.Clone(log), 3, 4), 4, "seq 5"},
		{"lines swapped", slices.Concat(log[:2], log[3:4], log[2:3], log[4:]), 3, "seq 4"},
		{"line doubled", slices.Insert(slices.Clone(log), 4, log[3]), 5, "seq 4"},
		{"line with a new number", slices.Concat(log[:3], edited(log, 5, `"seq":5`, `"seq":4`)[4:5], log[4:]), 4, "prev is not"},
		{"line of another run", slices.Concat(log[:4], other[4:5], log[5:]), 5, "another run"},
		{"end of another run", slices.Concat(log[:4], other[4:]), 5, "another run"},
		{"two logs", slices.Concat(log, other), last + 1, "after run.end"},
		{"line after run.end", append(slices.Clone(log), log[last-1]), last + 1, "after run.end"},
		{"half a line after run.end", append(slices.Clone(log), []byte("{")), last + 1, "after run.end"},
		{"empty line", slices.Insert(slices.Clone(log), 2, []byte("\n")), 3, "not an event"},
		{"not JSON", slices.Insert(slices.Clone(log), 2, []byte("hello\n")), 3, "not an event"},
		{"another key", edited(log, 3, `"run":`, `"x":1,"run":`), 3, "not in the form"},
		{"spaces", edited(log, 3, `"seq":3`, `"seq": 3`), 3, "not in the form"},
		{"carriage return", edited(log, 3, "\n", "\r\n"), 3, "not in the form"},
		{"long line", slices.Insert(slices.Clone(log), 2, append(bytes.Repeat([]byte("x"), 2*MaxLine), '\n')), 3, "longer than"},
		{"long last line", append(slices.Clone(log[:2]), bytes.Repeat([]byte("x"), 2*MaxLine)), 3, "longer than"},
		{"run.end's counts edited", edited(log, last, `"deny":6`, `"deny":5`), last, "counts"},
		{"run.end's dropped edited", edited(log, last, `"dropped":0`, `"dropped":1`), last, "dropped"},
		{"run.end's head edited", edited(log, last, `"head":"`, `"head":"00`), last, "head"},
		{"not a log", [][]byte{[]byte("root:x:0:0\n")}, 1, "not an event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Verify(bytes.NewReader(join(tt.lines)), "")
			if err != nil || got.FirstBad == nil {
				t.Fatalf("%+v (%v)", got, err)
			}
			if got.FirstBad.Line != tt.line || !strings.Contains(got.FirstBad.Problem, tt.problem) || got.Complete {
				t.Errorf("%v, complete %v; want line %d: %s", got.FirstBad, got.Complete, tt.line, tt.problem)
			}
		})
	}
}

// TestVerifyForged has chains whose hashes agree, but that no recorder writes.
// Containment check: Q05.
func TestVerifyForged(t *testing.T) {
	body, _ := startBody(nil)
	start := Event{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: body}
	tests := []struct {
		name    string
		events  []Event
		line    int
		problem string
	}{
		{"no run.start", []Event{denied(ClassFile, "/a")}, 1, "run.start"},
		{"run.start twice", []Event{start, start}, 2, "run.start"},
		{"run.start without schema", []Event{{Class: ClassRun, Action: ActionStart, Decision: Report}}, 1, "schema"},
		{"run.end without body", []Event{start, {Class: ClassRun, Action: ActionEnd, Decision: Report}}, 2, "run.end"},
		{"events.dropped without body", []Event{start, {Class: ClassRun, Action: ActionDropped, Decision: Report}}, 2, "events.dropped"},
	}
	for _, tt := range tests {
		got, err := Verify(bytes.NewReader(join(chained(newChain(testRun), tt.events, nil))), "")
		if err != nil || got.FirstBad == nil || got.FirstBad.Line != tt.line || !strings.Contains(got.FirstBad.Problem, tt.problem) {
			t.Errorf("%s: %v (%v)", tt.name, got.FirstBad, err)
		}
	}
}

func TestVerifyDroppedIsCompared(t *testing.T) {
	body, _ := startBody(nil)
	events := []Event{
		{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: body},
		{Class: ClassRun, Action: ActionDropped, Decision: Report, Detail: mustDetail(droppedDetail{map[Class]uint64{"file": 2, "net": 1}})},
	}
	for dropped, good := range map[uint64]bool{3: true, 0: false, 2: false} {
		c := newChain(testRun)
		lines := chained(c, events, func() Event { return endEvent(c, 0, dropped) })
		if got, err := Verify(bytes.NewReader(join(lines)), ""); err != nil || (got.FirstBad == nil) != good {
			t.Errorf("%d dropped: %v (%v)", dropped, got.FirstBad, err)
		}
	}
}

// TestVerifyIncomplete cuts a good log at every line and at many places between: the result is incomplete, never tampered with and never good.
// Containment check: Q06.
func TestVerifyIncomplete(t *testing.T) {
	log := join(sampleLog(testRun))
	for n := range log {
		if n%7 != 0 && bytes.IndexByte(log[max(n-2, 0):n+1], '\n') < 0 {
			continue
		}
		got, err := Verify(bytes.NewReader(log[:n]), "")
		lines := uint64(bytes.Count(log[:n], []byte("\n")))
		cut := n > 0 && log[n-1] != '\n'
		if err != nil || got.FirstBad != nil || got.Complete || got.CutOff != cut || got.Events != lines {
			t.Fatalf("of %d bytes: %+v, %v (%v)", n, got, got.FirstBad, err)
		}
	}
}

func TestVerifyGood(t *testing.T) {
	lines := sampleLog(testRun)
	got, err := Verify(iotest.OneByteReader(bytes.NewReader(join(lines))), "")
	want := Verification{
		Run: testRun, First: 1, Segment: 1, Segments: 1, Events: uint64(len(lines)), Head: hashLine(bytes.TrimSpace(lines[len(lines)-1])), Complete: true,
	}
	if err != nil || got != want {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
}

// TestVerifyAnchor is Q12: a chain that was computed anew passes, and only its head tells.
func TestVerifyAnchor(t *testing.T) {
	log := sampleLog(testRun)
	c := newChain(testRun)
	var events []Event
	for e := range Scan(bytes.NewReader(join(log[:len(log)-1]))) {
		if e.Target != "/3" { // the evidence
			events = append(events, e)
		}
	}
	forged := join(chained(c, events, func() Event { return endEvent(c, 0, 0) }))
	honest, err := Verify(bytes.NewReader(join(log)), "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(bytes.NewReader(forged), "")
	if err != nil || got.FirstBad != nil || !got.Complete {
		t.Fatalf("the forged chain is %+v, %v (%v)", got, got.FirstBad, err)
	}
	if got.Head == honest.Head {
		t.Error("the forged log has the head of the honest one")
	}
}

func TestVerifySchema(t *testing.T) {
	start := Event{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: json.RawMessage(`{"schema":2}`)}
	_, err := Verify(bytes.NewReader(join(chained(newChain(testRun), []Event{start}, nil))), "")
	var schema *SchemaError
	if !errors.As(err, &schema) || schema.Got != 2 {
		t.Errorf("error %v", err)
	}
}

func TestVerifyReadError(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader(join(sampleLog(testRun)[:2])), iotest.ErrReader(broken))
	if got, err := Verify(r, ""); !errors.Is(err, broken) || got.Events != 2 {
		t.Errorf("%+v (%v)", got, err)
	}
}

func TestScan(t *testing.T) {
	log := sampleLog(testRun)
	long := append(bytes.Repeat([]byte("x"), 3*MaxLine), '\n')
	input := join(slices.Concat(log[:2], [][]byte{[]byte("bad\n"), long}, log[2:3], [][]byte{[]byte(`{"seq`)}))
	var got []string
	for e, err := range Scan(bytes.NewReader(input)) {
		switch {
		case err != nil:
			got = append(got, err.Error())
		default:
			got = append(got, fmt.Sprint(e.Seq))
		}
	}
	want := []string{"1", "2", "line 3: not an event in JSON", "line 4: longer than 262144 bytes", "3", "the last line is cut off"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for range Scan(bytes.NewReader(input)) {
		break // must not panic
	}
}

// TestScanDoesNotReadAhead: an event must come out as soon as its line is there, for --follow.
func TestScanDoesNotReadAhead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make(chan uint64)
	go func() {
		for e := range Scan(r) {
			got <- e.Seq
		}
		close(got)
	}()
	for i, line := range sampleLog(testRun) {
		w.Write(line)
		select {
		case seq := <-got:
			if seq != uint64(i+1) {
				t.Fatalf("event %d, want %d", seq, i+1)
			}
		case <-time.After(time.Minute):
			t.Fatal("the event did not come out")
		}
	}
	w.Close()
	if _, more := <-got; more {
		t.Error("an event came after the end")
	}
}
