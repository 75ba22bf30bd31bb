// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fullForATime is a log file whose disk is full between two writes.
type fullForATime struct {
	file
	good, bad int // writes that succeed, and after them writes that do not
}

func (d *fullForATime) Write(b []byte) (int, error) {
	switch {
	case d.good > 0:
		d.good--
	case d.bad > 0:
		d.bad--
		n, _ := d.file.Write(b[:len(b)/2])
		return n, unix.ENOSPC
	}
	return d.file.Write(b)
}

// goingOn returns a Recorder whose run goes on when its log fails, and has begun.
func goingOn(t *testing.T, good, bad int, copies ...Copy) (*Recorder, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Copies: copies, Run: testRun, Key: filepath.Join(t.TempDir(), "key"), Owner: os.Getuid(), Continue: true})
	if err != nil {
		t.Fatal(err)
	}
	r.log.file = &fullForATime{r.log.file, good, bad}
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	return r, path
}

// TestContinue: what a disk that was full did not take is counted, and the log goes on where it ended.
func TestContinue(t *testing.T) {
	t.Parallel() // it waits, more than it works
	read, write := pipe(t)
	lines := make(chan uint64)
	go func() {
		gone, _ := missing(t, read)
		lines <- gone
	}()
	r, path := goingOn(t, 3, 4, Copy{Stream: write})
	const sent = 10
	for i := range sent {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for goes := false; !goes; { // the next tick finds room
		r.Emit(denied(ClassNet, "host:1"))
		r.Flush()
		r.mu.Lock()
		goes = !r.shut
		r.mu.Unlock()
	}
	r.Emit(denied(ClassDNS, "after.example"))
	s, err := r.Close(End{Status: 7})
	if err != nil || s.Status != 7 {
		t.Fatalf("Close returned %v", err)
	}
	if len(s.Troubles) != 1 || s.Troubles[0].Copy != "" || s.Dropped == 0 {
		t.Errorf("the summary tells of %+v and %d dropped", s.Troubles, s.Dropped)
	}
	v, err := Verify(mustOpen(t, path), "")
	if err != nil || v.FirstBad != nil || !v.Complete || v.Failed != 1 || v.Dropped != s.Dropped || v.Head != s.Head || v.Signed != v.Events {
		t.Errorf("the log is %+v, %v (%v)", v, v.FirstBad, err)
	}
	counts := s.Counts[ClassFile][Deny] + s.Counts[ClassNet][Deny] + s.Counts[ClassDNS][Deny]
	if counts+s.Dropped != s.Denied || s.Counts[ClassDNS][Deny] != 1 {
		t.Errorf("%d recorded and %d dropped of %d denied", counts, s.Dropped, s.Denied)
	}
	if gone := <-lines; gone != 0 {
		t.Errorf("the copy lacks %d lines of the log", gone)
	}
}

// TestContinueToTheEnd: a disk that stays full leaves a log without an end, and no error.
func TestContinueToTheEnd(t *testing.T) {
	r, path := goingOn(t, 2, 1<<30)
	for i := range 10 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := r.Close(End{})
	if err != nil || len(s.Troubles) != 1 || s.Dropped == 0 {
		t.Errorf("Close returned %v, troubles %+v, %d dropped", err, s.Troubles, s.Dropped)
	}
	v, err := Verify(mustOpen(t, path), "")
	if err != nil || v.FirstBad != nil || v.Complete || v.CutOff || v.Events != s.Lines || v.Head != s.Head {
		t.Errorf("the log is %+v, %v (%v), and of the summary %d lines", v, v.FirstBad, err, s.Lines)
	}
}

// TestContinueBeginsWithALog: no run goes on of which nothing is on record.
func TestContinueBeginsWithALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for good, step := range []string{"Start", "Flush"} {
		os.Remove(path)
		r, err := Open(Options{Path: path, Run: testRun, Continue: true})
		if err != nil {
			t.Fatal(err)
		}
		r.log.file = &fullForATime{r.log.file, good, 1 << 30}
		if err = r.Start(nil); err == nil {
			r.Emit(denied(ClassFile, "/a"))
			err = r.Flush()
		} else if step != "Start" {
			t.Errorf("Start returned %v", err)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s returned %v", step, err)
		}
		r.Close(End{})
	}
}

// TestContinueWithoutCopies: copies that cannot be opened, or fail, are on record and end nothing.
func TestContinueWithoutCopies(t *testing.T) {
	read, write := pipe(t)
	read.Close()
	nowhere := filepath.Join(t.TempDir(), "no", "such")
	r, path := goingOn(t, 0, 0, Copy{Stream: write}, Copy{File: nowhere}, Copy{Syslog: nowhere})
	r.Emit(denied(ClassFile, "/a"))
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	s, err := r.Close(End{})
	if err != nil || len(s.Troubles) != 3 {
		t.Errorf("Close returned %v, troubles %+v", err, s.Troubles)
	}
	failed := map[string]bool{}
	for _, e := range wholeLog(t, path) {
		if e.Action == ActionSinkFailed {
			failed[e.Target] = true
		}
	}
	if !failed[nowhere] || !failed["syslog "+nowhere] {
		t.Errorf("the log tells of %v", failed)
	}
}

// TestLogRemoved: a log without a name is none.
func TestLogRemoved(t *testing.T) {
	r, path := started(t)
	os.Remove(path)
	<-r.Failed()
	if _, err := r.Close(End{}); !errors.Is(err, ErrRemoved) {
		t.Errorf("Close returned %v", err)
	}
	r, path = goingOn(t, 0, 0)
	os.Remove(path)
	s, err := r.Close(End{})
	if err != nil || len(s.Troubles) != 1 {
		t.Errorf("Close returned %v, troubles %+v", err, s.Troubles)
	}
}

// TestNamesAreNotCounted: a file system that counts no names tells nothing.
func TestNamesAreNotCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	r.log.named = false
	os.Remove(path)
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Close(End{}); err != nil {
		t.Errorf("Close returned %v", err)
	}
}
