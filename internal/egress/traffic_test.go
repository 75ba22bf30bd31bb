// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// ended waits for the event about the end of the one connection that there was.
func (n *network) ended() audit.Event {
	n.t.Helper()
	var ends []audit.Event
	eventually(n.t, func() bool {
		n.log.mu.Lock()
		defer n.log.mu.Unlock()
		ends = n.log.ends
		return len(ends) > 0
	})
	return ends[0]
}

// wantEnd compares what the end says of the traffic, and that all else is as the allow event has it, which is of the same process.
func (n *network) wantEnd(reason string, sent, received int) {
	n.t.Helper()
	e := n.ended()
	if e.Traffic == nil || e.Traffic.Sent != uint64(sent) || e.Traffic.Received != uint64(received) || e.Reason != reason {
		n.t.Errorf("%q and %+v; want %q, %d sent, %d received", e.Reason, e.Traffic, reason, sent, received)
	}
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	var allow audit.Event
	for _, a := range n.log.events {
		if a.Action == actionConnect && a.Decision == audit.Allow {
			allow = a
		}
	}
	if e.Decision != audit.Report || e.Class != allow.Class || e.Target != allow.Target || e.Rule != allow.Rule || e.PID != allow.PID ||
		e.Exe != allow.Exe || e.Provenance != allow.Provenance || e.Via != allow.Via {
		n.t.Errorf("the end is %+v, of %+v", e, allow)
	}
	if len(n.log.ends) != 1 {
		n.t.Errorf("%d ends", len(n.log.ends))
	}
}

// wantNoEnd closes the gateway, after which nothing is written, and wants nothing to be told of an end.
func (n *network) wantNoEnd() {
	n.t.Helper()
	n.g.Close()
	if len(n.log.ends) > 0 {
		n.t.Errorf("an end of nothing: %+v", n.log.ends)
	}
}

// gitNetwork is a network in which git.test:2222 is allowed and served.
func gitNetwork(t *testing.T, handle func(net.Conn)) *network {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", handle)
	return n
}

func TestEndOfAConnection(t *testing.T) {
	n := gitNetwork(t, echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "SSH-2.0-client\r\n")
	wantRead(t, c, "echo: SSH-2.0-client\n")
	send(t, c, "more\n")
	wantRead(t, c, "echo: more\n")
	c.Close()
	n.wantEnd("", 16+5, 21+11)
	if e := n.ended(); e.Traffic.Address != n.world[netip.MustParseAddrPort("93.184.216.34:2222")] || e.Argv != nil {
		t.Errorf("%+v of %+v", e.Traffic, e)
	}
}

// TestEndOfALargeHalfClose: what the kernel copies is counted to the byte, each direction for itself.
func TestEndOfALargeHalfClose(t *testing.T) {
	const answer = 3<<20 + 1
	n := gitNetwork(t, func(c net.Conn) {
		io.Copy(io.Discard, c)
		c.Write(make([]byte, answer))
	})
	c := n.dialName("git.test", 2222)
	big := strings.Repeat("0123456789abcde\n", 1<<16)
	send(t, c, big)
	c.CloseWrite()
	if got, err := io.Copy(io.Discard, c); err != nil || got != answer {
		t.Fatalf("%d bytes: %v", got, err)
	}
	n.wantEnd("", len(big), answer)
}

// TestEndWhereTheServerSpeaksFirst: what it said before the client's first bytes were judged counts.
func TestEndWhereTheServerSpeaksFirst(t *testing.T) {
	n := gitNetwork(t, func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n")
		echo(c)
	})
	c := n.dialName("git.test", 2222)
	wantRead(t, c, "220 ready\r\n")
	send(t, c, "EHLO me\r\n")
	wantRead(t, c, "echo: EHLO me\n")
	c.CloseWrite()
	n.wantEnd("", 9, 11+14)
}

func TestEndByReset(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		n := gitNetwork(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 6))
			c.(*net.TCPConn).SetLinger(0)
		})
		c := n.dialName("git.test", 2222)
		send(t, c, "hello\n")
		wantReset(t, c)
		n.wantEnd("the connection was reset", 6, 0)
	})
	t.Run("client", func(t *testing.T) {
		n := gitNetwork(t, echo)
		c := n.dialName("git.test", 2222)
		send(t, c, "hello\n")
		wantRead(t, c, "echo: hello\n")
		c.SetLinger(0)
		c.Close()
		n.wantEnd("the connection was reset", 6, 12)
	})
	t.Run("unproven", func(t *testing.T) { // by the gateway, after the server has spoken
		n := gitNetwork(t, func(c net.Conn) {
			io.WriteString(c, "220 ready\r\n")
			io.Copy(io.Discard, c)
		})
		c := n.dialName("git.test", 2222)
		wantRead(t, c, "220 ready\r\n")
		send(t, c, "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n")
		wantReset(t, c)
		n.wantEnd("the connection was reset", 0, 11)
	})
}

