// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// serveHTTP passes the requests of a plain HTTP connection on, each only if it is for the name. The bodies are framed anew,
// so that the server finds the next request where it was found here. Responses are not looked at, except for the one to a
// request to change the protocol: after a refusal the connection goes on with requests.
func (l *link) serveHTTP() {
	if l.absolute {
		l.serveAbsolute()
		return
	}
	br := bufio.NewReaderSize(&l.in, maxHead)
	last := false
	for requests := 0; !last; requests++ {
		h, req, err := l.nextRequest(br, l.name)
		if err == nil && h == nil {
			break
		}
		websocket := err == nil && h.upgrade == "websocket"
		if websocket && requests > 0 {
			err = malformed("a websocket must be the first request of its connection")
		}
		if err != nil {
			l.refuseRequest(err)
			return
		}
		if l.up == nil && !l.connectFor(!websocket) {
			return
		}
		if l.plain {
			if err := h.forProxy(target(l.name, l.dst), l.secret); err != nil {
				l.refuseRequest(err)
				return
			}
		}
		if last = hasOddBody(req); last {
			h.close()
		}
		if websocket && l.pumped != nil {
			l.takeBack()
		} else if !websocket && l.pumped == nil {
			l.answerFrom()
		}
		if err := forward(l.out(), h, req, websocket); err != nil {
			l.unsent(err)
			return
		}
		if websocket {
			switch switched, err := l.switched(req); {
			case err != nil:
				l.failed(err.Error(), "")
				farewell(l.conn, httpAnswer(http.StatusBadGateway, l.unreached()))
				reset(l.up)
				return
			case switched:
				rest, _ := br.Peek(br.Buffered())
				l.in.data = append(bytes.Clone(rest), l.in.data...)
				l.splice()
				return
			}
		}
		if l.pumped == nil {
			l.answerFrom()
		}
	}
	switch {
	case last:
		l.lastAnswer(br)
	case l.up != nil:
		l.sent()
		<-l.pumped
	}
}

// lastAnswer waits for the answer to the last request of a connection. The end of what the client says is passed on when it comes, not made
// up: many servers take it for that of the client, and answer nobody then.
func (l *link) lastAnswer(br *bufio.Reader) {
	switch _, err := br.Peek(1); {
	case errors.Is(err, io.EOF):
		l.sent()
	case err != nil:
		l.abort() // the client is gone
		return
	}
	<-l.pumped
	drain(l.conn)
}

// hasOddBody tells a request with a body that its method has no use for (RFC 9110 section 9.3.1): some servers leave such a body where it is,
// and take it for the next request, which nobody has judged. The server is told to close the connection instead of reading on.
func hasOddBody(r *http.Request) bool {
	return r.ContentLength != 0 && slices.Contains([]string{"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"}, r.Method)
}

// nextRequest waits for a request to host, and judges it. It is nil where the client ended.
func (l *link) nextRequest(br *bufio.Reader, host string) (*head, *http.Request, error) {
	raw, err := l.readHead(br)
	if err != nil || raw == nil {
		return nil, nil, err
	}
	h, err := parseHead(raw, host, l.dst.Port())
	if err != nil {
		return nil, nil, err
	}
	req, err := secondOpinion(br, h)
	return h, req, err
}

// refuseRequest denies a request. Only the first one of a connection can be answered: later ones may overtake responses.
func (l *link) refuseRequest(err error) {
	var bad *headError
	if !errors.As(err, &bad) {
		l.abort() // the client is gone
		return
	}
	l.deny(bad.action, l.allow.Rule, bad.why)
	l.refuse(bad.status, bad.why)
}

// unsent ends a connection after a request could not be passed on to its end.
func (l *link) unsent(err error) {
	var bad *headError
	if errors.As(err, &bad) {
		l.deny(bad.action, l.allow.Rule, bad.why)
		l.abort() // the server has a part of the request: nothing can be put between
		return
	}
	l.broken()
}

// readHead waits for the head of a request, and returns it without taking it from br. It is nil where the client ended.
func (l *link) readHead(br *bufio.Reader) ([]byte, error) {
	defer l.conn.SetReadDeadline(time.Time{})
	if _, err := br.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	l.in.setTimeout(l.g.wait.proof)
	for {
		raw, _ := br.Peek(br.Buffered())
		if end := headEnd(raw); end > 0 {
			return raw[:end], nil
		}
		if len(raw) == maxHead {
			return nil, malformed("the head of the request is longer than %d bytes", maxHead)
		}
		if _, err := br.Peek(len(raw) + 1); err != nil {
			return nil, malformed("the head of the request is not complete")
		}
	}
}

// headEnd returns the length of a head that ends in an empty line, or 0. A bare LF counts as the end of a line here: the
// head is then refused, where some servers would have found its end.
func headEnd(raw []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(raw[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		rest := raw[from:]
		switch {
		case bytes.HasPrefix(rest, []byte("\n")):
			return from + 1
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return from + 2
		}
	}
}

// secondOpinion reads the same request as Go's server does, whose reader of bodies is used. Both must agree.
func secondOpinion(br *bufio.Reader, h *head) (*http.Request, error) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, malformed("the request is malformed")
	}
	if chunked := req.ContentLength < 0; chunked != h.chunked {
		return nil, malformed("the length of the request's body is not clear")
	}
	return req, nil
}

// forward writes a request with its body.
func forward(w io.Writer, h *head, req *http.Request, keepUpgrade bool) error {
	if _, err := w.Write(h.bytes(keepUpgrade)); err != nil {
		return err
	}
	if h.chunked {
		return forwardChunks(w, req)
	}
	n, err := io.Copy(w, req.Body) // no more can be wrong with it than that it ends early
	if err == nil && n != req.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// badTrailers would change what the request is.
var badTrailers = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade"}

// forwardChunks frames a chunked body anew: extensions of chunks are dropped, and trailers that would change what the
// request is.
func forwardChunks(w io.Writer, req *http.Request) error {
	const room = 10 // for the size in hexadecimal and CR LF
	buf := make([]byte, 32<<10)
	for {
		n, err := req.Body.Read(buf[room : len(buf)-2])
		if n > 0 {
			size := fmt.Sprintf("%x\r\n", n)
			start := room - len(size)
			copy(buf[start:], size)
			copy(buf[room+n:], "\r\n")
			if _, err := w.Write(buf[start : room+n+2]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return badChunk(err)
		}
	}
	var end bytes.Buffer
	end.WriteString("0\r\n")
	for _, name := range badTrailers {
		req.Trailer.Del(name)
	}
	if err := req.Trailer.Write(&end); err != nil {
		return err
	}
	end.WriteString("\r\n")
	_, err := w.Write(end.Bytes())
	return err
}

// badChunk makes a malformed request of an error in a chunked body, unless it is that the client left.
func badChunk(err error) error {
	var network net.Error
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		return err
	}
	return malformed("the chunks of the request's body are malformed")
}
