// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Collector is an OpenTelemetry collector that takes logs by OTLP over HTTP, in its JSON encoding:
// https://opentelemetry.io/docs/specs/otlp/ and its opentelemetry/proto/logs/v1/logs.proto. docs/decisions/0007-otlp.md says why the
// encoding is written down here.
type Collector struct {
	URL    *url.URL // of the logs, such as http://localhost:4318/v1/logs
	Header http.Header
	// Refuse says why no connection is made to an address, the proxy's where one is used; nil: to any.
	Refuse func(netip.AddrPort) error
}

// String names the collector, without what may be a secret.
func (c Collector) String() string {
	shown := url.URL{Scheme: c.URL.Scheme, Host: c.URL.Host, Path: c.URL.Path}
	return "otlp " + shown.String()
}

// Bounds of a request, and how long an answer may take. A request that failed is tried again after a pause, which doubles.
const (
	otlpBatch     = 512 << 10 // bytes of lines
	otlpStart     = 5 * time.Second
	otlpAnswer    = 10 * time.Second
	otlpPause     = 100 * time.Millisecond
	otlpMaxPause  = 5 * time.Second
	otlpMaxAnswer = 64 << 10
	otlpMaxText   = 200 // of what it says of an error
)

// collector is a Collector that has answered.
type collector struct {
	Collector
	client *http.Client
	host   string
}

func openCollector(c Collector) (sink, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Control: c.control}).DialContext
	client := &http.Client{
		Transport: transport,
		// The log goes where it was sent, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host, _ := os.Hostname() // without a name there is no attribute
	o := &collector{Collector: c, client: client, host: host}
	ctx, cancel := context.WithTimeout(context.Background(), otlpStart)
	defer cancel()
	if _, err := o.post(ctx, []byte(`{"resourceLogs":[]}`)); err != nil {
		return nil, &SinkError{c.String(), fmt.Errorf("no collector takes logs: %w", err)}
	}
	return newQueue(c.String(), o), nil
}

// control is called with each address before a connection is made.
func (c Collector) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || c.Refuse == nil {
		return err
	}
	return c.Refuse(at)
}

func (o *collector) send(ctx context.Context, lines []byte) (lost uint64, err error) {
	for len(lines) > 0 && err == nil {
		batch := firstLines(lines, otlpBatch)
		lines = lines[len(batch):]
		rejected, failed := o.deliver(ctx, o.request(batch))
		if failed != nil || ctx.Err() != nil {
			rejected = countLines(batch)
		}
		lost, err = lost+min(rejected, countLines(batch)), failed
	}
	return lost + countLines(lines), err
}

// firstLines is as much of the lines as fits, and one at least.
func firstLines(lines []byte, size int) []byte {
	if len(lines) <= size {
		return lines
	}
	if i := bytes.LastIndexByte(lines[:size], '\n'); i >= 0 {
		return lines[:i+1]
	}
	return lines[:bytes.IndexByte(lines, '\n')+1]
}

// deliver posts a request until it is answered, or ctx ends.
func (o *collector) deliver(ctx context.Context, body []byte) (rejected uint64, err error) {
	for pause := otlpPause; ctx.Err() == nil; pause = min(2*pause, otlpMaxPause) {
		attempt, cancel := context.WithTimeout(ctx, otlpAnswer)
		rejected, err = o.post(attempt, body)
		cancel()
		var status *statusError
		if err == nil || errors.As(err, &status) && !status.again() {
			return rejected, err
		}
		wait(ctx, max(pause, status.pause()))
	}
	return 0, nil
}

// statusError is an answer of a collector that did not take a request.
type statusError struct {
	code  int
	after time.Duration // which it asks for
	text  string        // what it says of it
}

func (e *statusError) Error() string {
	msg := fmt.Sprintf("it answers %d %s", e.code, http.StatusText(e.code))
	switch {
	case e.text == "":
		return msg
	case e.code/100 == 3:
		return msg + ", and that it is at " + e.text + ": give that URL, if you trust it; redirects are not followed"
	}
	return msg + ": " + e.text
}

// textOf is what an answer says of itself: where else to ask, or the message of a status (OTLP, "Failures"), or the first line of a text.
func textOf(answer *http.Response, body []byte) string {
	if answer.StatusCode/100 == 3 {
		to, err := answer.Location()
		if err != nil {
			return ""
		}
		return cut(Collector{URL: to}.String()[len("otlp "):], otlpMaxText)
	}
	var status struct{ Message string }
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return Printable(cut(status.Message, otlpMaxText))
	}
	if kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";"); kind != "text/plain" {
		return ""
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return Printable(cut(strings.TrimSpace(line), otlpMaxText))
}

// again tells whether the same request may succeed later (OTLP, "Retryable Response Codes").
func (e *statusError) again() bool {
	switch e.code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// pause is how long the collector wants to be left alone.
func (e *statusError) pause() time.Duration {
	if e == nil {
		return 0
	}
	return min(e.after, time.Minute)
}

// post sends one request. It tells how many records of it were rejected.
func (o *collector) post(ctx context.Context, body []byte) (rejected uint64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL.String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, values := range o.Header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := o.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL is the sink's, and may hold a secret
		}
		return 0, err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, otlpMaxAnswer))
	if answer.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return 0, &statusError{answer.StatusCode, time.Duration(seconds) * time.Second, textOf(answer, text)}
	}
	return rejectedOf(text), nil
}

// rejectedOf reads a partial success: a number of 64 bits, which JSON has as text (or not).
func rejectedOf(answer []byte) uint64 {
	var a struct {
		PartialSuccess struct {
			RejectedLogRecords json.RawMessage `json:"rejectedLogRecords"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return 0
	}
	n, _ := strconv.ParseUint(string(bytes.Trim(a.PartialSuccess.RejectedLogRecords, `"`)), 10, 64)
	return n
}

func (o *collector) close() error {
	o.client.CloseIdleConnections()
	return nil
}
