// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// breakerArg starts the test binary as a program of a run that tries to change its network.
const breakerArg = "netns-break"

// breaker has all capabilities of a user namespace below the one that owns the network. It prints what it managed to do.
func breaker() int {
	try := func(what string, err error) {
		if err == nil {
			fmt.Println("done:", what)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		fmt.Println("no socket:", err)
		return 1
	}
	try("SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark))
	try("IP_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
	try("the listeners' port", unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 9}}))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	try("raw socket", err)
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	try("packet socket", err)
	_, err = configureLink()
	try("routes", err)
	try("rules", probe(nil))
	try("packet log", new(packetLog).open(logGroup))
	down, err := unix.NewIfreq("lo")
	if err != nil {
		return 1
	}
	down.SetUint16(0)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(down)))
	if errno == 0 {
		fmt.Println("done: interface down")
	}
	ping, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	try("ping socket", err)
	unix.Close(ping)
	fmt.Println("end")
	return 0
}

// The command cannot change its network, not even as root of a user namespace of its own.
// Containment checks: H14.
func TestCommandCannotChangeItsNetwork(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		cmd := exec.Command("/proc/self/exe", breakerArg)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		var out []byte
		var err error
		inside(t, n, func() { out, err = cmd.CombinedOutput() })
		if err != nil || string(out) != "end\n" {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// Containment checks: H01.
func TestNothingButLoopback(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		inside(t, n, func() {
			interfaces, err := net.Interfaces()
			if err != nil || len(interfaces) != 1 || interfaces[0].Name != "lo" {
				t.Errorf("interfaces %v, %v", interfaces, err)
			}
			routes, err := os.ReadFile("/proc/thread-self/net/route") // the main table
			if err != nil || strings.Count(string(routes), "\n") != 1 {
				t.Errorf("routes %q, %v", routes, err)
			}
		})
	})
}

// Without a gateway nothing is reached, and a server of the command's own is not taken for the far end.
func TestNobodyListensAnyMore(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, udp := n.Listeners()
		for i := range tcp {
			tcp[i].Close()
			udp[i].Close()
		}
		inside(t, n, func() {
			l, err := net.Listen("tcp", ":8443")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for _, address := range []string{"93.184.216.34:443", "93.184.216.34:8443", "[2606:4700::1111]:8443"} {
				if c, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err == nil {
					t.Errorf("%s was reached at %v", address, c.RemoteAddr())
				}
			}
		})
	})
}

// A socket of IPv6 that connects to an IPv4 address, as Java's do, is one of IPv4 to the listeners.
// Containment checks: H05.
func TestMappedAddresses(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		inside(t, n, func() {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			to := &unix.SockaddrInet6{Port: 443, Addr: [16]byte{10: 255, 11: 255, 12: 93, 13: 184, 14: 216, 15: 34}}
			if err := unix.Connect(fd, to); err != nil {
				t.Fatal(err)
			}
			c, err := tcp[0].Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.LocalAddr().String(); got != "93.184.216.34:443" {
				t.Errorf("arrived as %s", got)
			}
			inode, err := n.owner.diag.connection("tcp", c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort())
			if err != nil || inode == 0 {
				t.Errorf("its socket is not found: %v", err)
			}
		})
	})
}

// A host that disables IPv6 for new namespaces does not leave it uncaptured.
func TestDisabledIPv6IsEnabled(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		err := onOwnThread(func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			for _, name := range []string{"all", "default", "lo"} {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil {
					return err
				}
			}
			ipv6, err := configureLink()
			if err != nil || !ipv6 {
				return fmt.Errorf("IPv6 %v: %w", ipv6, err)
			}
			l, err := net.Listen("tcp", "[::1]:0")
			if err != nil {
				return err
			}
			return l.Close()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestErrorsNameTheFix(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		n, err := New()
		var e *Error
		if n != nil || !errors.As(err, &e) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(e.Fix(), "max_net_namespaces") {
			t.Errorf("%v, %v", n, err)
		}
	})
}

// Answers and datagrams of every length that lo carries.
func TestLongDatagrams(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		_, udp := n.Listeners()
		for i, address := range []string{"8.8.8.8:53", "[2001:4860::8888]:53"} {
			c := dial(t, n, "udp", address)
			for _, size := range []int{0, 1, 1500, 65000} {
				if _, err := c.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 1<<16)
				got, src, dst, err := udp[i].ReadFromTo(buf)
				if err != nil || got != size || dst.String() != address {
					t.Fatalf("%d bytes to %s, want %d: %v", got, dst, size, err)
				}
				if err := udp[i].WriteFromTo(buf[:size], dst, src); err != nil {
					t.Fatal(err)
				}
				if got, err := c.Read(buf); err != nil || got != size {
					t.Errorf("answer of %d bytes, want %d: %v", got, size, err)
				}
			}
			if err := udp[1-i].WriteFromTo(nil, addrPort(address), addrPort(c.LocalAddr().String())); err == nil {
				t.Errorf("%s: sent through the socket of the other family", address)
			}
			udp[i].Close()
			if _, _, _, err := udp[i].ReadFromTo(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
		}
	})
}

// A captured connection carries what it is given, both ways, and its end.
func TestConnectionsCarryData(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		go func() {
			c, err := tcp[0].Accept()
			if err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		c := dial(t, n, "tcp", "93.184.216.34:443").(*net.TCPConn)
		go func() {
			c.Write(make([]byte, 1<<20))
			c.CloseWrite()
		}()
		if got, err := io.Copy(io.Discard, c); err != nil || got != 1<<20 {
			t.Errorf("%d bytes came back: %v", got, err)
		}
	})
}
