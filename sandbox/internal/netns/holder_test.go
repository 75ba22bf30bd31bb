// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// socket opens one, and returns what /proc says of it.
func socket(t *testing.T) (file *os.File, link string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file = os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { file.Close() })
	link, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	return file, link
}

func namespaceOf(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestHolders: sockets are found where others of the process were, or at the next descriptor, and nowhere else.
func TestHolders(t *testing.T) {
	var hs holders
	defer hs.close()
	namespace, pid := namespaceOf(t), os.Getpid()
	file, link := socket(t)
	first := int(file.Fd())
	if got := hs.again(link, namespace); got != 0 {
		t.Errorf("a socket is found in process %d before any was", got)
	}
	hs.add(pid, first)
	if got := hs.again(link, namespace); got != pid {
		t.Errorf("the socket is found in process %d, want %d", got, pid)
	}
	if got := hs.again(link, namespace+1); got != 0 {
		t.Errorf("the socket is found in process %d of another namespace", got)
	}
	if err := unix.Dup3(first, first+1000, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	file.Close()
	defer unix.Close(first + 1000)
	if got := hs.again(link, namespace); got != 0 {
		t.Errorf("the socket is found in process %d where none was before", got)
	}
	hs.add(pid, first+999)
	if got := hs.again(link, namespace); got != pid || len(hs) != 1 {
		t.Errorf("the socket at the next descriptor is found in process %d, want %d; %d processes are remembered", got, pid, len(hs))
	}
	if got := hs[0].places; !slices.Equal(got, []int{first + 1000, first + 999, first}) {
		t.Errorf("the places are %v", got)
	}
}

// TestHoldersEnd: a process that has ended holds nothing, and only the latest processes are remembered.
func TestHoldersEnd(t *testing.T) {
	var hs holders
	defer hs.close()
	file, link := socket(t)
	var last int
	for range maxRecent + 2 {
		c := exec.Command("sleep", "1000")
		c.ExtraFiles = []*os.File{file} // as descriptor 3
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		last = c.Process.Pid
		defer c.Wait()
		defer c.Process.Kill()
		hs.add(last, 3)
	}
	if len(hs) != maxRecent || hs[0].pid != last {
		t.Errorf("%d processes are remembered, the latest is %d; want %d and %d", len(hs), hs[0].pid, maxRecent, last)
	}
	if got := hs.again(link, namespaceOf(t)); got != last {
		t.Errorf("the socket is found in process %d, want %d", got, last)
	}
	for _, h := range hs {
		unix.Kill(h.pid, unix.SIGKILL)
		if err := unix.Waitid(unix.P_PID, h.pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := hs.again(link, namespaceOf(t)); got != 0 {
		t.Errorf("the socket is found in process %d, which has ended", got)
	}
}

func TestToFront(t *testing.T) {
	var list []int
	for _, item := range []int{1, 2, 3, 2, 4} {
		list = toFront(list, item, 3)
	}
	if want := []int{4, 2, 3}; !slices.Equal(list, want) {
		t.Errorf("%v, want %v", list, want)
	}
}
