// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// keep gives the gateway quotas. It comes before any connection.
func (n *network) keep(q profiles.Quota) {
	n.g.cfg.Quota, n.g.uploads, n.g.slots = q, newUploads(q), make(chan struct{}, slotsFor(1<<20, q))
}

// Containment check: K08.
func TestUploads(t *testing.T) {
	type step struct {
		host  string
		n     int64
		want  string // the target of the event; empty for what is allowed
		first bool
	}
	for what, tt := range map[string]struct {
		quota profiles.Quota
		steps []step
	}{
		"none": {profiles.Quota{}, []step{{"a", 1 << 62, "", false}, {"a", 1 << 61, "", false}}},
		"of the run": {profiles.Quota{Upload: 10}, []step{
			{"a", 6, "", false}, {"b", 4, "", false}, {"b", 0, "", false}, {"c", 1, "10", true}, {"a", 1, "10", false}, {"a", 0, "10", false},
		}},
		"refused at once, and for good": {profiles.Quota{Upload: 10}, []step{{"a", 11, "10", true}, {"a", 1, "10", false}}},
		"of each host": {profiles.Quota{HostUpload: 1 << 20}, []step{
			{"a", 1 << 20, "", false}, {"a", 1, "1MiB to a", true}, {"a", 0, "1MiB to a", false}, {"b", 1 << 20, "", false}, {"b", 1, "1MiB to b", true},
		}},
		"both": {profiles.Quota{Upload: 10, HostUpload: 6}, []step{
			{"a", 6, "", false}, {"a", 1, "6 to a", true}, {"b", 4, "", false}, {"b", 1, "10", true}, {"a", 1, "10", false},
		}},
		"a name as of a key": {profiles.Quota{Upload: 10, HostUpload: 5}, []step{{ruleUpload, 6, "5 to " + ruleUpload, true}, {"a", 5, "", false}}},
	} {
		u := newUploads(tt.quota)
		for i, s := range tt.steps {
			got := u.take(s.host, s.n)
			if got.target != s.want || got.first != s.first || (got.rule == "") != (s.want == "") {
				t.Errorf("%s: step %d: %+v, want %+v", what, i, got, s)
			}
		}
	}
}

// TestUploadsAreBounded: however many hosts there are, the memory is bounded, and those beyond share one quota.
func TestUploadsAreBounded(t *testing.T) {
	u := newUploads(profiles.Quota{HostUpload: 2})
	for i := range maxCounted {
		u.take(fmt.Sprint(i), 1)
	}
	for i, want := range []string{"", "", "2 to other hosts"} {
		if got := u.take(fmt.Sprint("more", i), 1); got.target != want {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if got := u.take("0", 1); got.rule != "" || len(u.hosts) != maxCounted+1 {
		t.Errorf("%+v, %d hosts", got, len(u.hosts))
	}
}

// TestUploadsAtOnce: connections that send at once share what there is, to the byte.
func TestUploadsAtOnce(t *testing.T) {
	u := newUploads(profiles.Quota{Upload: 10_000, HostUpload: 9_000})
	var sent, first atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10_000 {
				if s := u.take(fmt.Sprint("host", i%2), 1); s.rule == "" {
					sent.Add(1)
				} else if s.first {
					first.Add(1)
				}
			}
		})
	}
	all.Wait()
	if sent.Load() != 10_000 || first.Load() < 1 || first.Load() > 3 {
		t.Errorf("%d sent, %d told", sent.Load(), first.Load())
	}
}

// TestUploadQuota: the server gets no more than the quota, the connection is reset, the quota is recorded once, and each connection that
// it ends or refuses.
func TestUploadQuota(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:7", "other.test:7", "site.test:80")
	n.keep(profiles.Quota{HostUpload: 100, Upload: 220})
	n.host("allowed.test", "93.184.216.34")
	n.host("other.test", "93.184.216.34")
	var got atomic.Int64
	n.server("93.184.216.34:7", func(c net.Conn) {
		for buf := make([]byte, 1000); ; {
			m, err := c.Read(buf)
			got.Add(int64(m))
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%d\n", m)
		}
	})
	n.web(mirror)
	c, second := n.dialName("allowed.test", 7), n.dialName("allowed.test", 7)
	for _, c := range []net.Conn{c, second} {
		send(t, c, strings.Repeat("x", 49)+"\n")
		wantRead(t, c, "50\n")
	}
	send(t, c, "x")
	wantReset(t, c)
	send(t, second, "x")
	wantReset(t, second)
	wantReset(t, n.dialName("allowed.test", 7))
	c = n.explicit()
	send(t, c, "CONNECT allowed.test:7 HTTP/1.1\r\n\r\nx\n")
	wantRead(t, c, connected)
	wantReset(t, c)
	n.wantEvents("net tcp.connect allow allowed.test:7", "net tcp.connect allow allowed.test:7", "limit limit.upload deny 100 to allowed.test",
		"net tcp.upload deny allowed.test:7", "net tcp.upload deny allowed.test:7", "net tcp.upload deny allowed.test:7", "net tcp.upload deny allowed.test:7")
	if e := n.log.last(t); e.Rule != ruleHostUpload || !strings.Contains(e.Reason, "to this host: network.max_upload_per_host (100 to allowed.test) is used up") || e.Decision != audit.Deny {
		t.Errorf("%+v", e)
	}
	if got.Load() != 100 {
		t.Errorf("the server got %d bytes", got.Load())
	}

	// Another host has a quota of its own, within that of the run.
	c = n.dialName("other.test", 7)
	send(t, c, strings.Repeat("x", 99)+"\n")
	wantRead(t, c, "100\n")
	c = n.dialName("site.test", 80)
	send(t, c, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	b, _ := io.ReadAll(c)
	if strings.Contains(string(b), "200 OK") {
		t.Errorf("%q", b)
	}
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n", "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n"} {
		c = n.dialName("site.test", 80)
		if status, body := exchange(t, c, bufio.NewReader(c), request); status != 403 || !strings.Contains(body, "may send no more: network.max_upload (") {
			t.Errorf("%d %q", status, body)
		}
	}
	count := 0
	for _, line := range n.log.lines() {
		if strings.HasPrefix(line, "limit ") {
			count++
		}
	}
	if count != 2 {
		t.Errorf("%d events of limits in %q", count, n.log.lines())
	}
}

