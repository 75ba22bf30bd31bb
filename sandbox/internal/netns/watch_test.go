// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watched makes a namespace with a Watch, and a channel of what it refuses.
func watched(t *testing.T, granted ...uint16) (*Namespace, <-chan Refusal) {
	t.Helper()
	refusals := make(chan Refusal, 100)
	return watchedBy(t, &Watch{Granted: granted, Refused: func(r Refusal) { refusals <- r }}), refusals
}

func watchedBy(t *testing.T, w *Watch) *Namespace {
	t.Helper()
	n := captured(t, w)
	if !n.Watching() {
		if os.Getenv("AGENTJAIL_MUST_WORK") != "" {
			t.Fatal("packets cannot be logged here")
		}
		t.Skip("packets cannot be logged here")
	}
	return n
}

func next(t *testing.T, refusals <-chan Refusal) Refusal {
	t.Helper()
	select {
	case r := <-refusals:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was told")
		return Refusal{}
	}
}

// A connect to a port of loopback where nobody listens is refused as on a host, and reported with its process.
func TestUnlistenedLoopbackIsRefused(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		echo(n)
		for _, address := range []string{"127.0.0.1:3000", "127.8.9.10:1", "[::1]:3000", "[::1]:1"} {
			pid, end := program(t, n, "tcp", address)
			r := next(t, refusals)
			if r.Network != "tcp" || r.Remote.String() != address || r.Process.PID != pid {
				t.Errorf("%s: told %+v, want process %d", address, r, pid)
			}
			if code := end(); code != 3 {
				t.Errorf("%s: ended with %d, want 3: refused", address, code)
			}
		}
		// The server that it waited for.
		var l net.Listener
		var err error
		inside(t, n, func() { l, err = net.Listen("tcp", "127.0.0.1:3000") })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dial(t, n, "tcp", "127.0.0.1:3000")
		if len(refusals) > 0 {
			t.Errorf("a server's own connection was refused: %+v", <-refusals)
		}
	})
}

// A refusal does not wait for more packets to be told with it: the kernel's timer for that takes 10 ms (nfnetlink_log.c).
func TestRefusalsAreToldAtOnce(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		fastest := time.Minute
		inside(t, n, func() {
			for range 50 {
				began := time.Now()
				if _, err := net.DialTimeout("tcp", "127.0.0.1:3000", 20*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
					t.Fatal(err)
				}
				fastest = min(fastest, time.Since(began))
			}
		})
		if fastest > 8*time.Millisecond {
			t.Errorf("the fastest refusal took %v", fastest)
		}
		if len(refusals) != 50 {
			t.Errorf("told of %d refusals, want 50", len(refusals))
		}
	})
}

// What the policy grants of the host's loopback, DNS, and every other address still reach the listeners.
func TestWatchLeavesTheRestToTheListeners(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t, 5432)
		echo(n)
		for _, address := range []string{"127.0.0.1:5432", "[::1]:5432", "127.0.0.53:53", "93.184.216.34:443", "[2606:4700::1111]:3000"} {
			got, err := io.ReadAll(dial(t, n, "tcp", address))
			if err != nil || string(got) != "gateway "+address {
				t.Errorf("TCP to %s: %q, %v", address, got, err)
			}
		}
		for _, address := range []string{"127.0.0.1:3000", "[::1]:3000", "8.8.8.8:53"} {
			if !answered(address) {
				continue
			}
			c := dial(t, n, "udp", address)
			c.Write([]byte("x"))
			var b [100]byte
			size, err := c.Read(b[:])
			if err != nil || !strings.HasPrefix(string(b[:size]), "gateway "+address) {
				t.Errorf("UDP to %s: %q, %v", address, b[:size], err)
			}
		}
		if len(refusals) > 0 {
			t.Errorf("refused: %+v", <-refusals)
		}
	})
}

// Containment checks: H04.
func TestMulticastIsReported(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		for _, address := range []string{"224.0.0.251:5353", "239.255.255.250:1900", "[ff02::fb%lo]:5353"} {
			pid, end := program(t, n, "udp", address)
			r := next(t, refusals)
			want := unmap(netip.MustParseAddrPort(address))
			if r.Network != "udp" || r.Remote != want || r.Process.PID != pid {
				t.Errorf("%s: told %+v, want process %d", address, r, pid)
			}
			end()
		}
	})
}

