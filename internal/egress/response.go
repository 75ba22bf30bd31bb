// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A response writes the answer to one HTTP/1 request. It is the http.ResponseWriter, Flusher and Hijacker of that request's handler.
type response struct {
	conn net.Conn
	br   *bufio.Reader
	w    *bufio.Writer
	req  *http.Request
	body *received
	held func() bool // tells whether a program still has the client's end

	header   http.Header
	trailers []string // that were announced
	status   int      // 0 until the head is written
	chunked  bool
	left     int64 // of a body whose length was said; -1 where it was not
	none     bool  // there is no body
	last     bool  // the connection ends after it
	hijacked bool
}

// received is the body of a request as the client sends it.
type received struct {
	io.ReadCloser
	w        *response
	expected bool // the client waits for 100 Continue before it sends anything
	left     int64
	done     chan struct{} // closed when all of it was read

	mu       sync.Mutex
	answered bool // the head of the answer is written: nothing comes before it any more
}

// newResponse makes the answer of a request that was read from br.
func newResponse(conn net.Conn, br *bufio.Reader, req *http.Request, held func() bool) *response {
	w := &response{conn: conn, br: br, w: bufio.NewWriterSize(conn, 4096), req: req, header: make(http.Header), left: -1, held: held}
	w.last = req.Close || !req.ProtoAtLeast(1, 1)
	w.body = &received{
		ReadCloser: req.Body, w: w, left: req.ContentLength, done: make(chan struct{}),
		expected: strings.EqualFold(req.Header.Get("Expect"), "100-continue") && req.ProtoAtLeast(1, 1),
	}
	if req.ContentLength == 0 {
		close(w.body.done)
	} else {
		req.Body = w.body
	}
	return w
}

// Read reads the body; not before the server wants it, which is when the client is told to send it.
func (r *received) Read(b []byte) (int, error) {
	if r.over() {
		return 0, io.EOF
	}
	if err := r.ask(); err != nil {
		return 0, err
	}
	n, err := r.ReadCloser.Read(b)
	if r.left > 0 {
		r.left -= int64(n)
	}
	if r.left == 0 || err == io.EOF && r.left < 0 {
		close(r.done)
	}
	return n, err
}

// ask tells a client to send the body that waits for that, RFC 9110 section 10.1.1.
func (r *received) ask() error {
	if !r.expected {
		return nil
	}
	r.expected = false
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return http.ErrBodyReadAfterClose
	}
	_, err := io.WriteString(r.w.conn, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}

// answer ends the time for ask.
func (r *received) answer() {
	r.mu.Lock()
	r.answered = true
	r.mu.Unlock()
}

// Close leaves what was not read: reading it could take for ever.
func (r *received) Close() error { return nil }

// over reports whether all of the body was read.
func (r *received) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// serve has the handler answer the request, and reports false where the answer is not whole.
func (w *response) serve(ctx context.Context, h http.Handler) (whole bool) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, http.ServerContextKey, &http.Server{})) // has the proxy panic, see below
	defer cancel()
	if w.body.over() && w.req.Header.Get("Upgrade") == "" {
		defer w.watch(cancel)()
	}
	defer func() {
		switch r := recover(); r {
		case nil:
		case http.ErrAbortHandler: // the answer of the server ended early
			whole = false
		default:
			panic(r)
		}
	}()
	h.ServeHTTP(w, w.req.WithContext(ctx))
	return w.hijacked || w.finish()
}

// closing is more than close(2) takes from the end that it sends to when nobody has the socket any more.
const closing = 10 * time.Millisecond

// watch calls gone if the client leaves before the end; the function that it returns ends that. One that has only said all that it has to
// say (shutdown(2)) still has its socket.
func (w *response) watch(gone func()) (end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := w.br.Peek(1)
		if errors.Is(err, io.EOF) {
			time.Sleep(closing)
		}
		if err != nil && !(errors.Is(err, io.EOF) && w.held()) {
			gone()
		}
	}()
	return func() {
		w.conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		w.conn.SetReadDeadline(time.Time{})
	}
}

// Header returns the fields of the answer.
func (w *response) Header() http.Header { return w.header }

// WriteHeader writes the head of an answer, or of one that comes before it, RFC 9110 section 15.2.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status >= 100 && status < 200 {
		if status != http.StatusContinue && w.req.ProtoAtLeast(1, 1) {
			w.head(status)
			w.w.Flush()
		}
		return
	}
	w.body.answer()
	w.status = status
	w.trailers = tokens(w.header.Values("Trailer"))
	w.header.Del("Transfer-Encoding")
	w.header.Del("Connection")
	length, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64)
	switch {
	case w.req.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified:
		w.none = true
	case err == nil && length >= 0 && len(w.trailers) == 0:
		w.left = length
	case w.req.ProtoAtLeast(1, 1):
		w.header.Del("Content-Length")
		w.chunked = true
		w.header.Set("Transfer-Encoding", "chunked")
	default:
		w.last = true
	}
	if !w.body.over() {
		w.last = true // what is still to come of the request is not read
	}
	if w.last {
		w.header.Set("Connection", "close")
	}
	w.head(status)
}

func (w *response) head(status int) {
	fmt.Fprintf(w.w, "HTTP/1.1 %03d %s\r\n", status, http.StatusText(status))
	w.header.Write(w.w)
	io.WriteString(w.w, "\r\n")
}

// Write writes a part of the body.
func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.none || len(b) == 0:
		return len(b), nil
	case w.chunked:
		fmt.Fprintf(w.w, "%x\r\n", len(b))
		w.w.Write(b)
		_, err := io.WriteString(w.w, "\r\n")
		return len(b), err
	case w.left >= 0 && int64(len(b)) > w.left:
		return 0, http.ErrContentLength
	case w.left >= 0:
		w.left -= int64(len(b))
	}
	return w.w.Write(b)
}

// Flush sends what was written.
func (w *response) Flush() {
	w.WriteHeader(http.StatusOK)
	w.w.Flush()
}

// Hijack hands the connection over, with what was read of it already.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hijacked = true
	return taken{wrapped{w.conn}, w.br}, bufio.NewReadWriter(w.br, w.w), nil
}

// taken is a connection of which some was read.
type taken struct {
	wrapped
	br *bufio.Reader
}

func (t taken) Read(b []byte) (int, error) { return t.br.Read(b) }

// finish ends the answer, and reports whether it is whole.
func (w *response) finish() bool {
	w.WriteHeader(http.StatusOK)
	if w.left > 0 {
		w.w.Flush()
		return false
	}
	if w.chunked {
		io.WriteString(w.w, "0\r\n")
		trailer := make(http.Header)
		for key, values := range w.header {
			name, late := strings.CutPrefix(key, http.TrailerPrefix)
			if late || slices.Contains(w.trailers, strings.ToLower(key)) {
				trailer[name] = values
			}
		}
		trailer.Write(w.w)
		io.WriteString(w.w, "\r\n")
	}
	return w.w.Flush() == nil
}
