// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/profiles"
)

// TestBodyThatTheServerLeaves: a server that takes the body of a GET for the next request is told to close instead of reading it. It is not
// told that the client has ended, at which many answer no more.
// Containment check: I19.
func TestBodyThatTheServerLeaves(t *testing.T) {
	const (
		hidden      = "GET /inside HTTP/1.1\r\nHost: other.test\r\n\r\n"
		answerAfter = 50 * time.Millisecond
	)
	for _, requests := range []profiles.Requests{{}, {Paths: []string{"/a"}}} {
		for _, tt := range []struct{ method, more, body string }{
			{"GET", fmt.Sprintf("Content-Length: %d\r\n", len(hidden)), hidden},
			{"DELETE", fmt.Sprintf("Connection: keep-alive, x\r\nX: 1\r\nContent-Length: %d\r\n", len(hidden)), hidden},
			{"OPTIONS", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)},
		} {
			n := newRelayed(t, requests)
			heads := make(chan string, 1)
			n.site(func(c net.Conn) {
				var got []byte
				for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\r\n\r\n")); got = append(got, b[0]) {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
				c.SetReadDeadline(time.Now().Add(answerAfter))
				if _, err := io.Copy(io.Discard, c); err == nil {
					got = append(got, "and no more"...)
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				heads <- string(got)
			})
			c := n.dialName("site.test", 80)
			status, body := exchange(t, c, bufio.NewReader(c), tt.method+" /a HTTP/1.1\r\nHost: site.test\r\n"+tt.more+"\r\n"+tt.body)
			if head := <-heads; status != 200 || body != "ok" || !strings.Contains(head, "\r\nConnection: close") || strings.Contains(head, "keep-alive") ||
				strings.HasSuffix(head, "and no more") {
				t.Errorf("%s: %d %q, after %q", tt.method, status, body, head)
			}
		}
	}
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	c := n.dialName("site.test", 80)
	if status, _ := exchange(t, c, bufio.NewReader(c), strings.Replace(upgrade, "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n", 1)); status != 400 {
		t.Errorf("a websocket with a body: %d", status)
	}
}
