// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSpecEncoding(t *testing.T) {
	s := Spec{
		Argv: []string{"a", "", "\xff\n"}, Env: []string{"A=1", "B"}, Dir: "/d", UID: 1, GID: 4294967294, Umask: 0o777, Slack: 70000,
		Terminal: true, Foreground: true, Filter: []SockFilter{{1, 2, 3, 4}, {0xffff, 0xff, 0xfe, 0xfffffffd}},
		Landlock: Landlock{Write: []string{"/w"}}, Rlimits: []Rlimit{{7, 1, ^uint64(0)}},
	}
	got, err := decodeSpec(s.encode())
	if err != nil || !reflect.DeepEqual(*got, s) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, s)
	}
	whole := s.encode()
	for n := range whole {
		if _, err := decodeSpec(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a spec", n, len(whole))
		}
	}
	if _, err := decodeSpec(append(whole, 0)); err == nil {
		t.Error("a spec with something behind it")
	}
}

func TestMessages(t *testing.T) {
	for _, m := range []message{
		{kind: kindStarted, pid: 2, abi: 7},
		{kind: kindFailed, step: StepFilter, errno: unix.ENOSYS, detail: "x"},
		{kind: kindStopped, signal: unix.SIGTSTP},
		{kind: kindContinued},
		{kind: kindExited, code: 255},
		{kind: kindExited, signal: unix.SIGKILL},
		{kind: kindSignal, signal: 64},
		{kind: kindAwake},
		{kind: kindContinue},
		{kind: kindContinue, foreground: true},
	} {
		data, err := readFrame(bytes.NewReader(m.encode()), maxToParent)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeMessage(data); err != nil || got != m {
			t.Errorf("got %+v, %v, want %+v", got, err, m)
		}
	}
}

