// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inSegments returns a Recorder of a log that is cut after a few lines, and its files.
func inSegments(t *testing.T, o Options) (*Recorder, func(int) string) {
	t.Helper()
	dir := t.TempDir()
	o.Path, o.Run, o.Key, o.Owner, o.MaxSize = filepath.Join(dir, "events.jsonl"), testRun, filepath.Join(dir, "key"), os.Getuid(), 2000
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(map[string]any{"policy": map[string]string{"digest": "sha256:x"}}); err != nil {
		t.Fatal(err)
	}
	return r, func(n int) string { return segmentPath(o.Path, n) }
}

// emitted has the recorder write so many events, one after the other.
func emitted(t *testing.T, r *Recorder, n int) {
	t.Helper()
	for i := range n {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// verified reads a log from a file on.
func verified(t *testing.T, path string) Verification {
	t.Helper()
	in, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	v, err := Verify(in, "")
	if err != nil || v.FirstBad != nil {
		t.Fatalf("%s: %+v %v %v", path, v, v.FirstBad, err)
	}
	return v
}

func TestSegmentPath(t *testing.T) {
	for _, tt := range []struct {
		base   string
		number int
		want   string
	}{
		{"/a.b/events.jsonl", 1, "/a.b/events.jsonl"}, {"/a.b/events.jsonl", 12, "/a.b/events.12.jsonl"}, {"/a.b/log", 2, "/a.b/log.2"},
		{"/a/.log", 2, "/a/.log.2"}, {"log.tar.gz", 3, "log.tar.3.gz"},
	} {
		got := segmentPath(tt.base, tt.number)
		if got != tt.want {
			t.Errorf("%s %d: %s", tt.base, tt.number, got)
		}
		if next, want := followingPath(got, tt.number+1), segmentPath(tt.base, tt.number+1); next != want {
			t.Errorf("%s is followed by %s, not %s", got, next, want)
		}
		if n := numberedPath(tt.base, got); n != tt.number && tt.number > 1 {
			t.Errorf("%s has the number %d", got, n)
		}
	}
}

// TestSegments: a log that was cut is one log, of which each file can be checked, and says what is missing of it.
// Containment check: Q15.
func TestSegments(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(segmentPath(copied, 2), []byte("of another run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, file := inSegments(t, Options{Copies: []Copy{{File: copied}}})
	emitted(t, r, 30)
	r.Dropped(map[Class]uint64{ClassNet: 3})
	time.Sleep(2 * flushInterval)
	emitted(t, r, 30)
	summary, err := r.Close(End{Status: 4})
	if err != nil {
		t.Fatal(err)
	}
	whole := verified(t, file(1))
	if !whole.Complete || whole.First != 1 || whole.Segments < 5 || whole.Events != summary.Lines || whole.Head != summary.Head ||
		whole.Signed != whole.Events || whole.Dropped != 3 {
		t.Errorf("%+v; the summary has %d lines", whole, summary.Lines)
	}
	if first, last, err := Ends(file(1)); err != nil || first.Action != ActionStart || last.Action != ActionEnd {
		t.Errorf("from %v to %v (%v)", first, last, err)
	}
	from := uint64(1)
	for n := 1; n <= whole.Segments; n++ {
		data, err := os.ReadFile(file(n))
		if err != nil {
			t.Fatal(err)
		}
		if other, _ := os.ReadFile(segmentPath(copied, n)); !bytes.Equal(data, other) {
			t.Errorf("segment %d of the copy differs", n)
		}
		// A file alone, as from elsewhere.
		v, err := Verify(bytes.NewReader(data), "")
		next := n + 1
		if n == whole.Segments {
			next = 0
		}
		if err != nil || v.FirstBad != nil || v.Segment != n || v.Segments != 1 || v.First != from || v.Next != next || v.Signed != v.Events {
			t.Errorf("segment %d: %+v %v %v", n, v, v.FirstBad, err)
		}
		from += v.Events
		if rest := verified(t, file(n)); rest.Segments != whole.Segments-n+1 || rest.Head != whole.Head {
			t.Errorf("from segment %d on: %+v", n, rest)
		}
	}
	if exists := file(whole.Segments + 1); exists != "" {
		if _, err := os.Stat(exists); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", exists, err)
		}
	}
	os.Rename(file(3), file(3)+".away")
	if v := verified(t, file(1)); v.Complete || v.Next != 3 {
		t.Errorf("without the third: %+v", v)
	}
}

// TestSegmentsTampered (Q15): no segment can be left out, put elsewhere, or changed, and no border moved.
func TestSegmentsTampered(t *testing.T) {
	r, file := inSegments(t, Options{})
	emitted(t, r, 30)
	if _, err := r.Close(End{}); err != nil {
		t.Fatal(err)
	}
	var segments [][]byte
	for n := 1; ; n++ {
		data, err := os.ReadFile(file(n))
		if err != nil {
			break
		}
		segments = append(segments, data)
	}
	lines := func(n int) [][]byte { return slices.Collect(bytes.Lines(segments[n])) }
	second := lines(1)
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"left out":           {slices.Concat(segments[0], segments[2]), "is due"},
		"twice":              {slices.Concat(segments[0], segments[1], segments[1]), "is due"},
		"no header":          {slices.Concat(segments[0], join(second[1:])), ""},
		"the header alone":   {slices.Concat(segments[0], second[0], segments[2]), "is due"},
		"a part unsigned":    {bytes.ReplaceAll(segments[1], []byte(`"sig":"`), []byte(`"sig":"A`)), ""},
		"a part changed":     {bytes.ReplaceAll(segments[1], []byte(`"/1`), []byte(`"/9`)), ""},
		"its counts changed": {bytes.Replace(segments[1], []byte(`"deny":`), []byte(`"deny":1`), 1), ""},
		"a line in front":    {slices.Concat(second[1], segments[1]), ""},
	} {
		v, err := Verify(bytes.NewReader(tt.data), "")
		if err != nil || v.FirstBad == nil || !strings.Contains(v.FirstBad.Problem, tt.want) {
			t.Errorf("%s: %+v %v %v", name, v, v.FirstBad, err)
		}
	}
}

// TestSegmentRefused: a file in the place of the next segment is left alone, and ends the run.
func TestSegmentRefused(t *testing.T) {
	r, file := inSegments(t, Options{})
	if err := os.Symlink(file(1)+".victim", file(2)); err != nil {
		t.Fatal(err)
	}
	for i := 0; r.Err() == nil && i < 100; i++ {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
		r.Flush()
	}
	if _, err := r.Close(End{}); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("%v", err)
	}
	if v := verified(t, file(1)); v.Complete || v.Next != 0 {
		t.Errorf("%+v", v)
	}
}

// TestSegmentContinue: where the run goes on without its log, that is cut when it can be written again.
func TestSegmentContinue(t *testing.T) {
	r, file := inSegments(t, Options{Continue: true})
	emitted(t, r, 1)
	if err := os.Mkdir(file(2), 0o700); err != nil {
		t.Fatal(err)
	}
	emitted(t, r, 20)
	os.Remove(file(2))
	time.Sleep(2 * flushInterval)
	emitted(t, r, 20)
	if _, err := r.Close(End{}); err != nil {
		t.Fatal(err)
	}
	if v := verified(t, file(1)); !v.Complete || v.Failed == 0 || v.Segments < 2 {
		t.Errorf("%+v", v)
	}
}

// TestCopyMoved (Q15): a copy that is moved away, as logrotate(8) does, or removed, goes on in a new file, and one that is emptied is told of.
func TestCopyMoved(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	r, file := inSegments(t, Options{Copies: []Copy{{File: copied}}})
	r.options.MaxSize = 1 << 20
	emitted(t, r, 2)
	if err := os.Rename(copied, copied+".1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := os.Stat(copied); return err == nil })
	emitted(t, r, 2)
	before, _ := os.ReadFile(copied + ".1")
	after, _ := os.ReadFile(copied)
	if v := verified(t, copied); v.Segment != 2 || v.Segments != 1 {
		t.Errorf("the new file: %+v", v)
	}
	os.Remove(copied)
	eventually(t, func() bool { _, err := os.Stat(copied); return err == nil })
	emitted(t, r, 1)
	os.Truncate(copied, 0)
	time.Sleep(2 * flushInterval)
	if _, err := r.Close(End{}); err != nil {
		t.Fatal(err)
	}
	whole := verified(t, file(1))
	var log []byte
	var actions []string
	for n := 1; n <= whole.Segments; n++ {
		data, _ := os.ReadFile(file(n))
		log = append(log, data...)
	}
	for e, err := range Scan(bytes.NewReader(log)) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Action, "sink.") {
			actions = append(actions, e.Action)
		}
	}
	if want := []string{ActionSinkReopened, ActionSinkReopened, ActionSinkTruncated}; !slices.Equal(actions, want) {
		t.Errorf("%v", actions)
	}
	if !bytes.HasPrefix(log, append(before, after...)) {
		t.Error("what was moved away and the new file are not one log")
	}
}

