// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/agentjail/agentjail/profiles"
)

// wantReason waits for the end of the one connection, and compares what it says of how that came.
func (n *network) wantReason(reason string) {
	n.t.Helper()
	if e := n.ended(); e.Reason != reason {
		n.t.Errorf("the end says %q, want %q", e.Reason, reason)
	}
}

// TestEndOfAWebsocket: of one whose requests go each for itself, it is known who has reset it.
func TestEndOfAWebsocket(t *testing.T) {
	const (
		upgrade  = "GET /a/b HTTP/1.1\r\nHost: site.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + websocketKey + "\r\n"
		switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + websocketAccept + "\r\n"
	)
	for _, quota := range []int64{0, 1 << 20} {
		for _, tt := range []struct {
			what   string
			server func(net.Conn)
			client func(*net.TCPConn)
			reason string
		}{
			{"an orderly end", func(c net.Conn) { io.Copy(c, c) }, func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }, ""},
			{"a client that resets", func(c net.Conn) { io.Copy(c, c) }, func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, "the connection was reset"},
			{"a server that resets", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }, func(c *net.TCPConn) { io.Copy(io.Discard, c) }, "the connection was reset"},
		} {
			t.Run(tt.what, func(t *testing.T) {
				n := newRelayed(t, profiles.Requests{Methods: []string{"GET"}})
				n.g.uploads.quota.Upload = quota
				n.site(func(c net.Conn) {
					if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
						t.Error(err)
					}
					io.WriteString(c, switched+"ready")
					io.ReadFull(c, make([]byte, 5))
					tt.server(c)
				})
				c := n.dialName("site.test", 80)
				send(t, c, upgrade)
				br := bufio.NewReader(c)
				if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
					t.Fatal(res, err)
				}
				wantRead(t, br, "ready")
				send(t, c, "hello")
				tt.client(c)
				n.wantReason(tt.reason)
			})
		}
	}
}

// TestEndOfStreams: the same of HTTP/2.
func TestEndOfStreams(t *testing.T) {
	for _, reset := range []bool{false, true} {
		n := newInspected(t, profiles.Requests{Methods: []string{"GET"}})
		n.secure("site.test", mirror, nil)
		var raw *net.TCPConn
		tr := &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				raw = n.dialName("site.test", 443)
				return raw, nil
			},
			TLSClientConfig:   &tls.Config{RootCAs: n.roots, ServerName: "site.test"},
			ForceAttemptHTTP2: true,
		}
		t.Cleanup(tr.CloseIdleConnections)
		if status, _, res := ask(t, &http.Client{Transport: tr, Timeout: patience}, "GET", "https://site.test/a/b", "", ""); status != 200 || res.ProtoMajor != 2 {
			t.Fatal(status, res.Proto)
		}
		want := ""
		if reset {
			want = "the connection was reset"
			raw.SetLinger(0)
			raw.Close()
		}
		tr.CloseIdleConnections()
		n.wantReason(want)
	}
}

// TestEndOfAnAbortedUpload: a client that leaves in the middle of a request, while the server takes nothing more, was counted to the byte.
func TestEndOfAnAbortedUpload(t *testing.T) {
	n := newInspected(t, profiles.Requests{Methods: []string{"POST"}})
	certificate, err := n.served.For("site.test")
	if err != nil {
		t.Fatal(err)
	}
	n.host("site.test", "93.184.216.34")
	reached, told, heard := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	n.server("93.184.216.34:443", func(c net.Conn) {
		total := 0
		if err := tls.Server(counting{c, &total}, &tls.Config{Certificates: []tls.Certificate{*certificate}}).Handshake(); err != nil {
			t.Error(err)
		}
		close(reached)
		<-told
		rest, _ := io.Copy(io.Discard, c)
		heard <- total + int(rest)
	})
	var raw *net.TCPConn
	c := n.client(true)
	c.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		raw = n.dialName("site.test", 443)
		return raw, nil
	}
	body, fill := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := c.Post("https://site.test/up", "", body); err == nil {
			res.Body.Close()
			t.Error("it was answered")
		}
	}()
	go io.Copy(fill, zeros{})
	<-reached
	time.Sleep(200 * time.Millisecond) // most likely until no more is taken
	raw.SetLinger(0)
	raw.Close()
	e := n.ended()
	close(told)
	if got := <-heard; e.Traffic.Sent != uint64(got) || e.Reason != "the connection was reset" {
		t.Errorf("%q, %+v; the server has %d bytes", e.Reason, e.Traffic, got)
	}
	fill.Close()
	<-done
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// counting counts what is read.
type counting struct {
	net.Conn
	n *int
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	*c.n += n
	return n, err
}

// TestEndOfAnAbortedAnswer: nothing that the server sends is counted after the end, and the end waits for no server.
func TestEndOfAnAbortedAnswer(t *testing.T) {
	n := newRelayed(t, profiles.Requests{Methods: []string{"GET"}})
	done := make(chan struct{})
	n.site(func(c net.Conn) {
		defer close(done)
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil { // an answer to no request yet ends a connection
			t.Error(err)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nhello")
		for c.SetDeadline(time.Now().Add(patience)); ; {
			if _, err := c.Write(make([]byte, 1<<12)); err != nil {
				return
			}
		}
	})
	c := n.dialName("site.test", 80)
	send(t, c, "GET /a/b HTTP/1.1\r\nHost: site.test\r\n\r\n")
	io.CopyN(io.Discard, c, 1<<16)
	c.SetLinger(0)
	c.Close()
	e := n.ended()
	<-done
	if e.Reason != "the connection was reset" || e.Traffic.Received < 1<<15 {
		t.Errorf("%q, %+v", e.Reason, e.Traffic)
	}
}
