// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeCollector takes logs as the specification says, and gives the answers that it is told to.
type fakeCollector struct {
	*httptest.Server
	mu      sync.Mutex
	records []otlpRecord
	answers []func(http.ResponseWriter) // of the next requests; nil: takes it
	header  http.Header                 // of the last request
}

func startCollector(t *testing.T) (*fakeCollector, Copy) {
	t.Helper()
	c := &fakeCollector{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	u, err := url.Parse(c.URL + "/v1/logs")
	if err != nil {
		t.Fatal(err)
	}
	return c, Copy{OTLP: &Collector{URL: u, Header: http.Header{"Authorization": {"Bearer secret"}}}}
}

func (c *fakeCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = r.Header
	if len(c.answers) > 0 {
		answer := c.answers[0]
		if c.answers = c.answers[1:]; answer != nil {
			answer(w)
			return
		}
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "no request for logs", http.StatusBadRequest)
		return
	}
	body, _ := io.ReadAll(r.Body)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var request otlpRequest
	if err := d.Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, resource := range request.ResourceLogs {
		for _, scope := range resource.ScopeLogs {
			c.records = append(c.records, scope.LogRecords...)
		}
	}
	fmt.Fprint(w, `{"partialSuccess":{}}`)
}

// next tells the collector what to answer.
func (c *fakeCollector) next(answers ...func(http.ResponseWriter)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, answers...)
}

func (c *fakeCollector) bodies() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []byte
	for _, r := range c.records {
		all = append(append(all, *r.Body.String...), '\n')
	}
	return all
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// TestOTLP: the bodies of the records are the log, whatever the collector had to be asked twice for.
func TestOTLP(t *testing.T) {
	c, to := startCollector(t)
	c.next(nil, status(http.StatusServiceUnavailable), status(http.StatusTooManyRequests))
	r, path := copied(t, to)
	for i := range 700 { // more than a request holds
		r.Emit(denied(ClassFile, fmt.Sprint("/\u202e", strings.Repeat("x", 1000), i)))
	}
	caughtUp(t, r)
	s, _ := closed(t, r, path)
	if want := wholeFile(t, path); !bytes.Equal(c.bodies(), want) || len(s.Troubles) > 0 {
		t.Errorf("the collector has %d bytes, the log %d; troubles %+v", len(c.bodies()), len(want), s.Troubles)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header.Get("Authorization") != "Bearer secret" {
		t.Errorf("the headers are %v", c.header)
	}
}

func wholeFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := io.ReadAll(mustOpen(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestOTLPRefuses: a collector that will never take the log is a failure.
func TestOTLPRefuses(t *testing.T) {
	t.Parallel() // it waits, more than it works
	for _, code := range []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusFound} {
		c, to := startCollector(t)
		c.next(nil, nil, status(code))
		r, path := copied(t, to)
		for len(c.bodies()) == 0 {
			time.Sleep(time.Millisecond)
		}
		r.Emit(denied(ClassFile, "/a"))
		<-r.Failed()
		var se *SinkError
		if err := r.Err(); !errors.As(err, &se) || !strings.Contains(err.Error(), fmt.Sprint(code)) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: the error is %v", code, err)
		}
		s, _ := r.Close(End{})
		if events := wholeLog(t, path); len(s.Troubles) != 1 || s.Troubles[0].Lines != 1 || events[len(events)-2].Action != ActionSinkFailed {
			t.Errorf("%d: troubles %+v", code, s.Troubles)
		}
	}
}

// TestOTLPRejects: what the collector says that it left out is counted.
func TestOTLPRejects(t *testing.T) {
	c, to := startCollector(t)
	c.next(nil, func(w http.ResponseWriter) {
		fmt.Fprint(w, `{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}`)
	})
	r, path := copied(t, to)
	s, _ := closed(t, r, path)
	if len(s.Troubles) != 1 || s.Troubles[0].Lines != 1 || s.Troubles[0].Error != "" {
		t.Errorf("troubles %+v", s.Troubles)
	}
	c.next(nil, func(w http.ResponseWriter) {
		fmt.Fprint(w, `{"partialSuccess":{"rejectedLogRecords":"18446744073709551615"}}`)
	})
	r, path = copied(t, to)
	if s, _ := closed(t, r, path); len(s.Troubles) != 1 || s.Troubles[0].Lines == 0 || s.Troubles[0].Lines > s.Lines {
		t.Errorf("more is rejected than was sent: %+v, of %d lines", s.Troubles, s.Lines)
	}
	for answer, want := range map[string]uint64{
		`{"partialSuccess":{"rejectedLogRecords":7}}`: 7, `{"partialSuccess":{"rejectedLogRecords":"-1"}}`: 0, `{}`: 0, ``: 0, `<html>`: 0,
	} {
		if got := rejectedOf([]byte(answer)); got != want {
			t.Errorf("%s: %d rejected", answer, got)
		}
	}
}

// TestOTLPGone: a collector that is gone at the end does not keep the run from it.
func TestOTLPGone(t *testing.T) {
	t.Parallel() // it waits, more than it works
	c, to := startCollector(t)
	r, path := copied(t, to)
	c.Close()
	r.Emit(denied(ClassFile, "/a"))
	s, events := closed(t, r, path)
	if len(s.Troubles) != 1 || s.Troubles[0].Lines == 0 || s.Troubles[0].Lines > uint64(len(events)) {
		t.Errorf("troubles %+v", s.Troubles)
	}
}

func TestNoCollector(t *testing.T) {
	gone, to := startCollector(t)
	gone.Close()
	_, refuses := startCollector(t)
	refuses.OTLP.URL.Path = "/elsewhere"
	refuses.OTLP.URL.RawQuery = "token=secret"
	for name, c := range map[string]Copy{"connection refused": to, "answers 400 Bad Request": refuses} {
		_, err := Open(Options{Path: t.TempDir() + "/log", Copies: []Copy{c}, Run: testRun})
		var se *SinkError
		if !errors.As(err, &se) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open returned %v, want %s", err, name)
		}
	}
}

