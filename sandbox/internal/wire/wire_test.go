// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := New(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func TestMessageAndFile(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		a.Send("first", map[string]int{"n": 7}, w)
		w.Close()
		a.Send("second", strings.Repeat("x", 1<<20))
		a.Close()
	}()
	m, err := b.Recv()
	if err != nil || m.Kind != "first" || len(m.Files) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	var body map[string]int
	if err := m.Decode(&body); err != nil || body["n"] != 7 {
		t.Fatalf("body %v, %v", body, err)
	}
	if _, err := m.Files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if got, _ := io.ReadAll(r); string(got) != "through" {
		t.Errorf("the file that came is another one: %q", got)
	}
	m, err = b.Recv()
	var long string
	if err != nil || m.Decode(&long) != nil || len(long) != 1<<20 {
		t.Fatalf("second: %v, %d bytes", err, len(long))
	}
	if _, err := b.Recv(); err != io.EOF {
		t.Errorf("after the end: %v, want io.EOF", err)
	}
}

// TestTogether: messages that have come at one time are told apart, each with its own files; and what is no message is an error.
func TestTogether(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	a.Send("one", 1)
	a.Send("two", 2, r)
	a.Send("three", 3)
	a.Send("four", 4, r, w)
	a.Send("five", 5)
	for i, want := range []struct {
		kind  string
		files int
		waits bool
	}{{"one", 0, true}, {"two", 1, false}, {"three", 0, true}, {"four", 2, false}, {"five", 0, false}} {
		m, err := b.Recv()
		var n int
		if err != nil || m.Kind != want.kind || len(m.Files) != want.files || m.Decode(&n) != nil || n != i+1 {
			t.Fatalf("got %+v, %v; want %+v", m, err, want)
		}
		m.Close()
		// A read ends behind the header that files ride on.
		if want.kind != "two" && want.kind != "four" && b.Waits() != want.waits {
			t.Errorf("after %s: waits is %v", want.kind, b.Waits())
		}
	}
	a.socket.Write([]byte{0, 0})
	a.Close()
	if _, err := b.Recv(); err != io.ErrUnexpectedEOF {
		t.Errorf("half a header: %v", err)
	}
}

// TestStrayFiles: a message that says it brings none, or more than came.
func TestStrayFiles(t *testing.T) {
	for said, came := range map[uint32]int{0: 1, 2: 1, 1: 0} {
		a, b := pair(t)
		frame, err := frameOf("x", said, int(said))
		if err != nil {
			t.Fatal(err)
		}
		var fds []int
		for range came {
			fds = append(fds, int(os.Stdin.Fd()))
		}
		if _, _, err := a.socket.WriteMsgUnix(frame, unix.UnixRights(fds...), nil); err != nil {
			t.Fatal(err)
		}
		if m, err := b.Recv(); err == nil || !strings.Contains(err.Error(), "files came") {
			t.Errorf("%d files for %d: %+v, %v", came, said, m, err)
		}
		if len(b.files) > 0 {
			t.Errorf("%d files for %d: %d stay open", came, said, len(b.files))
		}
	}
}

func TestConcurrentSenders(t *testing.T) {
	a, b := pair(t)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for i := range each {
				if err := a.Send("n", i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	got := 0
	for range senders * each {
		m, err := b.Recv()
		var n int
		if err != nil || m.Decode(&n) != nil {
			t.Fatal(err)
		}
		got += n
	}
	wg.Wait()
	if want := senders * each * (each - 1) / 2; got != want {
		t.Errorf("sum %d, want %d", got, want)
	}
}

func TestBounds(t *testing.T) {
	a, b := pair(t)
	if err := a.Send("big", strings.Repeat("x", MaxBody)); err == nil {
		t.Error("a message above the bound was sent")
	}
	if err := a.Send("files", 0, make([]*os.File, MaxFiles+1)...); err == nil {
		t.Error("too many files were sent")
	}
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[:], MaxBody+1)
	if _, err := a.socket.Write(header[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Recv(); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a header above the bound: %v", err)
	}
}

// TestTrySend: what would wait is not sent, and nothing of it; all that was comes whole.
func TestTrySend(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := New(file)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if ours.TrySend("long", strings.Repeat("x", maxTry)) {
		t.Error("a message was sent that the kernel may take in part")
	}
	sent := 0
	for ; ours.TrySend("x", strings.Repeat("x", sent%20000)); sent += 100 {
		if sent > 1<<30 {
			t.Fatal("it is never full")
		}
	}
	for n := 0; n < sent; n += 100 {
		m, err := theirs.Recv()
		var body string
		if err != nil || m.Decode(&body) != nil || len(body) != n%20000 {
			t.Fatalf("message %d: %v, %d bytes", n/100, err, len(body))
		}
	}
	if !ours.TrySend("x", "last") {
		t.Error("there is room again")
	}
}

// TestWaits: who has read one message of many is told of the others, also where the last of what was read at one time is short of its end.
func TestWaits(t *testing.T) {
	a, b := pair(t)
	const messages = 2 * readSize / 1000
	for i := range messages {
		if err := a.Send("x", strings.Repeat("x", 1000-headerSize-len(`x ""`))); err != nil {
			t.Fatal(i, err)
		}
	}
	for i := range messages {
		if _, err := b.Recv(); err != nil {
			t.Fatal(err)
		}
		if waits := b.Waits(); waits != (i < messages-1) {
			t.Errorf("after message %d of %d: %v", i+1, messages, waits)
		}
	}
}
