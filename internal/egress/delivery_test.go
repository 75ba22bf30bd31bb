// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manyBytes are more than the kernel keeps for a connection, at both ends together: tcp_rmem and tcp_wmem of tcp(7).
const manyBytes = 32 << 20

// slowly counts what comes, which does not come at once.
func slowly(c net.Conn) (n int64, err error) {
	for {
		some, err := io.CopyN(io.Discard, c, 512<<10)
		if n += some; err != nil {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
}

// TestWhatWasSentArrives: a program may end, and the run with it, as soon as it has sent all.
func TestWhatWasSentArrives(t *testing.T) {
	for _, quota := range []int64{0, 1 << 30} {
		arrived := make(chan int64, 1)
		n := gitNetwork(t, func(c net.Conn) {
			got, err := slowly(c)
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			arrived <- got
		})
		n.g.uploads.quota.Upload, n.g.wait.settle = quota, patience
		c := n.dialName("git.test", 2222)
		send(t, c, strings.Repeat("0123456789abcde\n", manyBytes/16))
		c.Close()
		n.g.Close()
		if got := <-arrived; got != manyBytes {
			t.Errorf("%d of %d bytes arrived", got, manyBytes)
		}
		n.wantEnd("the run was over", manyBytes, 0) // the server has not ended its direction
	}
}

// TestRequestThatWasSentArrives: that of a program which does not wait for the answer.
func TestRequestThatWasSentArrives(t *testing.T) {
	arrived := make(chan string, 1)
	n := newNetwork(t, nil, "site.test:80")
	n.site(func(c net.Conn) {
		got, _ := io.ReadAll(c)
		arrived <- string(got)
	})
	dialed := make(chan struct{})
	dial := n.g.cfg.Dial
	n.g.cfg.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		close(dialed)
		return dial(ctx, addr)
	}
	n.g.wait.settle = patience
	c := n.dialName("site.test", 80)
	send(t, c, "POST /hook HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello")
	c.Close()
	<-dialed
	n.g.Close()
	if got := <-arrived; !strings.HasSuffix(got, "\r\n\r\nhello") {
		t.Errorf("%q arrived", got)
	}
}

// TestWhatIsStuckIsReset: the end of a run waits for nobody for long, and what was cut does not look whole.
func TestWhatIsStuckIsReset(t *testing.T) {
	over, ended := make(chan struct{}), make(chan error, 1)
	n := gitNetwork(t, func(c net.Conn) {
		<-over
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	n.g.wait.settle = 50 * time.Millisecond
	c := n.dialName("git.test", 2222)
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if sent, err := c.Write(make([]byte, 2*manyBytes)); err == nil {
		t.Fatalf("%d bytes went to who reads none", sent)
	}
	c.Close()
	n.g.Close()
	close(over)
	if err := <-ended; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server sees %v", err)
	}
	if e := n.ended(); e.Reason != "the run was over" {
		t.Errorf("the end is %q", e.Reason)
	}
}

// TestUselessDialIsNotWaitedFor: what was sent before a handshake needs a client that is still there.
func TestUselessDialIsNotWaitedFor(t *testing.T) {
	n := newNetwork(t, nil, "tls.test")
	n.host("tls.test", "93.184.216.34")
	dialing := make(chan struct{})
	n.g.cfg.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n.g.wait.settle = time.Hour
	c := n.dialName("tls.test", 443)
	send(t, c, string(hello(t, "tls.test")))
	<-dialing
	c.Close()
	n.g.Close()
}

// TestQueuedIsJudged: who is told by the kernel that it is connected is on record, however soon the run ends.
func TestQueuedIsJudged(t *testing.T) {
	const clients = 300
	n := newNetwork(t, nil)
	n.g.wait.settle = 20 * time.Second
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.g.Serve(Net{TCP: []net.Listener{l}}); err != nil {
		t.Fatal(err)
	}
	for range clients {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err == nil {
			c.Close()
		} else if !errors.Is(err, unix.ECONNRESET) { // judged already
			t.Fatal(err)
		}
	}
	n.g.Close()
	want := "net tcp.connect deny " + l.Addr().String()
	if got := n.log.lines(); len(got) != clients || slices.ContainsFunc(got, func(line string) bool { return line != want }) {
		t.Errorf("%d events of %d connections, of which the first is %q", len(got), clients, got[:1])
	}
	if c, err := net.Dial("tcp4", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a gateway that is closed takes connections")
	}
}