// TestCopyReplaced: another file in the place of a copy is left alone, and the run ended.
func TestCopyReplaced(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	r, _ := inSegments(t, Options{Copies: []Copy{{File: copied}}})
	r.options.MaxSize = 1 << 20
	emitted(t, r, 2)
	os.Rename(copied, copied+".1")
	os.WriteFile(copied, []byte("other\n"), 0o600)
	<-r.Failed()
	if _, err := r.Close(End{}); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	if data, _ := os.ReadFile(copied); string(data) != "other\n" {
		t.Errorf("it has %q", data)
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// TestReaderFollows: a reader at the end of a log goes on when there is more, in the same segment and in the next.
func TestReaderFollows(t *testing.T) {
	r, file := inSegments(t, Options{})
	in, err := OpenReader(file(1))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var got []byte
	for i := range 30 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
		more, err := io.ReadAll(in)
		if err != nil || len(more) == 0 || !in.Writing() {
			t.Fatalf("%d bytes came: %v; it is written: %v", len(more), err, in.Writing())
		}
		got = append(got, more...)
	}
	r.Close(End{})
	rest, err := io.ReadAll(in)
	if v, verr := Verify(bytes.NewReader(append(got, rest...)), ""); err != nil || verr != nil || !v.Complete || v.Segments < 3 {
		t.Errorf("%+v %v %v %v", v, v.FirstBad, err, verr)
	}
	if in.Writing() {
		t.Error("it is still written")
	}
}

// TestReaderAnotherRun: what an earlier run has left where a copy goes on is not of this log, until it is overwritten.
func TestReaderAnotherRun(t *testing.T) {
	r, file := inSegments(t, Options{})
	emitted(t, r, 30)
	if _, err := r.Close(End{}); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(file(2))
	if err != nil {
		t.Fatal(err)
	}
	earlier := bytes.ReplaceAll(own, []byte(testRun), []byte("01ARZ3NDEKTSV4RRFFQ69G5FAA"))
	if err := os.WriteFile(file(2), earlier, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := OpenReader(file(1))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	first, err := io.ReadAll(in)
	if want, _ := os.ReadFile(file(1)); err != nil || !bytes.Equal(first, want) {
		t.Errorf("with the earlier run's segment (%v):\n%s", err, first)
	}
	if v := verified(t, file(1)); v.Complete || v.Segments != 1 || v.Next != 2 {
		t.Errorf("it is not incomplete: %+v", v)
	}
	if _, last, err := Ends(file(1)); err != nil || last.Action != ActionNext {
		t.Errorf("it ends with %v (%v)", last, err)
	}
	if err := os.WriteFile(file(2), own, 0o600); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if v, verr := Verify(bytes.NewReader(append(first, rest...)), ""); err != nil || verr != nil || !v.Complete {
		t.Errorf("when it was overwritten: %+v %v %v", v, err, verr)
	}
	changed := bytes.Replace(own, []byte(`"prev":"`), []byte(`"prev":"0`), 1) // of this run, and does not fit
	if err := os.WriteFile(file(2), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err = OpenReader(file(1))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if v, err := Verify(in, ""); err != nil || v.FirstBad == nil {
		t.Errorf("with one of this run that was changed: %+v %v", v, err)
	}
}

// TestReaderLater: a segment to which none leads is found, and none where all is there.
func TestReaderLater(t *testing.T) {
	r, file := inSegments(t, Options{})
	emitted(t, r, 30)
	if _, err := r.Close(End{}); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(file(2))
	if err != nil {
		t.Fatal(err)
	}
	later := func(path string) int {
		t.Helper()
		in, err := OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		io.Copy(io.Discard, in)
		n, err := in.Later()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := later(file(1)); n != 0 {
		t.Errorf("of the whole log: %d", n)
	}
	whole := slices.Collect(bytes.Lines(second))
	for name, data := range map[string][]byte{"the last line": join(whole[:len(whole)-1]), "a part of it": second[:len(second)-9]} {
		os.WriteFile(file(2), data, 0o600)
		if first, mid := later(file(1)), later(file(2)); first != 3 || mid != 3 {
			t.Errorf("without %s: %d and %d", name, first, mid)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "a part of a line": second[:40]} {
		os.WriteFile(file(2), data, 0o600)
		if n := later(file(1)); n != 3 {
			t.Errorf("with %s in the second: %d", name, n)
		}
	}
	os.Remove(file(2))
	if n := later(file(1)); n != 3 {
		t.Errorf("without the second: %d", n)
	}
	third, _ := os.ReadFile(file(3))
	os.WriteFile(file(3), bytes.ReplaceAll(third, []byte(testRun), []byte("01ARZ3NDEKTSV4RRFFQ69G5FAA")), 0o600)
	if n := later(file(1)); n != 4 {
		t.Errorf("with the third of another run: %d", n)
	}
}

// TestReaderPipe: a log can come out of a pipe.
func TestReaderPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	go os.WriteFile(path, join(sampleLog(testRun)), 0)
	if v := verified(t, path); !v.Complete {
		t.Errorf("%+v", v)
	}
}
