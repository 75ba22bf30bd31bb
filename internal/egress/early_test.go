// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"io"
	"net"
	"strings"
	"testing"
)

// A server may answer before it has read all, and close: what it said arrives, as without a gateway, where the reset that follows
// it meets the client's next write.
func TestAnswerOfAServerThatDoesNotReadOn(t *testing.T) {
	const answer = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
	for _, first := range []string{
		"\x00put\n",
		"POST / HTTP/1.1\r\nHost: git.test\r\nContent-Length: 4194304\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: git.test\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n",
	} {
		n := newNetwork(t, nil, "git.test:2222")
		n.host("git.test", "93.184.216.34")
		n.server("93.184.216.34:2222", func(c net.Conn) {
			io.ReadFull(c, make([]byte, 4))
			io.WriteString(c, answer)
		})
		body := strings.Repeat("z", 64<<10)
		for range 30 { // which of the two comes first at the gateway is chance
			c := n.dialName("git.test", 2222)
			send(t, c, first)
			for range 64 {
				if _, err := io.WriteString(c, body); err != nil {
					break
				}
			}
			if b, err := io.ReadAll(c); string(b) != answer {
				t.Fatalf("%q: read %q, %v", first, b, err)
			}
			c.Close()
		}
	}
}

// A client that is gone ends the server's side at once, whatever the server still says.
func TestClientThatResets(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	got := make(chan error, 1)
	n.server("93.184.216.34:2222", func(c net.Conn) {
		_, err := io.ReadAll(c)
		got <- err
	})
	c := n.dialName("git.test", 2222)
	send(t, c, "\x00put\n")
	eventually(t, func() bool { return n.dialed() != "" })
	c.SetLinger(0)
	c.Close()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the server read to %v, want a reset", err)
	}
}
