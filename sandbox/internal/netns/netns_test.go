// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childEnv     = "NETNS_TEST_CHILD"
	mechanismEnv = "NETNS_TEST_MECHANISM"
	dialArg      = "netns-dial" // starts the test binary as a program of a run: NETWORK ADDRESS
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == dialArg {
		os.Exit(dialer(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 2 && os.Args[1] == breakerArg {
		os.Exit(breaker())
	}
	os.Exit(m.Run())
}

// What the dialer's network can be beside those of package net.
const (
	ofThread = "thread" // TCP, from a thread with files of its own
	ofOrphan = "orphan" // the same, after the process's first thread has ended
	ofCrowd  = "crowd"  // as ofThread, with more threads and files beside it than are looked at one by one
)

func init() {
	if len(os.Args) == 4 && os.Args[1] == dialArg {
		runtime.LockOSThread() // the first thread stays with main
	}
}

// crowd makes threads that share the process's files, and the files.
func crowd() {
	started := make(chan struct{})
	for range 300 {
		unix.Dup(0)
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			select {}
		}()
		<-started
	}
}

// dialFromThread connects as ofThread, ofOrphan and ofCrowd say.
func dialFromThread(network, address string) int {
	to := netip.MustParseAddrPort(address)
	if network == ofCrowd {
		crowd()
	}
	go func() {
		runtime.LockOSThread()
		fd, err := -1, unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		}
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if network == ofOrphan {
		unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	}
	select {}
}

// dialer connects, sends a byte, and holds its socket until its input ends. 3 is for a connection that was refused.
func dialer(network, address string) int {
	if network == ofThread || network == ofOrphan || network == ofCrowd {
		return dialFromThread(network, address)
	}
	c, err := net.DialTimeout(network, address, 20*time.Second)
	if errors.Is(err, unix.ECONNREFUSED) {
		return 3
	}
	if err == nil {
		_, err = c.Write([]byte("x"))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// program starts the dialer in a namespace. Its end is its exit code.
func program(t *testing.T, n *Namespace, network, address string) (pid int, end func() int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", dialArg, network, address)
	cmd.Stdout = os.Stdout
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // the race detector sleeps a second otherwise
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	inside(t, n, func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd.Process.Pid, func() int { stdin.Close(); cmd.Wait(); return cmd.ProcessState.ExitCode() }
}

// inUserNamespace runs the calling test's body again, as root of a user namespace: what the supervisor is. It does so for each
// mechanism that hands every port to the listeners.
func inUserNamespace(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	withMechanisms(t, body, ByTProxy, ByRedirect)
}

func withMechanisms(t *testing.T, body func(t *testing.T), list ...Mechanism) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		body(t)
		return
	}
	for _, m := range list {
		inChild(t, m)
	}
}

// mechanism is the one that a test is to use.
func mechanism() Mechanism {
	m, err := strconv.Atoi(os.Getenv(mechanismEnv))
	if err != nil {
		panic(err)
	}
	return Mechanism(m)
}

func inChild(t *testing.T, m Mechanism) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name(), mechanismEnv+"="+strconv.Itoa(int(m)), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("inside, by %v: %v\n%s", m, err, out)
	}
}

func newNamespace(t *testing.T) *Namespace { return captured(t, nil) }

func captured(t *testing.T, watch *Watch) *Namespace {
	t.Helper()
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.captureBy([]Mechanism{mechanism()}, watch, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// Until it is captured, a namespace reaches nothing, itself included.
func TestClosedUntilCaptured(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		reach := func() (err error) {
			inside(t, n, func() {
				var c net.Conn
				if c, err = net.DialTimeout("tcp4", "93.184.216.34:80", 20*time.Second); err == nil {
					c.Close()
				}
			})
			return err
		}
		if err := reach(); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("before: %v, want ENETUNREACH", err)
		}
		if err := n.captureBy([]Mechanism{mechanism()}, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := reach(); err != nil {
			t.Errorf("after: %v", err)
		}
	})
}