func TestMessagesRefused(t *testing.T) {
	var long encoder
	long.u32(uint32(StepDir))
	long.u32(0)
	long.str(strings.Repeat("x", maxDetail+1))
	for name, data := range map[string][]byte{
		"empty":            {},
		"no kind":          {0},
		"unknown kind":     {99},
		"a spec":           {byte(kindSpec)},
		"short":            {byte(kindStopped), 0, 0, 0},
		"long":             {byte(kindContinued), 0},
		"signal 0":         {byte(kindStopped), 0, 0, 0, 0},
		"signal 65":        {byte(kindStopped), 0, 0, 0, 65},
		"awake with more":  {byte(kindAwake), 0},
		"code 256":         {byte(kindExited), 0, 0, 1, 0, 0, 0, 0, 0},
		"code and signal":  {byte(kindExited), 0, 0, 0, 1, 0, 0, 0, 9},
		"pid 1":            {byte(kindStarted), 0, 0, 0, 1, 0, 0, 0, 1},
		"negative pid":     {byte(kindStarted), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
		"no Landlock":      {byte(kindStarted), 0, 0, 0, 2, 0, 0, 0, 0},
		"step 0":           {byte(kindFailed), 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"errno 4096":       {byte(kindFailed), 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 0},
		"detail too long":  append([]byte{byte(kindFailed)}, long...),
		"detail cut short": {byte(kindFailed), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 'x'},
		"detail of 4 GiB":  {byte(kindFailed), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
	} {
		if m, err := decodeMessage(data); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, header := range [][]byte{{0, 0, 0, 0}, {0, 0, 4, 1}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 9, 1}, {0, 0}} {
		if data, err := readFrame(bytes.NewReader(header), maxToParent); err == nil {
			t.Errorf("frame % x: %q", header, data)
		}
	}
	if s := clean("a\x1b[31mb\u202ec\n\xff/hällo"); s != "a?[31mb?c??/hällo" {
		t.Errorf("clean: %q", s)
	}
}

// hostile is a Parent whose stage is the test.
func hostile(t testing.TB) (*Parent, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewParent(os.NewFile(uintptr(fds[0]), "supervisor"))
	if err != nil {
		t.Fatal(err)
	}
	stage := os.NewFile(uintptr(fds[1]), "stage")
	t.Cleanup(func() { p.Close(); stage.Close() })
	return p, stage
}

// play runs the stage's part, and gives the wait for its end.
func play(part func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		part()
	}()
	return func() { <-done }
}

// takeSpec plays the stage's part of the beginning, and gives the hand-over.
func takeSpec(t testing.TB, stage *os.File) *os.File {
	t.Helper()
	stage.Write(message{kind: kindAwake}.encode())
	data, fd, err := socket(stage.Fd()).first()
	if err != nil || kind(data[0]) != kindSpec {
		t.Errorf("no spec: %v", err)
	}
	return os.NewFile(uintptr(fd), "hand-over")
}

func expectAnswer(t testing.TB, what string, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Step != StepAnswer || e.ExitCode() != 125 {
		t.Errorf("%s: %v, want an error of the step %q", what, err, StepAnswer)
	}
}

// Containment check: G14.
func TestParentAgainstNonsense(t *testing.T) {
	started := message{kind: kindStarted, pid: 2, abi: 1}.encode()
	listenerReport := make([]byte, reportSize)
	listenerReport[0] = reportListener
	for name, c := range map[string]struct{ stream, report []byte }{
		"nothing":                {nil, nil},
		"out of turn":            {message{kind: kindContinued}.encode(), nil},
		"awake again":            {message{kind: kindAwake}.encode(), nil},
		"a message for a stage":  {message{kind: kindSignal, signal: 1}.encode(), nil},
		"half a message":         {started[:5], nil},
		"no report":              {started, nil},
		"a short report":         {started, []byte{1}},
		"a long report":          {started, make([]byte, 99)},
		"a report of no file":    {started, listenerReport},
		"a report of no failure": {started, append([]byte{reportFailed}, make([]byte, 15)...)},
	} {
		p, stage := hostile(t)
		wait := play(func() {
			h := takeSpec(t, stage)
			stage.Write(c.stream)
			if c.report != nil {
				h.Write(c.report)
			}
			h.Close()
			stage.Close()
		})
		_, err := p.Prepare(shellSpec("exit 0"))
		expectAnswer(t, name, err)
		wait()
	}
}

// TestParentHasPatience (G14): a stage that stops answering, wherever in the beginning, ends the start. Each of these would otherwise
// wait for good, since the stage keeps its ends open.
func TestParentHasPatience(t *testing.T) {
	for name, part := range map[string]func(stage *os.File){
		"before it is awake": func(*os.File) {},
		"before it starts":   func(stage *os.File) { takeSpec(t, stage) },
		"before it hands the listener over": func(stage *os.File) {
			handOver := takeSpec(t, stage)
			t.Cleanup(func() { handOver.Close() })
			stage.Write(message{kind: kindStarted, pid: 2, abi: 1}.encode())
		},
	} {
		p, stage := hostile(t)
		p.patience = 500 * time.Millisecond
		wait := play(func() { part(stage) })
		_, err := p.Prepare(shellSpec("exit 0"))
		expectAnswer(t, name, err)
		if !errors.Is(err, unix.ETIMEDOUT) {
			t.Errorf("%s: %v", name, err)
		}
		p.Close()
		wait()
	}
}

// TestParentGivesNothingToAStageThatIsNotAwake: no Spec is sent before.
func TestParentGivesNothingToAStageThatIsNotAwake(t *testing.T) {
	for name, stream := range map[string][]byte{
		"nothing":      nil,
		"out of turn":  message{kind: kindStarted, pid: 2, abi: 1}.encode(),
		"half a word":  message{kind: kindAwake}.encode()[:4],
		"no such word": {0, 0, 0, 1, 99},
	} {
		p, stage := hostile(t)
		stage.Write(stream)
		unix.Shutdown(int(stage.Fd()), unix.SHUT_WR)
		_, err := p.Prepare(shellSpec("exit 0"))
		expectAnswer(t, name, err)
		p.Close()
		if b, _ := io.ReadAll(stage); len(b) > 0 {
			t.Errorf("%s: the stage was given %d bytes", name, len(b))
		}
	}
}

// TestParentTakesNoOtherFile: a file that is no listener, and files that ride where none belong.
func TestParentTakesNoOtherFile(t *testing.T) {
	p, stage := hostile(t)
	null, _ := os.Open("/dev/null")
	defer null.Close()
	before := openCount(t)
	wait := play(func() {
		h := takeSpec(t, stage)
		rights := unix.UnixRights(int(null.Fd()), int(null.Fd()), int(null.Fd()))
		unix.Sendmsg(int(stage.Fd()), message{kind: kindStarted, pid: 2, abi: 1}.encode(), rights, nil, 0)
		report := make([]byte, reportSize)
		report[0] = reportListener
		unix.Sendmsg(int(h.Fd()), report, rights, nil, 0)
		h.Close()
	})
	_, err := p.Prepare(shellSpec("exit 0"))
	expectAnswer(t, "null as a listener", err)
	wait()
	p.Close()
	if after := openCount(t); after > before {
		t.Errorf("%d files open before, %d after", before, after)
	}
}

func openCount(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestParentClosedWhileWaiting(t *testing.T) {
	p, _ := hostile(t)
	if p.Signal(syscall.SIGTERM) == nil {
		t.Error("a signal was sent before the spec")
	}
	done := make(chan error, 1)
	go func() { _, err := p.Wait(nil); done <- err }()
	p.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a status out of nowhere")
		}
	case <-time.After(hang):
		t.Error("Wait does not return")
	}
	if p.Signal(syscall.SIGTERM) == nil {
		t.Error("a signal was sent to nobody")
	}
}

func TestNewParentRefuses(t *testing.T) {
	null, _ := os.Open("/dev/null")
	if _, err := NewParent(null); err == nil {
		t.Error("a file is no socket")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	if p, err := NewParent(os.NewFile(uintptr(fds[0]), "")); err == nil {
		_, err := p.Prepare(shellSpec("exit 0"))
		expectAnswer(t, "a stage that never was", err)
		p.Close()
	}
}

// FuzzParent feeds a Parent with what a stage that was taken over could say, on both sockets.
// Containment checks: P01.
func FuzzParent(f *testing.F) {
	f.Add(message{kind: kindStarted, pid: 2, abi: 7}.encode(), []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	f.Add(message{kind: kindFailed, step: StepDir, errno: 2, detail: "/x"}.encode(), []byte{2})
	f.Add(append(message{kind: kindStopped, signal: 19}.encode(), message{kind: kindExited, code: 3}.encode()...), []byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, []byte{2, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream, report []byte) {
		stream, report = stream[:min(len(stream), 64<<10)], report[:min(len(report), 4<<10)]
		prepareAgainst(t, stream, report)
		waitAgainst(t, stream)
	})
}

func prepareAgainst(t *testing.T, stream, report []byte) {
	p, stage := hostile(t)
	wait := play(func() {
		h := takeSpec(t, stage)
		h.Write(report)
		h.Close()
		stage.Write(stream)
		stage.Close()
	})
	_, err := p.Prepare(shellSpec("exit 0"))
	var e *Error
	if !errors.As(err, &e) || len(err.Error()) > 2*maxDetail {
		t.Errorf("%T %v: ready without a listener, or an endless message", err, err)
	}
	p.Close()
	wait()
}

func waitAgainst(t *testing.T, stream []byte) {
	p, stage := hostile(t)
	wait := play(func() {
		stage.Write(stream)
		stage.Close()
	})
	st, err := p.Wait(func(ev Event) {
		if ev.Kind != Stopped && ev.Kind != Continued || ev.Kind == Stopped && !validSignal(ev.Signal) {
			t.Errorf("event %+v", ev)
		}
	})
	if code := st.ExitCode(); code < 0 || code > 255 || err != nil && st != (Status{}) {
		t.Errorf("status %+v, %v", st, err)
	}
	p.Close()
	wait()
}

// FuzzSpec: a spec that decodes encodes to the same bytes.
func FuzzSpec(f *testing.F) {
	s := shellSpec("exit 0")
	f.Add(s.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeSpec(data)
		if err != nil {
			return
		}
		again, err := decodeSpec(got.encode())
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}