// Root of the namespace can send what the command cannot.
// Containment checks: H04.
func TestOtherProtocolsAreReported(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		var err error
		inside(t, n, func() {
			var c net.Conn
			if c, err = net.Dial("ip4:icmp", "9.9.9.9"); err == nil {
				_, err = c.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
				c.Close()
			}
			if c, err = net.Dial("ip4:132", "9.9.9.9"); err == nil {
				_, err = c.Write(make([]byte, 12))
				c.Close()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"icmp", "ip:132"} {
			if r := next(t, refusals); r.Network != want || r.Remote.String() != "9.9.9.9:0" {
				t.Errorf("told %+v, want %s", r, want)
			}
		}
	})
}

// An answer that comes too late makes the kernel say so: that is no access of the command's.
func TestKernelsOwnMessagesAreNotReported(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		_, udp := n.Listeners()
		for i, address := range []string{"8.8.8.8:53", "[2001:4860::8888]:53"} {
			c := dial(t, n, "udp", address)
			c.Write([]byte("q"))
			_, src, dst, err := udp[i].ReadFromTo(make([]byte, 10))
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if err := udp[i].WriteFromTo([]byte("late"), dst, src); err != nil {
				t.Fatal(err)
			}
		}
		_, end := program(t, n, "tcp", "127.0.0.1:3000") // packets are told in their order
		end()
		if r := next(t, refusals); r.Network != "tcp" {
			t.Errorf("told %+v", r)
		}
	})
}

// What is under way of a connection that ended, when its listener is gone, is no access. A segment that opens one is.
func TestLeftoversAreNotReported(t *testing.T) {
	// By Redirect the kernel itself refuses what goes to listeners that are gone.
	withMechanisms(t, func(t *testing.T) {
		n, refusals := watched(t)
		tcp, _ := n.Listeners()
		for _, l := range tcp {
			l.Close()
		}
		for i, flags := range []byte{flagFIN | flagACK, flagACK, flagRST, flagSYN} {
			src, dst := addrPort("93.184.216.34:443"), netip.AddrPortFrom(addrPort("9.9.9.9:0").Addr(), uint16(i+1))
			segment := resetPacket(packet{src: dst, dst: src})[ipv4Header:]
			segment[13] = flags
			inside(t, n, func() {
				c, err := net.Dial("ip4:tcp", dst.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Write(segment); err != nil {
					t.Fatal(err)
				}
			})
		}
		if r := next(t, refusals); r.Network != "tcp" || r.Remote.Port() != 4 {
			t.Errorf("told %+v, want the segment that opens a connection", r)
		}
	}, ByTProxy)
}

// More refusals than the log takes delay what they refuse, and end.
func TestFloodOfRefusals(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, refusals := watched(t)
		go func() {
			for range refusals {
			}
		}()
		var flood sync.WaitGroup
		for range 10 {
			flood.Go(func() {
				inside(t, n, func() {
					for range 20 {
						if _, err := net.DialTimeout("tcp", "127.0.0.1:3000", 30*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
							t.Error(err)
						}
					}
				})
			})
		}
		flood.Wait()
	})
}

func TestPayloads(t *testing.T) {
	message := func(kind uint16, body ...byte) []byte {
		b := bindRequest(logGroup)[:unix.NLMSG_HDRLEN]
		b[0], b[1] = byte(len(b)+len(body)), 0
		b[4], b[5] = byte(kind), byte(kind>>8)
		return append(b, body...)
	}
	packet := message(ulogPacket, append([]byte{2, 0, 0, 1}, appendAttr(appendAttr(nil, 1, []byte{1, 2, 3, 4}), attrPayload, []byte("abc"))...)...)
	if got := payloads(append(packet, packet...)); len(got) != 2 || !bytes.Equal(got[1], []byte("abc")) {
		t.Errorf("got %q", got)
	}
	for i := range packet { // whatever is cut off
		payloads(packet[:i])
	}
	for _, b := range [][]byte{message(unix.NLMSG_ERROR, 0, 0, 0, 0), message(ulogPacket), message(ulogPacket, 2, 0, 0, 1, 0, 0, 9, 0), {1, 0, 0, 0}} {
		if got := payloads(b); len(got) != 0 {
			t.Errorf("% x: %q", b, got)
		}
	}
}
