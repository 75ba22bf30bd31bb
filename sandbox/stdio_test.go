// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, domain, kind int) *os.File {
	t.Helper()
	fds, err := unix.Socketpair(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	return closing(t, os.NewFile(uintptr(fds[0]), "pair"))
}

func lone(t *testing.T, domain, kind int) *os.File {
	t.Helper()
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, os.NewFile(uintptr(fd), "socket"))
}

func opened(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, f)
}

func closing(t *testing.T, f *os.File) *os.File {
	t.Cleanup(func() { f.Close() })
	return f
}

func connection(t *testing.T) *os.File {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, f)
}

// A standard file that leads out of the run is refused, for each of the three; what programs give their children is not.
func TestStdio(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		file *os.File
		fine bool
	}{
		"none":               {nil, true},
		"pipe":               {closing(t, reader), true},
		"pipe's other end":   {closing(t, writer), true},
		"file":               {opened(t, "/proc/self/exe"), true},
		"device":             {opened(t, "/dev/null"), true},
		"unix stream pair":   {pair(t, unix.AF_UNIX, unix.SOCK_STREAM), true},
		"unix packet pair":   {pair(t, unix.AF_UNIX, unix.SOCK_SEQPACKET), true},
		"directory":          {opened(t, "/"), false},
		"unix datagram pair": {pair(t, unix.AF_UNIX, unix.SOCK_DGRAM), false},
		"unconnected unix":   {lone(t, unix.AF_UNIX, unix.SOCK_STREAM), false},
		"unconnected tcp":    {lone(t, unix.AF_INET, unix.SOCK_STREAM), false},
		"udp":                {lone(t, unix.AF_INET6, unix.SOCK_DGRAM), false},
		"tcp connection":     {connection(t), false},
	} {
		for i, o := range []Options{{Stdin: tt.file}, {Stdout: tt.file}, {Stderr: tt.file}} {
			err := checkStdio(o)
			var refused *RequestError
			if (err == nil) != tt.fine || err != nil && !errors.As(err, &refused) {
				t.Errorf("%s as file %d: %v", name, i, err)
			}
		}
	}
}