// inside calls f on a thread that is in the namespace.
func inside(t *testing.T, n *Namespace, f func()) {
	t.Helper()
	err := onOwnThread(func() error {
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from inside.
func dial(t *testing.T, n *Namespace, network, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	inside(t, n, func() { conn, err = net.DialTimeout(network, address, 5*time.Second) })
	if err != nil {
		t.Fatalf("%s %s: %v", network, address, err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// echo answers each accepted connection with the address that was dialed.
func echo(n *Namespace) {
	tcp, udp := n.Listeners()
	for _, l := range tcp {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "gateway %s", c.LocalAddr())
				c.Close()
			}
		}()
	}
	for _, u := range udp {
		go func() {
			var b [1500]byte
			for {
				size, src, dst, err := u.ReadFromTo(b[:])
				if err != nil {
					return
				}
				u.WriteFromTo(fmt.Appendf(nil, "gateway %s %s", dst, b[:size]), dst, src)
			}
		}()
	}
}

// udpFor is where datagrams to an address arrive.
func udpFor(n *Namespace, address string) PacketConn {
	_, udp := n.Listeners()
	switch to := addrPort(address); {
	case !answered(address):
		return n.dropped
	case to.Addr().Is6():
		return udp[1]
	}
	return udp[0]
}

// answered reports whether a datagram to an address can be.
func answered(address string) bool {
	return mechanism() == ByTProxy || strings.HasSuffix(address, ":53")
}

var everywhere = []string{
	"93.184.216.34:443", "127.0.0.53:53", "127.0.0.1:1", "10.1.2.3:65535", "169.254.169.254:80", "[2606:4700::1111]:443", "[::1]:1", "[fd00:ec2::254]:80",
}

func TestTCPArrivesWithItsDestination(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		echo(n)
		for _, address := range everywhere {
			got, err := io.ReadAll(dial(t, n, "tcp", address))
			if err != nil || string(got) != "gateway "+address {
				t.Errorf("%s: %q, %v", address, got, err)
			}
		}
	})
}

func TestUDPArrivesAndIsAnswered(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		echo(n)
		for _, address := range everywhere {
			if !answered(address) {
				continue
			}
			c := dial(t, n, "udp", address) // connected: it takes answers from that address alone
			var b [100]byte
			for range 2 {
				if _, err := c.Write([]byte("hello")); err != nil {
					t.Fatalf("%s: %v", address, err)
				}
				size, err := c.Read(b[:])
				if err != nil || string(b[:size]) != "gateway "+address+" hello" {
					t.Errorf("%s: %q, %v", address, b[:size], err)
				}
			}
		}
	})
}

// An unconnected socket gets its answer, too, and the answer is not captured again.
func TestUnconnectedUDP(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		echo(n)
		for network, to := range map[string]string{"udp4": "8.8.8.8:53", "udp6": "[2001:4860:4860::8888]:53"} {
			var c *net.UDPConn
			var err error
			inside(t, n, func() { c, err = net.ListenUDP(network, nil) })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.WriteToUDPAddrPort([]byte("q"), netip.MustParseAddrPort(to)); err != nil {
				t.Fatal(err)
			}
			var b [100]byte
			size, from, err := c.ReadFromUDPAddrPort(b[:])
			if err != nil || string(b[:size]) != "gateway "+to+" q" || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String() != to {
				t.Errorf("%s: %q from %s, %v", to, b[:size], from, err)
			}
		}
	})
}

// A datagram without a checksum is one that is sent all the same: the sender may leave it out.
func TestDatagramsWithoutChecksum(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		echo(n)
		for address, o := range map[string]option{
			"93.184.216.34:53": {unix.SOL_SOCKET, unix.SO_NO_CHECK, 1}, "[2606:4700::1111]:53": {unix.SOL_UDP, unix.UDP_NO_CHECK6_TX, 1},
		} {
			c := dial(t, n, "udp", address)
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := control([]option{o})("", "", raw); err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(2 * time.Second))
			var b [100]byte
			c.Write([]byte("bare"))
			if size, err := c.Read(b[:]); err != nil || string(b[:size]) != "gateway "+address+" bare" {
				t.Errorf("%s: %q, %v", address, b[:size], err)
			}
		}
	})
}

// What the run listens on itself is its own: nothing of it reaches the gateway.
func TestOwnServers(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		echo(n)
		for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
			var l net.Listener
			var u net.PacketConn
			var err error
			inside(t, n, func() {
				if l, err = net.Listen("tcp", bind); err == nil {
					u, err = net.ListenPacket("udp", bind)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			defer u.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Write([]byte("own"))
					c.Close()
				}
			}()
			host := "127.0.0.1"
			if strings.HasPrefix(bind, "[") {
				host = "::1"
			}
			_, port, _ := net.SplitHostPort(l.Addr().String())
			if got, err := io.ReadAll(dial(t, n, "tcp", net.JoinHostPort(host, port))); err != nil || string(got) != "own" {
				t.Errorf("own TCP server on %s: %q, %v", bind, got, err)
			}
			_, port, _ = net.SplitHostPort(u.LocalAddr().String())
			if _, err := dial(t, n, "udp", net.JoinHostPort(host, port)).Write([]byte("own")); err != nil {
				t.Fatal(err)
			}
			var b [10]byte
			u.SetDeadline(time.Now().Add(10 * time.Second))
			if size, _, err := u.ReadFrom(b[:]); err != nil || !bytes.Equal(b[:size], []byte("own")) {
				t.Errorf("own UDP server on %s: %q, %v", bind, b[:size], err)
			}
		}
	})
}