// TestUploadQuotaOfLoopback: the two addresses of loopback, and the name, are one host.
// Containment check: K08.
func TestUploadQuotaOfLoopback(t *testing.T) {
	n := newNetwork(t, []uint16{5432})
	n.keep(profiles.Quota{HostUpload: 15})
	n.server("127.0.0.1:5432", echo)
	c := n.dial("127.0.0.1:5432")
	send(t, c, "123456789\n")
	wantRead(t, c, "echo: 123456789\n")
	c = n.dial("[::1]:5432")
	send(t, c, "1234\n")
	wantRead(t, c, "echo: 1234\n")
	send(t, c, "x")
	wantReset(t, c)
	if e := n.log.last(t); e.Rule != ruleHostUpload || !strings.Contains(e.Reason, "(15 to 127.0.0.1) is used up") {
		t.Errorf("%+v", e)
	}
}

// TestUploadQuotaOfRequests: a body counts whichever way it is sent, and what fits passes.
// Containment check: K08.
func TestUploadQuotaOfRequests(t *testing.T) {
	body := strings.Repeat("x", 5000)
	for what, request := range map[string]string{
		"a length": "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5000\r\n\r\n" + body,
		"chunks":   "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + body + "\r\n0\r\n\r\n",
		"absolute": "POST http://site.test/ HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5000\r\n\r\n" + body,
		"tunnel":   "CONNECT site.test:80 HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5000\r\n\r\n" + body,
	} {
		for _, quota := range []int64{0, 4000, 6000} {
			n := newNetwork(t, nil, "site.test:80")
			n.keep(profiles.Quota{Upload: quota})
			var got atomic.Int64
			n.web(func(w http.ResponseWriter, r *http.Request) {
				m, _ := io.Copy(io.Discard, r.Body)
				got.Add(m)
			})
			c := n.dialName("site.test", 80)
			if what == "absolute" || what == "tunnel" {
				c = n.explicit()
			}
			io.WriteString(c, request) // may be reset
			br := bufio.NewReader(c)
			if what == "tunnel" {
				http.ReadResponse(br, nil)
			}
			resp, err := http.ReadResponse(br, nil)
			passed := err == nil && resp.StatusCode == 200
			if passed != (quota != 4000) {
				t.Errorf("%s within %d: passed %t", what, quota, passed)
			}
			c.Close()
			n.g.Close()
			if m := got.Load(); passed && m != 5000 || quota > 0 && m > quota {
				t.Errorf("%s within %d: the server got %d", what, quota, m)
			}
		}
	}
}

// TestConnectionQuota: the bound is the quota's where that is lower, and its event comes once.
func TestConnectionQuota(t *testing.T) {
	n := newNetwork(t, nil, "allowed.test:7")
	n.keep(profiles.Quota{Connections: 2})
	n.host("allowed.test", "93.184.216.34")
	n.server("93.184.216.34:7", echo)
	for range 2 {
		c := n.dialName("allowed.test", 7)
		send(t, c, "hello\n")
		wantRead(t, c, "echo: hello\n")
	}
	for range 2 {
		wantReset(t, n.dialName("allowed.test", 7))
	}
	n.wantEvents("net tcp.connect allow allowed.test:7", "net tcp.connect allow allowed.test:7", "limit limit.connections deny 2 connections at once",
		"net tcp.connect deny allowed.test:7", "net tcp.connect deny allowed.test:7")
	if e := n.log.last(t); e.Rule != ruleConnections {
		t.Errorf("%+v", e)
	}
	for _, tt := range []struct {
		files uint64
		quota int
		want  int
	}{{1 << 20, 0, maxConns}, {1 << 20, 5, 5}, {1 << 20, maxConns + 1, maxConns}, {1024, 100, 64}, {1024, 10, 10}} {
		if got := slotsFor(tt.files, profiles.Quota{Connections: tt.quota}); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
