// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copied returns a Recorder with one copy, started.
func copied(t *testing.T, c Copy) (r *Recorder, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Copies: []Copy{c}, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(nil); err != nil {
		t.Fatal(err)
	}
	return r, path
}

// caughtUp waits until the reader of a Recorder's one copy has what there is: the end of a run gives it a few seconds, which a loaded
// machine may need for more.
func caughtUp(t *testing.T, r *Recorder) {
	t.Helper()
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	for q := r.copies[0].sink.(*queue); ; time.Sleep(time.Millisecond) {
		q.mu.Lock()
		done := len(q.pending) == 0 && q.sending == 0
		q.mu.Unlock()
		if done {
			return
		}
	}
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// TestStream: whoever reads the stream gets the lines of the log.
func TestStream(t *testing.T) {
	read, write := pipe(t)
	got := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(read)
		got <- data
	}()
	r, path := copied(t, Copy{Stream: write})
	for i := range 100 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", i)))
	}
	caughtUp(t, r)
	s, _ := closed(t, r, path)
	want, _ := os.ReadFile(path)
	if data := <-got; !bytes.Equal(data, want) || len(s.Troubles) > 0 {
		t.Errorf("the stream has %d bytes, the log %d; troubles %v", len(data), len(want), s.Troubles)
	}
}

// TestShared: a file that others write to as well stays open, and what they have begun takes no line with it.
func TestShared(t *testing.T) {
	read, write := pipe(t)
	write.WriteString("begun")
	r, path := copied(t, Copy{Shared: write})
	caughtUp(t, r)
	write.WriteString(`{"seq":`)
	r.Emit(denied(ClassFile, "/a"))
	caughtUp(t, r)
	closed(t, r, path)
	if _, err := write.WriteString("ended"); err != nil {
		t.Fatal(err)
	}
	write.Close()
	data, _ := io.ReadAll(read)
	var lines []byte
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte(`{"seq":`)) && bytes.HasSuffix(line, []byte("}\n")) {
			lines = append(lines, line...)
		}
	}
	if want, _ := os.ReadFile(path); !bytes.Equal(lines, want) || !bytes.HasPrefix(data, []byte("begun\n{")) || !bytes.HasSuffix(data, []byte("\nended")) {
		t.Errorf("the stream has %q", data)
	}
}

// missing counts the sequence numbers that a stream of lines leaves out.
func missing(t *testing.T, lines io.Reader) (gone uint64, dropped []sinkDetail) {
	t.Helper()
	seq := uint64(0)
	in := bufio.NewScanner(lines)
	in.Buffer(nil, MaxLine)
	for in.Scan() {
		var e Event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			t.Fatalf("%v: %q", err, in.Text())
		}
		gone += e.Seq - seq - 1
		if seq = e.Seq; e.Action == ActionSinkDropped {
			var d sinkDetail
			if err := json.Unmarshal(e.Detail, &d); err != nil {
				t.Fatal(err)
			}
			dropped = append(dropped, d)
		}
		if e.Action == ActionEnd {
			return gone, dropped
		}
	}
	t.Fatal("the stream has no run.end")
	return 0, nil
}

