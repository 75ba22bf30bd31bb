// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// badDisk is a log file whose disk fails.
type badDisk struct {
	file
	left int   // bytes that still fit
	err  error // of what does not
	sync error
}

func (d *badDisk) Write(b []byte) (int, error) {
	if len(b) <= d.left {
		d.left -= len(b)
		return d.file.Write(b)
	}
	n, err := d.file.Write(b[:d.left])
	d.left = 0
	return n, errors.Join(err, d.err)
}

func (d *badDisk) Sync() error { return errors.Join(d.sync, d.file.Sync()) }

// onBadDisk returns a Recorder of which output i is on a bad disk.
func onBadDisk(t *testing.T, i int, disk badDisk) (*Recorder, Options) {
	t.Helper()
	dir := t.TempDir()
	o := Options{Path: filepath.Join(dir, "log"), Copies: []Copy{{File: filepath.Join(dir, "copy")}}, Run: testRun}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	out := r.log
	if i > 0 {
		out = r.copies[i-1].sink.(*fileCopy).output
	}
	disk.file, out.file = out.file, &disk
	return r, o
}

// Containment check: Q08.
func TestDiskFull(t *testing.T) {
	r, o := onBadDisk(t, 0, badDisk{left: 2000, err: unix.ENOSPC})
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	const sent = 100
	for i := range sent {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
	}
	<-r.Failed()
	var fe *FileError
	if err := r.Err(); !errors.Is(err, unix.ENOSPC) || !errors.As(err, &fe) || fe.Path != o.Path {
		t.Errorf("the error is %v", err)
	}
	r.Emit(denied(ClassNet, "late:1"))
	s, err := r.Close(End{Status: 125})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Close returned %v", err)
	}
	report, err := Verify(mustOpen(t, o.Path), "")
	if err != nil || report.FirstBad != nil || report.CutOff || report.Complete {
		t.Errorf("the log is %+v, %v (%v), want whole lines and no end", report, report.FirstBad, err)
	}
	if report.Events != s.Lines || report.Head != s.Head {
		t.Errorf("the summary tells %d lines and head %s, the log has %d and %s", s.Lines, s.Head, report.Events, report.Head)
	}
	if lines := report.Events - 1; lines+s.Dropped != sent+1 || s.Denied != sent+1 {
		t.Errorf("%d written, %d dropped and %d denied of %d", lines, s.Dropped, s.Denied, sent+1)
	}
}

func TestStartOnABadDisk(t *testing.T) {
	r, _ := onBadDisk(t, 0, badDisk{err: unix.EIO})
	if err := r.Start(nil); !errors.Is(err, unix.EIO) {
		t.Errorf("Start returned %v", err)
	}
	r.Emit(denied(ClassFile, "/a"))
	if s, err := r.Close(End{}); err == nil || s.Dropped != 1 {
		t.Errorf("Close returned %v, %d dropped", err, s.Dropped)
	}
}

// TestFlush: after it an event is in the file, or the caller knows that it is not.
func TestFlush(t *testing.T) {
	r, path := started(t)
	r.Emit(denied(ClassFile, "/flushed"))
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(mustOpen(t, path), ""); err != nil || report.Events != 2 {
		t.Errorf("the log has %d lines after Flush (%v)", report.Events, err)
	}
	closed(t, r, path)

	r, _ = onBadDisk(t, 0, badDisk{left: 500, err: unix.ENOSPC})
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	r.Emit(denied(ClassFile, "/"+strings.Repeat("x", 500)))
	if err := r.Flush(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Flush returned %v", err)
	}
	r.Close(End{})
}

// TestSyncFails: the disk's word counts, once the run is long enough to ask for it.
// Containment check: Q08.
func TestSyncFails(t *testing.T) {
	r, _ := onBadDisk(t, 0, badDisk{left: 1 << 20, sync: unix.EIO})
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	<-r.Failed()
	if _, err := r.Close(End{}); !errors.Is(err, unix.EIO) {
		t.Errorf("Close returned %v", err)
	}
}

// TestBadCopy: the caller learns of it, and the log itself goes on to its end.
func TestBadCopy(t *testing.T) {
	r, o := onBadDisk(t, 1, badDisk{left: 1200, err: unix.ENOSPC})
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
	}
	<-r.Failed()
	var fe *FileError
	if !errors.As(r.Err(), &fe) || fe.Path != o.Copies[0].File {
		t.Errorf("the error is %v", r.Err())
	}
	s, err := r.Close(End{})
	if !errors.Is(err, unix.ENOSPC) || s.Dropped != 0 {
		t.Errorf("Close returned %v, %d dropped", err, s.Dropped)
	}
	if want := []Trouble{{Copy: o.Copies[0].File, Error: r.Err().Error()}}; !slices.Equal(s.Troubles, want) {
		t.Errorf("the summary tells of %+v, want %+v", s.Troubles, want)
	}
	events := wholeLog(t, o.Path)
	failed := slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Action != ActionSinkFailed })
	if len(events) != 13 || len(failed) != 1 || failed[0].Target != o.Copies[0].File {
		t.Errorf("the log has %d lines, and says of the copy %+v", len(events), failed)
	}
	if report, err := Verify(mustOpen(t, o.Copies[0].File), ""); err != nil || report.FirstBad != nil || report.CutOff || report.Complete {
		t.Errorf("the copy is %+v (%v)", report, err)
	}
}