// TestEndOfAClientThatLeaves: who has said all, and closes before the rest of the answer, has not been reset.
func TestEndOfAClientThatLeaves(t *testing.T) {
	said, left := make(chan struct{}), make(chan struct{})
	n := gitNetwork(t, func(c net.Conn) {
		io.Copy(io.Discard, c)
		close(said)
		<-left
		for c.SetDeadline(time.Now().Add(patience)); ; {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	c.CloseWrite()
	<-said
	c.Close()
	close(left)
	if e := n.ended(); e.Reason != "" || e.Traffic.Sent != 6 {
		t.Errorf("%q and %+v", e.Reason, e.Traffic)
	}
}

// TestEndOfTheRun: connections that are open then have an end as well, before Close returns.
func TestEndOfTheRun(t *testing.T) {
	n := gitNetwork(t, echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	n.g.Close()
	if len(n.log.ends) != 1 {
		t.Fatalf("%d ends", len(n.log.ends))
	}
	n.wantEnd("the run was over", 6, 12)
}

// TestNoEndWithoutABeginning: what was denied, or not reached, has no end of its own.
func TestNoEndWithoutABeginning(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222", "site.test:80")
	n.host("git.test", "93.184.216.34") // where nobody listens
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantReset(t, c)
	wantReset(t, n.dial("1.1.1.1:443"))
	n.dialName("site.test", 80).Close()
	n.wantEvents("net tcp.connect allow git.test:2222", "net dial.failed report git.test:2222", "net tcp.connect deny 1.1.1.1:443",
		"net tcp.connect report site.test:80")
	n.wantNoEnd()
}

// TestEndBehindTheProxy: what was asked of the proxy inside is no traffic.
func TestEndBehindTheProxy(t *testing.T) {
	n := gitNetwork(t, echo)
	c := n.dial(profiles.ProxyAddress)
	send(t, c, "CONNECT git.test:2222 HTTP/1.1\r\nHost: git.test:2222\r\n\r\n")
	wantRead(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	c.Close()
	n.wantEnd("", 6, 12)
}

// TestEndWithAQuota: where this process copies, the bytes are the same; what was not sent does not count.
func TestEndWithAQuota(t *testing.T) {
	n := gitNetwork(t, echo)
	n.g.uploads.quota.Upload = 10
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	send(t, c, "too much\n")
	wantReset(t, c)
	n.wantEnd("the connection was reset", 6, 12)
}

// TestEndOfARelay: of a connection whose requests go each for itself there is one end, with the bytes of all that went to the server.
func TestEndOfARelay(t *testing.T) {
	for _, quota := range []int64{0, 1 << 20} {
		n := newRelayed(t, reading)
		n.g.uploads.quota.Upload = quota
		totals := make(chan [2]int, 1)
		n.site(func(c net.Conn) {
			heard, said := 0, 0
			defer func() { totals <- [2]int{heard, said} }()
			br := bufio.NewReader(io.TeeReader(c, counter{&heard}))
			for {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				written, _ := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				said += written
			}
		})
		c := n.dialName("site.test", 80)
		br := bufio.NewReader(c)
		for _, request := range []string{
			"GET /a/b HTTP/1.1\r\nHost: site.test\r\n\r\n", "DELETE /a/b HTTP/1.1\r\nHost: site.test\r\n\r\n",
			"POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\n12345",
		} {
			exchange(t, c, br, request)
		}
		c.CloseWrite()
		io.Copy(io.Discard, br)
		total := <-totals
		n.wantEnd("", total[0], total[1])
		if total[0] == 0 || total[1] != 2*43 {
			t.Errorf("the server heard %d bytes and said %d", total[0], total[1])
		}
	}
}

// counter counts what is written to it.
type counter struct{ n *int }

func (c counter) Write(b []byte) (int, error) {
	*c.n += len(b)
	return len(b), nil
}