// TestStreamThatStandsStill: a reader that reads nothing holds nothing up, and learns what it missed.
func TestStreamThatStandsStill(t *testing.T) {
	t.Parallel() // it waits, more than it works
	read, write := pipe(t)
	r, path := copied(t, Copy{Stream: write})
	long := strings.Repeat("x", MaxTarget-10)
	for i := range 2000 { // 8 MB
		r.Emit(denied(ClassFile, fmt.Sprint("/", long, i)))
		if i%100 == 0 {
			if err := r.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	type result struct {
		gone    uint64
		dropped []sinkDetail
	}
	done := make(chan result)
	go func() {
		gone, dropped := missing(t, read)
		done <- result{gone, dropped}
	}()
	caughtUp(t, r)
	s, _ := closed(t, r, path)
	got := <-done
	if len(got.dropped) == 0 || got.gone == 0 {
		t.Fatalf("%d lines are missing, and the stream tells of %v", got.gone, got.dropped)
	}
	if last := got.dropped[len(got.dropped)-1]; last.Total != got.gone {
		t.Errorf("%d lines are missing, and the stream tells of %d", got.gone, last.Total)
	}
	if len(s.Troubles) != 1 || s.Troubles[0].Lines != got.gone || s.Troubles[0].Error != "" {
		t.Errorf("the summary tells of %+v", s.Troubles)
	}
}

// TestStreamThatNobodyEverReads: the end of the run waits for a while, and then does without.
func TestStreamThatNobodyEverReads(t *testing.T) {
	t.Parallel() // it waits, more than it works
	_, write := pipe(t)
	r, path := copied(t, Copy{Stream: write})
	for i := range 100 {
		r.Emit(denied(ClassFile, fmt.Sprint("/", strings.Repeat("x", 4000), i)))
	}
	s, events := closed(t, r, path)
	// The pipe has room for 16 of them. What was written last counts as lost as a whole.
	if len(s.Troubles) != 1 || s.Troubles[0].Error != "" || s.Troubles[0].Lines < uint64(len(events)-17) {
		t.Errorf("of %d lines the summary says %+v", len(events), s.Troubles)
	}
}

// TestStreamThatIsClosed: that is a failure, and the log says so.
func TestStreamThatIsClosed(t *testing.T) {
	read, write := pipe(t)
	r, path := copied(t, Copy{Stream: write})
	read.Close()
	r.Emit(denied(ClassFile, "/a"))
	<-r.Failed()
	var se *SinkError
	if err := r.Err(); !errors.As(err, &se) || !errors.Is(err, unix.EPIPE) {
		t.Errorf("the error is %v", err)
	}
	s, err := r.Close(End{})
	if !errors.Is(err, unix.EPIPE) || len(s.Troubles) != 1 || s.Troubles[0].Error == "" {
		t.Errorf("Close returned %v, troubles %+v", err, s.Troubles)
	}
	events := wholeLog(t, path)
	if e := events[len(events)-2]; e.Action != ActionSinkFailed {
		t.Errorf("before the end the log has %+v", e)
	}
}

// daemon is a syslog daemon.
func daemon(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	packet := make([]byte, MaxLine)
	n, err := conn.Read(packet)
	if err != nil {
		t.Fatal(err)
	}
	return string(packet[:n])
}

func TestSyslog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	first := daemon(t, socket)
	r, path := copied(t, Copy{Syslog: socket})
	form := regexp.MustCompile(`^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d agentjail\[\d+\]: (\{.*\})$`)
	says := func(packet, priority, text string) {
		t.Helper()
		m := form.FindStringSubmatch(packet)
		if m == nil || m[1] != priority || !strings.Contains(m[2], text) {
			t.Errorf("the daemon got %q, want priority %s and %q", packet, priority, text)
		}
	}
	says(heard(t, first), "13", ActionStart)
	r.Emit(denied(ClassFile, "/a\nb"))
	says(heard(t, first), "12", `"/a\nb"`)
	r.Emit(Event{Class: ClassFile, Action: "stat", Decision: Deny, Severity: SeverityCredential})
	says(heard(t, first), "11", "credential")

	// A daemon that is started anew gets what came meanwhile.
	first.Close()
	os.Remove(socket)
	r.Emit(denied(ClassFile, "/meanwhile"))
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	second := daemon(t, socket)
	says(heard(t, second), "12", "/meanwhile")
	s, _ := closed(t, r, path)
	says(heard(t, second), "13", ActionEnd)
	if len(s.Troubles) > 0 {
		t.Errorf("troubles %+v", s.Troubles)
	}
}

func TestNoSyslog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	_, err := Open(Options{Path: path, Copies: []Copy{{Syslog: filepath.Join(dir, "none")}}, Run: testRun})
	var se *SinkError
	if !errors.As(err, &se) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open returned %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the log was left behind")
	}
}
