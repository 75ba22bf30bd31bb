// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRedirectTellsOfDatagrams: what is not answered is told of, with where it came from and where it was to go.
// Containment check: H02.
func TestRedirectTellsOfDatagrams(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		n := newNamespace(t)
		for _, address := range everywhere {
			if answered(address) {
				continue
			}
			c := dial(t, n, "udp", address)
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, src, dst, err := n.dropped.ReadFromTo(nil)
			if err != nil || dst.String() != address || src.String() != c.LocalAddr().String() {
				t.Errorf("%s: from %v to %v, %v", address, src, dst, err)
			}
			if err := n.dropped.WriteFromTo(nil, dst, src); err == nil {
				t.Error("it was answered")
			}
		}
		if errors.Join(n.dropped.Close(), n.dropped.Close()) != nil {
			t.Error("cannot be closed twice")
		}
		if lines := n.Coverage(); len(lines) != 3 || !strings.Contains(lines[1], "REDIRECT") {
			t.Errorf("coverage %q", lines)
		}
	}, ByRedirect)
}

// TestRedirectKeepsConnectionsApart: two that come from one port keep it, so that both are found.
func TestRedirectKeepsConnectionsApart(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		var from net.Addr
		for _, to := range []string{"93.184.216.34:443", "93.184.216.35:443", "10.1.2.3:22"} {
			var c net.Conn
			var err error
			inside(t, n, func() {
				d := net.Dialer{LocalAddr: from, Control: control([]option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}})}
				c, err = d.Dial("tcp", to)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			from = c.LocalAddr()
			got, err := tcp[0].Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if got.LocalAddr().String() != to || got.RemoteAddr().String() != from.String() {
				t.Errorf("from %v to %v, want %v to %s", got.RemoteAddr(), got.LocalAddr(), from, to)
			}
		}
	}, ByRedirect)
}

// TestRedirectFindsWhatItMoved: of two that go from one port to one host, one arrives from another port, and both are found.
func TestRedirectFindsWhatItMoved(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		n := newNamespace(t)
		tcp, _ := n.Listeners()
		for family, host := range []string{"93.184.216.34:", "[2606:2800:220:1::1]:"} {
			var from net.Addr
			moved := false
			for _, port := range []string{"443", "80", "22"} {
				var c net.Conn
				var err error
				inside(t, n, func() {
					d := net.Dialer{LocalAddr: from, Control: control([]option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}})}
					c, err = d.Dial("tcp", host+port)
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				from = c.LocalAddr()
				got, err := tcp[family].Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				local, remote := got.RemoteAddr().(*net.TCPAddr).AddrPort(), got.LocalAddr().(*net.TCPAddr).AddrPort()
				if remote.String() != host+port {
					t.Errorf("%s arrives as %v", host+port, remote)
				}
				moved = moved || local.String() != from.String()
				if inode, err := n.owner.inode("tcp", unmap(local), unmap(remote)); err != nil || uint64(inode) != inodeOf(t, c) {
					t.Errorf("%v to %v, which is %v: inode %d, %v", local, remote, from, inode, err)
				}
			}
			if !moved {
				t.Error("none was moved: this tests nothing")
			}
		}
		// One that there is not is nobody's.
		if inode, err := n.owner.inode("tcp", netip.MustParseAddrPort("192.0.0.8:9"), netip.MustParseAddrPort("93.184.216.34:443")); err != nil || inode != 0 {
			t.Errorf("inode %d, %v", inode, err)
		}
	}, ByRedirect)
}

// inodeOf is the inode of a connection's socket.
func inodeOf(t *testing.T, c net.Conn) uint64 {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return st.Ino
}

// TestPorts: without nftables what goes to a port of the policy, or to 53, arrives whatever its address, and nothing else reaches anybody.
// Containment check: H02.
func TestPorts(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		n, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.captureBy([]Mechanism{ByPorts}, nil, []uint16{443, 22, 443}); err != nil {
			t.Fatal(err)
		}
		echo(n)
		for _, address := range []string{"93.184.216.34:443", "10.1.2.3:22", "127.0.0.53:53", "[2606:4700::1111]:443", "[::1]:22"} {
			if got, err := io.ReadAll(dial(t, n, "tcp", address)); err != nil || string(got) != "gateway "+address {
				t.Errorf("%s: %q, %v", address, got, err)
			}
		}
		for _, address := range []string{"8.8.8.8:53", "[2001:4860::8888]:53"} {
			c := dial(t, n, "udp", address)
			c.Write([]byte("q"))
			var b [100]byte
			if size, err := c.Read(b[:]); err != nil || string(b[:size]) != fmt.Sprintf("gateway %s q", address) {
				t.Errorf("%s: %q, %v", address, b[:size], err)
			}
		}
		inside(t, n, func() {
			for _, address := range []string{"93.184.216.34:80", "[2606:4700::1111]:8443", "127.0.0.1:1"} {
				if c, err := net.DialTimeout("tcp", address, 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: %v, %v", address, c, err)
				}
			}
			c, err := net.Dial("udp", "93.184.216.34:443")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("x"))
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("UDP: %v", err)
			}
		})
		if lines := n.Coverage(); len(lines) != 3 || !strings.Contains(lines[1], "other than DNS, reach nothing") {
			t.Errorf("coverage %q", lines)
		}
	}, ByPorts)
}

func TestTooManyPorts(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		n, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var many []uint16
		for p := range uint16(maxPorts) {
			many = append(many, 1000+p)
		}
		var e *Error
		if err := n.captureBy([]Mechanism{ByPorts}, nil, many); !errors.As(err, &e) || !strings.Contains(e.Fix(), "modprobe") {
			t.Errorf("%v", err)
		}
	}, ByPorts)
}

// TestMechanisms: the first that works is taken, with a Watch or without, and what the others have made is gone.
func TestMechanisms(t *testing.T) {
	withMechanisms(t, func(t *testing.T) {
		for _, watch := range []*Watch{nil, {Granted: []uint16{5432}, Refused: func(Refusal) {}}} {
			n, err := New()
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Capture(watch, nil); err != nil || n.Mechanism() != ByTProxy || len(n.Coverage()) != 1 || n.Fallback() != nil {
				t.Errorf("%v, %v", n.Mechanism(), err)
			}
			n.Close()
			if n, err = New(); err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			// Another socket has the address of one of its own.
			var taken net.PacketConn
			inside(t, n, func() {
				lc := net.ListenConfig{Control: control([]option{{unix.SOL_IP, unix.IP_FREEBIND, 1}})}
				taken, err = lc.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(loopback4, port).String())
			})
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			var why *Error
			if err := n.Capture(watch, nil); err != nil || n.Mechanism() != ByRedirect || !errors.As(n.Fallback(), &why) || why.Fix() == "" {
				t.Errorf("%v, %v", n.Mechanism(), err)
			}
			echo(n)
			if got, err := io.ReadAll(dial(t, n, "tcp", "93.184.216.34:443")); err != nil || string(got) != "gateway 93.184.216.34:443" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}, ByTProxy)
}
