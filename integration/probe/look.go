// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fds prints the files that the process was started with. The Go runtime opens the CPU limits of its cgroup before main
// (since 1.25, for GOMAXPROCS); these are left out.
func fds([]string) error {
	for fd := range 1024 {
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(filepath.Base(target), "cpu.") {
			continue
		}
		fmt.Printf("%d %s\n", fd, target)
	}
	return nil
}

// namespaces prints the identity of each namespace.
func namespaces([]string) error {
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		target, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return err
		}
		fmt.Println(target)
	}
	return nil
}

// sockets prints every socket file that can be seen from the root.
func sockets([]string) error {
	return filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
		if path == "/proc" {
			return fs.SkipDir
		}
		if err == nil && entry.Type() == fs.ModeSocket {
			fmt.Println(path)
		}
		return nil
	})
}

const patience = 5 * time.Second

// dial judges at the application: what counts is the line that the server sent.
func dial(args []string) error {
	if len(args) < 2 {
		return errors.New("which network and address?")
	}
	conn, err := net.DialTimeout(args[0], args[1], patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	text := "hello"
	if len(args) > 2 {
		text = args[2]
	}
	if _, err := fmt.Fprintf(conn, "%s\n", text); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Print("answer ", line)
	return nil
}

// dgram sends to a Unix socket that it never connected to.
func dgram(args []string) error {
	if len(args) != 1 {
		return errors.New("which path?")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrUnix{Name: args[0]}); err != nil {
		return fmt.Errorf("%s", unix.ErrnoName(err.(unix.Errno)))
	}
	fmt.Println("sent")
	return nil
}

// listen accepts one connection and answers it.
func listen(args []string) error {
	if len(args) != 2 {
		return errors.New("which network and address?")
	}
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("listening", l.Addr())
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(conn, "inside ", line)
	return err
}

func pushByte(fd, request uintptr) unix.Errno {
	b := byte('\n')
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&b)))
	return errno
}
