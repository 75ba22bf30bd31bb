// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// switched passes the answer to the first request on up to the head that decides, and reports whether the server changed
// the protocol. What the server sent beyond is passed on too. The error is of a change that is none.
func (l *link) switched(req *http.Request) (bool, error) {
	br := bufio.NewReaderSize(l.up, maxHead)
	for {
		raw, _ := br.Peek(br.Buffered())
		end := headEnd(raw)
		if end == 0 {
			if _, err := br.Peek(len(raw) + 1); err != nil {
				l.conn.Write(raw)
				return false, nil
			}
			continue
		}
		switch status := statusOf(raw[:end]); {
		case status == http.StatusSwitchingProtocols:
			res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw[:end])), req)
			if err != nil || !takesWebsocket(req.Header, res.Header) {
				return false, errNoWebsocket
			}
			l.conn.Write(raw)
			return true, nil
		case status < 100 || status > 199:
			l.conn.Write(raw)
			return false, nil
		}
		l.conn.Write(raw[:end]) // 100 Continue and the like: the answer is still to come
		br.Discard(end)
	}
}

var errNoWebsocket = errors.New("the server answered with status 101, and not as one that takes a websocket (RFC 6455 section 4.2.2)")

// takesWebsocket tells whether an answer with status 101 is that of a server which understood the request. Others give any status that the
// URL asks for, and go on with HTTP on a connection in which no request would be judged any more.
func takesWebsocket(asked, answered http.Header) bool {
	keys, accepted := asked.Values("Sec-WebSocket-Key"), answered.Values("Sec-WebSocket-Accept")
	if len(keys) != 1 || len(accepted) != 1 {
		return false
	}
	sum := sha1.Sum([]byte(keys[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return accepted[0] == base64.StdEncoding.EncodeToString(sum[:]) && slices.Equal(tokens(answered.Values("Upgrade")), []string{"websocket"})
}

// statusOf returns the status of a response, or 0.
func statusOf(raw []byte) int {
	var status int
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	if _, err := fmt.Sscanf(string(line), "HTTP/1.1 %3d", &status); err != nil {
		return 0
	}
	return status
}