// TestCollectorSays: what a collector answers is in the error, bounded and harmless; nothing is dialed that is refused.
func TestCollectorSays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/other?token=secret", http.StatusFound)
		case "/status":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			w.Write([]byte(`{"code":13,"message":"no disk\u001b[2J"}`))
		case "/text":
			http.Error(w, strings.Repeat("x", 1000)+"\nsecond", http.StatusInternalServerError)
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusInternalServerError)
			w.Write([]byte("<html>"))
		}
	}))
	defer server.Close()
	open := func(path string, refuse func(netip.AddrPort) error) error {
		u, _ := url.Parse(server.URL + path)
		s, err := openCollector(Collector{URL: u, Refuse: refuse})
		if err == nil {
			s.close()
		}
		return err
	}
	for path, want := range map[string]string{
		"/moved":  "it answers 302 Found, and that it is at " + server.URL + "/other: give that URL, if you trust it; redirects are not followed",
		"/status": `it answers 500 Internal Server Error: no disk\x1b[2J`,
		"/text":   "it answers 500 Internal Server Error: " + strings.Repeat("x", 200),
		"/page":   "it answers 500 Internal Server Error",
	} {
		if err := open(path, nil); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	var asked []netip.AddrPort
	err := open("/", func(at netip.AddrPort) error {
		asked = append(asked, at)
		return errors.New("not there")
	})
	if err == nil || !strings.Contains(err.Error(), "not there") || len(asked) != 1 || "http://"+asked[0].String() != server.URL {
		t.Errorf("%v, asked for %v", err, asked)
	}
	if err := open("/", func(netip.AddrPort) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestOTLPRecord(t *testing.T) {
	e := fullEvent()
	e.Decision, e.Severity, e.Target = Deny, "", "/a\x1b[2J\u202e\xff"
	line, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	r := otlpRecordOf(e, string(line))
	got := map[string]string{}
	for _, a := range r.Attributes {
		if a.Value.String != nil {
			got[a.Key] = *a.Value.String
			continue
		}
		got[a.Key] = "int " + *a.Value.Int
	}
	want := map[string]string{
		"agentjail.class": string(e.Class), "agentjail.action": e.Action, "agentjail.decision": "deny", "agentjail.seq": fmt.Sprint("int ", e.Seq),
		"agentjail.target": Printable(e.Target), "process.pid": fmt.Sprint("int ", e.PID), "process.executable.path": Printable(e.Exe),
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
	if r.Severity != 13 || r.Text != "WARN" || *r.Body.String != string(line) || r.Time != fmt.Sprint(e.Time.UnixNano()) {
		t.Errorf("the record is %+v", r)
	}
}

func TestFirstLines(t *testing.T) {
	for _, tt := range []struct {
		lines string
		size  int
		want  string
	}{
		{"a\nb\n", 100, "a\nb\n"}, {"a\nb\n", 3, "a\n"}, {"aaaa\nb\n", 2, "aaaa\n"}, {"a\nb\nc\n", 4, "a\nb\n"},
	} {
		if got := firstLines([]byte(tt.lines), tt.size); string(got) != tt.want {
			t.Errorf("%q up to %d: %q", tt.lines, tt.size, got)
		}
	}
}
