// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// silent connects to dev.test:8080, with handle as the server, and waits until the gateway has taken the client for one that
// waits for the server's first word.
func (n *network) silent(handle func(net.Conn)) *net.TCPConn {
	n.t.Helper()
	n.host("dev.test", "93.184.216.34")
	connected := make(chan struct{})
	n.server("93.184.216.34:8080", func(c net.Conn) {
		close(connected)
		handle(c)
	})
	c := n.dialName("dev.test", 8080)
	<-connected
	return c
}

var slowUpgrade = strings.Replace(upgrade, "site.test", "dev.test:8080", 1)

// The key and its answer of RFC 6455 section 1.3.
const (
	websocketKey    = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	websocketAccept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)

// TestUpgradeThatIsNone: a server that gives status 101 to whoever asks for it, and goes on with HTTP, is asked nothing more.
// Containment check: I17.
func TestUpgradeThatIsNone(t *testing.T) {
	const request = "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	for _, tt := range []struct{ key, answer string }{
		{websocketKey, ""},
		{websocketKey, "Connection: Upgrade\r\nUpgrade: websocket\r\n"},
		{websocketKey, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n"},
		{websocketKey, "Connection: Upgrade\r\nUpgrade: h2c\r\n" + websocketAccept},
		{websocketKey, "Connection: Upgrade\r\nUpgrade: websocket\r\n" + websocketAccept + websocketAccept},
		{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n" + websocketAccept},
		{websocketKey + websocketKey, "Connection: Upgrade\r\nUpgrade: websocket\r\n" + websocketAccept},
	} {
		for _, requests := range []profiles.Requests{{}, {Methods: []string{"GET"}}} {
			n := newRelayed(t, requests)
			after := make(chan string, 1)
			n.site(func(c net.Conn) {
				br := bufio.NewReader(c)
				http.ReadRequest(br)
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n"+tt.answer+"\r\n")
				rest, _ := io.ReadAll(br)
				after <- string(rest)
			})
			c := n.dialName("site.test", 80)
			send(t, c, request+tt.key+"\r\nGET /inside HTTP/1.1\r\nHost: other.test\r\n\r\n")
			if status, body := exchange(t, c, bufio.NewReader(c), ""); status != http.StatusBadGateway || !strings.Contains(body, "could not be reached") {
				t.Errorf("%q: %d %q", tt, status, body)
			}
			c.CloseWrite()
			if got := <-after; got != "" {
				t.Errorf("%q: the server got %q", tt, got)
			}
			if !strings.Contains(strings.Join(n.log.lines(), "\n"), "net dial.failed report site.test:80") {
				t.Errorf("%q: %q", tt, n.log.lines())
			}
		}
	}
}

// A busy client that sends its first request late gets its websocket as any other.
func TestWebsocketOfASlowClient(t *testing.T) {
	const taken = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" + websocketAccept + "\r\nfirst frame\n"
	for _, word := range []string{"", "a word before\n"} {
		n := newNetwork(t, nil, "dev.test:8080")
		c := n.silent(func(c net.Conn) {
			io.WriteString(c, word)
			if _, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, int64(len(slowUpgrade))))); err != nil {
				return
			}
			io.WriteString(c, taken)
			echo(c)
		})
		wantRead(t, c, word)
		send(t, c, slowUpgrade+"frame 1\n")
		wantRead(t, c, taken+"echo: frame 1\n")
		send(t, c, "GET / HTTP/1.1\n") // is a frame like any other
		wantRead(t, c, "echo: GET / HTTP/1.1\n")
		n.wantEvents("net tcp.connect allow dev.test:8080")
	}
}

// Where the server does not change the protocol, what a slow client sends next is judged, too.
func TestSlowUpgradeThatIsNotTaken(t *testing.T) {
	n := newNetwork(t, nil, "dev.test:8080")
	c := n.silent(func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.Host), req.Host)
		}
	})
	br := bufio.NewReader(c)
	for _, request := range []string{slowUpgrade, "GET /next HTTP/1.1\r\nHost: dev.test:8080\r\n\r\n"} {
		if status, body := exchange(t, c, br, request); status != 200 || body != "dev.test:8080" {
			t.Errorf("%d %q", status, body)
		}
	}
	send(t, c, "GET /bad HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow dev.test:8080", "net http.host_mismatch deny dev.test:8080")
}

// A server that has gone before the request comes is not waited for, and the request is not to blame.
func TestSlowUpgradeOfAServerThatIsGone(t *testing.T) {
	n := newNetwork(t, nil, "dev.test:8080")
	c := n.silent(func(net.Conn) {})
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("read %q, %v; want the end", b, err)
	}
	send(t, c, slowUpgrade)
	c.CloseWrite()
	eventually(t, func() bool { return len(n.g.slots) == 0 })
	n.wantEvents("net tcp.connect allow dev.test:8080")
}