func TestOwner(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		for i, address := range []string{"93.184.216.34:443", "[2606:4700::1111]:443", "127.0.0.1:53", "[::1]:53"} {
			pid, end := program(t, n, "tcp", address)
			c, err := tcp[i%2].Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			local, remote := c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
			for range 2 { // the second time it is remembered
				p := n.Owner("tcp", local, remote)
				if p.PID != pid || p.PPID != os.Getpid() || len(p.Argv) != 4 || p.Argv[3] != address {
					t.Errorf("owner of %s: %+v, want process %d", address, p, pid)
				}
			}
			if p := n.Owner("tcp", remote, local); p.PID != 0 {
				t.Errorf("the listener's end of %s is owned by %+v", address, p)
			}
			if p := n.Owner("tcp", netip.MustParseAddrPort("127.0.0.1:1"), remote); p.PID != 0 {
				t.Errorf("owner of a socket that is not there: %+v", p)
			}
			if code := end(); code != 0 {
				t.Errorf("%s: the program ended with %d", address, code)
			}
			pid, end = program(t, n, "udp", address)
			_, src, dst, err := udpFor(n, address).ReadFromTo(make([]byte, 10))
			if err != nil {
				t.Fatal(err)
			}
			if p := n.Owner("udp", src, dst); p.PID != pid {
				t.Errorf("owner of UDP to %s: %+v, want process %d", address, p, pid)
			}
			end()
			if p := n.Owner("udp", src, dst); p.PID != 0 {
				t.Errorf("owner of a socket that is closed: %+v", p)
			}
		}
	})
}

// TestConnects: of two processes that have a socket, the one that connected it is the owner, as long as it has it.
func TestConnects(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		socket := func() (inode uint64, fd int, local, remote netip.AddrPort) {
			fd = -1
			raw, err := dial(t, n, "tcp", "93.184.216.34:443").(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			raw.Control(func(of uintptr) { fd, err = int(of), unix.Fstat(int(of), &st) })
			c, aerr := tcp[0].Accept()
			if err := errors.Join(err, aerr); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return st.Ino, fd, c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
		}
		// This process is in another namespace itself, so that no search finds it.
		inode, fd, local, remote := socket()
		n.Connects(inode, os.Getpid(), fd)
		if p := n.Owner("tcp", local, remote); p.PID != os.Getpid() {
			t.Errorf("the owner is %+v, want process %d", p, os.Getpid())
		}
		_, other, _, _ := socket()
		inode, _, local, remote = socket()
		n.Connects(inode, os.Getpid(), other)
		if p := n.Owner("tcp", local, remote); p.PID != 0 {
			t.Errorf("the owner of what is at another descriptor is %+v", p)
		}
		for i := range maxConnecting + 1 {
			n.Connects(uint64(i), 1, 1)
		}
		if got := len(n.owner.connecting.ends); got > maxConnecting {
			t.Errorf("%d sockets are remembered", got)
		}
	})
}

// TestOwnerThread: a socket that only one thread of its process has, and one whose process has lost its first thread.
func TestOwnerThread(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		for _, network := range []string{ofThread, ofOrphan, ofCrowd} {
			pid, end := program(t, n, network, "93.184.216.34:443")
			c, err := tcp[0].Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			local, remote := c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
			if p := n.Owner("tcp", local, remote); p.PID != pid || p.Exe == "" || len(p.Argv) != 4 || p.Argv[2] != network {
				t.Errorf("%s: the owner is %+v, want process %d", network, p, pid)
			}
			if code := end(); code != 0 {
				t.Errorf("%s: the program ended with %d", network, code)
			}
		}
	})
}

// A socket that is only in a message has no owner; it is not looked for again and again.
func TestNoOwnerIsRemembered(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, n, "udp", "93.184.216.34:443")
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(fd)), nil, 0) })
		c.Close()
		_, src, dst, rerr := udpFor(n, "93.184.216.34:443").ReadFromTo(nil)
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if p := n.Owner("udp", src, dst); p.PID != 0 {
				t.Errorf("the owner is %+v", p)
			}
		}
		if len(n.owner.known) != 1 {
			t.Errorf("%d sockets are remembered, want 1", len(n.owner.known))
		}
	})
}

func TestClose(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n := newNamespace(t)
		if err := errors.Join(n.Close(), n.Close()); err != nil {
			t.Errorf("closing twice: %v", err)
		}
	})
}

func TestDiagMessages(t *testing.T) {
	if got, err := parseDiag(make([]byte, 20)); got != (diagSocket{}) || err == nil {
		t.Errorf("a short answer: %+v, %v", got, err)
	}
	r, err := diagRequest("tcp", netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("6.7.8.9:10"))
	if err != nil || len(r) != 72 || r[16] != unix.AF_INET || r[24+1] != 5 || r[28] != 1 || r[44] != 6 {
		t.Errorf("request % x, %v", r, err)
	}
}
