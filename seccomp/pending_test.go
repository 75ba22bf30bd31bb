// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full makes a socket at path that takes no more connections.
func full(t *testing.T, path string) {
	t.Helper()
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(listener) })
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
		case nil:
		case unix.EAGAIN:
			return
		default:
			t.Fatal(err)
		}
	}
}

// TestConnectEndsWithItsCaller: it goes on while its caller waits, whatever signal comes, and ends when the caller is gone.
// Containment check: G10.
func TestConnectEndsWithItsCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	full(t, path)
	var gone atomic.Bool
	p, err := newPending(func(uint64) bool { return !gone.Load() })
	if err != nil {
		t.Fatal(err)
	}
	const id = 7
	if !p.enter(id) {
		t.Fatal("there is no place for the first")
	}
	var tries atomic.Int32
	ended := make(chan unix.Errno, 1)
	go func() {
		ended <- p.do(id, func() unix.Errno {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return unix.ENOTSOCK
			}
			defer unix.Close(fd)
			tries.Add(1)
			return errnoOf(unix.Connect(fd, &unix.SockaddrUnix{Name: path}))
		})
	}()
	deadline := time.Now().Add(20 * time.Second)
	for tries.Load() < 2 && time.Now().Before(deadline) { // until it was interrupted, and began again
		p.mu.Lock()
		if tid := p.threads[id]; tid != 0 {
			unix.Tgkill(unix.Getpid(), tid, interrupt)
		}
		p.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	if tries.Load() < 2 {
		t.Fatal("the signal ends no call")
	}
	select {
	case errno := <-ended:
		t.Fatalf("it ended with %v while its caller waits", errno)
	case <-time.After(3 * lookAfter):
	}
	gone.Store(true)
	select {
	case errno := <-ended:
		if errno != unix.EINTR {
			t.Errorf("it ended with %v", errno)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on without its caller")
	}
	for end := time.Now().Add(20 * time.Second); p.isLooking(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still looked after")
		}
	}
}

func (p *pending) isLooking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looking || len(p.threads) > 0
}

// TestPlaces: there are as many as there may be, and each is given back.
func TestPlaces(t *testing.T) {
	p, err := newPending(func(uint64) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	p.places = 5
	for id := range uint64(5) {
		if !p.enter(id) {
			t.Fatalf("there are %d places", id)
		}
	}
	if p.enter(5) {
		t.Error("there are more than 5 places")
	}
	if errno := p.do(3, func() unix.Errno { return unix.ECONNREFUSED }); errno != unix.ECONNREFUSED {
		t.Errorf("the call's own error became %v", errno)
	}
	if !p.enter(5) {
		t.Error("the place was not given back")
	}
}

// The places leave files for everything else.
func TestPlacesFor(t *testing.T) {
	for files, want := range map[uint64]int{0: 1, 64: 4, 1024: 64, 8192: 512, 1 << 20: maxConnects} {
		if got := placesFor(files); got != want {
			t.Errorf("%d files: %d places, want %d", files, got, want)
		}
	}
}

// A connect without a place is refused, and recorded: it may be one that would have been denied.
func TestConnectWithoutPlace(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		p := j.supervisor.connects
		const first = 1 << 62 // no notification has such a number
		for id := uint64(first); p.enter(id); id++ {
		}
		j.expect(step{Call: "connect4", N: 1}, "EAGAIN", "syscall connect connect EAGAIN")
		p.end(first)
		j.expect(step{Call: "connect4", N: 1}, "ENETUNREACH") // lo is down in the victim's namespace
	})
}