// limitedArg makes the test binary write a log under a file size limit, which stands for a full disk (setrlimit(2)).
const limitedArg = "AGENTJAIL_TEST_LIMITED_LOG"

func TestMain(m *testing.M) {
	if path := os.Getenv(limitedArg); path != "" {
		limitedLog(path)
	}
	os.Exit(m.Run())
}

func limitedLog(path string) {
	signal.Ignore(unix.SIGXFSZ) // so that write(2) says EFBIG
	err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10_000, Max: 10_000})
	r, oerr := Open(Options{Path: path, Run: testRun})
	if err := errors.Join(err, oerr); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	r.Start(nil)
	for i := range 1000 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
	}
	s, err := r.Close(End{})
	fmt.Printf("%v %d %d %s", errors.Is(err, unix.EFBIG), s.Lines, s.Dropped, s.Head)
	os.Exit(0)
}

// Containment check: O03.
func TestRealDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), limitedArg+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report, err := Verify(mustOpen(t, path), "")
	if err != nil || report.FirstBad != nil || report.Complete || report.CutOff || report.Events < 10 {
		t.Errorf("the log is %+v, %v (%v)", report, report.FirstBad, err)
	}
	want := fmt.Sprintf("true %d %d %s", report.Events, 1000-(report.Events-1), report.Head)
	if string(out) != want {
		t.Errorf("the recorder said %s, want %s", out, want)
	}
}

func TestSummary(t *testing.T) {
	r, path := started(t)
	emit := func(n int, e Event) {
		for range n {
			r.Emit(e)
		}
	}
	secret := denied(ClassFile, "/home/u/.ssh/id_rsa\xff")
	secret.Severity, secret.Reason, secret.Exe = SeverityCredential, "not granted", "/bin/cat"
	noise := denied(ClassFile, "/etc/ld.so.preload")
	noise.Severity = SeverityNoise
	allowed := denied(ClassNet, "good.example:443")
	allowed.Decision = Allow
	emit(5, denied(ClassFile, "/b"))
	emit(2, secret)
	emit(9, denied(ClassNet, "evil.example:443"))
	emit(100, noise)
	emit(3, allowed)
	s, _ := closed(t, r, path)
	var got []string
	for _, d := range s.Top {
		got = append(got, fmt.Sprintf("%s %s %d", d.Class, d.Target, d.Count))
	}
	if want := []string{"file /home/u/.ssh/id_rsa\xff 2", "net evil.example:443 9", "file /b 5"}; !slices.Equal(got, want) {
		t.Errorf("top is %q, want %q", got, want)
	}
	if s.Denied != 16 || s.Noise != 100 || s.More != 0 || s.Counts[ClassFile][Deny] != 107 || s.Counts[ClassNet][Allow] != 3 {
		t.Errorf("summary %+v", s)
	}
	text, err := s.Top[0].MarshalJSON()
	want := `{"class":"file","action":"open-read","target":"/home/u/.ssh/id_rsa\\xff","severity":"credential","reason":"not granted","exe":"/bin/cat","count":2}`
	if err != nil || string(text) != want {
		t.Errorf("as JSON %s (%v)", text, err)
	}
}

func TestSummaryIsBounded(t *testing.T) {
	var ty tally
	for i := range 10_000 {
		ty.add(denied(ClassFile, fmt.Sprint(i)))
	}
	secret := denied(ClassFile, "/secret")
	secret.Severity = SeverityCredential
	ty.add(secret)
	top := ty.top()
	if len(top) != maxDenials+1 || top[0].Target != "/secret" || ty.more != 10_000-maxDenials || ty.denied != 10_001 {
		t.Errorf("%d denials, first %s, more %d, denied %d", len(top), top[0].Target, ty.more, ty.denied)
	}
	for i := range 1000 {
		secret.Target = fmt.Sprint("/secret/", i)
		ty.add(secret)
	}
	if len(ty.top()) != maxDenials+maxCredentials {
		t.Errorf("%d denials", len(ty.top()))
	}
}

func TestSummaryNamesWhatWasNotReached(t *testing.T) {
	var ty tally
	failed := func(target, reason string) {
		ty.add(Event{Class: ClassNet, Action: ActionDialFailed, Decision: Report, Target: target, Reason: reason})
	}
	failed("a:443", "refused")
	ty.add(Event{Class: ClassNet, Action: ActionHandshakeFailed, Decision: Report, Target: "d:443", Reason: "alert"})
	ty.add(Event{Class: ClassNet, Action: "tcp.connect", Decision: Report, Target: "b:80"})
	failed("a:443", "too late")
	for i := range 2 * maxFailures {
		failed(fmt.Sprint("c:", i), "refused")
	}
	if len(ty.failures) != maxFailures || ty.failures[0] != (Failure{Target: "a:443", Reason: "too late", Count: 2}) || ty.denied != 0 {
		t.Errorf("%d failures, the first %+v; %d denied", len(ty.failures), ty.failures[0], ty.denied)
	}
	if want := []Failure{{Target: "d:443", Reason: "alert", Count: 1}}; !slices.Equal(ty.unaccepted, want) {
		t.Errorf("not accepted: %+v", ty.unaccepted)
	}
}

func TestFileErrorIsPrintable(t *testing.T) {
	_, err := Open(Options{Path: "/nowhere/\x1b[2J/log", Run: testRun})
	if err == nil || strings.ContainsRune(err.Error(), '\x1b') || !bytes.Contains([]byte(err.Error()), []byte("no such file")) {
		t.Errorf("error %q", err)
	}
}
