// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"
)

// Containment checks: J04.
func TestSniff(t *testing.T) {
	tests := []struct {
		data string
		want kind
	}{
		{"", kindUndecided},
		{"\x16", kindUndecided},
		{"\x16\x03", kindTLS},
		{"\x16\x02", kindUndecided},
		{"\x16\x02\x00\x00\x50\x01", kindTLS}, // Go takes it
		{"\x16\x02\x00\x00\x50\x02", kindOther},
		{"\x16\x10", kindOther},
		{"\x16\x01\x00\x01\x85\xa6", kindOther}, // MySQL's answer to a greeting
		{"\x16\x01\x00\x00\x01\x00", kindOther}, // MongoDB
		{"\x15", kindUndecided},
		{"\x15\x03\x01\x00\x02\x01", kindUndecided},
		{"\x15\x03\x01\x00\x02\x01\x00", kindUndecided},
		{"\x15\x03\x01\x00\x02\x01\x00\x16\x03", kindTLS}, // a hello behind an alert
		{"\x15\x03\x01\x00\x01\x01\x15\x03\x01\x00\x01\x00\x16\x03", kindTLS},
		{"\x16\x02\x00\x00\x00\x16\x03", kindTLS}, // and behind an empty record
		{"\x14\x03\x01\x00\x01\x01\x16\x03", kindTLS},
		{"\x15\x03\x01\x00\x02\x01\x00SSH-2.0", kindOther},
		{"\x15\x03\x00\x01\x85", kindOther},
		{"\x80", kindUndecided},
		{"\x80\x2e\x01", kindUndecided},
		{"\x80\x2e\x01\x03", kindTLS}, // SSL 2 hello
		{"\x80\x2e\x02", kindOther},
		{"\x80\x2e\x01\x00", kindOther},
		{"GET", kindUndecided},
		{"GET / HTTP/1.1\r", kindUndecided},
		{"GET / HTTP/1.1\r\n", kindHTTP},
		{"get / http/1.0\n", kindHTTP},
		{"GET\t/\tHTTP/1.1\n", kindHTTP},
		{"GET\t/", kindUndecided},
		{"GET\x0b/\x0bHTTP/1.1\n", kindHTTP},
		{"GET\x0b/", kindUndecided},
		{"\x0c GET", kindUndecided},
		{"\xa0GET\x85/", kindUndecided},
		{"GET /\x01", kindUndecided},
		{"GET /\x00", kindUndecided},
		{"\r\n\r\nGET / HTTP/1.1\r\n", kindHTTP},
		{"\r\n\r\n", kindUndecided},
		{"\n\nPUT", kindUndecided},
		{"PRI * HTTP/2.0\r\n", kindHTTP},
		{"\x01\x02 / HTTP/1.1\r\n", kindHTTP},
		{"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", kindProxied},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11", kindProxied},
		{"\r\n\r\n\x00\r\nQUI", kindUndecided},
		{"\r\n\r\n\x00\r\nSTOP", kindOther},
		{"GET /index\r\n", kindOther}, // HTTP/0.9 names no host
		{"SSH-2.0-OpenSSH_9.2\r\n", kindOther},
		{"SSH-2.0-OpenSSH_9.2\r", kindUndecided},
		{"EHLO me\r\n", kindOther},
		{"PING\r\n", kindOther},
		{"*1\r\n$4\r\nPING\r\n", kindOther},
		{"0032git-upload-pack /x\x00host=y\x00", kindOther},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", kindOther},             // PostgreSQL SSLRequest
		{"\x30\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04", kindOther}, // LDAP bind
		{"\x30\x1c\x02\x01\x01\x60\x17\x02\x01\x03\x04", kindOther},
		{"\x0bMSH|^~\\&|", kindOther}, // HL7
		{"\xc3\xa0 la carte", kindOther},
		{"AMQP\x00\x00\x09\x01", kindOther},
		{"\x10\x25\x00\x04MQTT", kindOther},
		{"{\"json\"", kindOther},
		{strings.Repeat("A", maxMethod), kindUndecided},
		{strings.Repeat("A", maxMethod+1), kindOther},
	}
	for _, tt := range tests {
		if got := sniff([]byte(tt.data)); got != tt.want {
			t.Errorf("%q is %d, want %d", tt.data, got, tt.want)
		}
	}
}

// What is passed on unread must not become TLS or HTTP by the bytes that follow.
// Containment checks: J04.
func TestSniffIsFinal(t *testing.T) {
	for _, whole := range []string{
		"GET / HTTP/1.1\r\n", "\r\nPOST /x HTTP/1.0\n", "\x16\x03\x01", "\x80\x2e\x01\x03\x01", "\r\n\r\n\x00\r\nQUIT\n",
		"GET\x0b/\x0cHTTP/1.1\r\n", "GET\r/\rHTTP/1.1\r\n", " GET / HTTP/1.1\r\n", "\xa0GET\x85/\x1cHTTP/1.1\r\n", "GET /\x01 HTTP/1.1\r\n",
		"GET /\x00\x7f HTTP/1.1\r\n", "\x15\x03\x01\x00\x02\x01\x00\x16\x03", "\x16\x00\x00\x00\x00\x16\x0f\x00\x00\x01\x01",
		"GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\n",
	} {
		for i := range whole {
			if got := sniff([]byte(whole[:i])); got == kindOther {
				t.Errorf("%q of %q is decided too early", whole[:i], whole)
			}
		}
	}
}

// A server may take other characters for the spaces of a request line. They hide no request, in however many pieces they come.
func TestHTTPWithOtherBlanks(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "GET\x0b")
	time.Sleep(3 * n.g.wait.silence)
	send(t, c, "/\x0bHTTP/1.1\r\nHost: evil.test\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
		t.Errorf("the answer is %q", b)
	}
	n.wantEvents("net http.malformed deny git.test:2222")
	if n.dialed() != "" {
		t.Errorf("dialed %s", n.dialed())
	}
}

// A server may skip what comes before a hello. It hides none, in however many pieces it comes.
// Containment checks: J02.
func TestHelloBehindAnAlert(t *testing.T) {
	for _, before := range []string{"\x15\x03\x01\x00\x02\x01\x00", "\x16\x02\x00\x00\x00"} {
		n := newNetwork(t, nil, "git.test:2222")
		n.host("git.test", "93.184.216.34")
		n.server("93.184.216.34:2222", echo)
		c := n.dialName("git.test", 2222)
		send(t, c, before)
		time.Sleep(3 * n.g.wait.silence)
		send(t, c, string(hello(t, "evil.test")))
		io.ReadAll(c)
		n.wantEvents("net tls.sni_mismatch deny git.test:2222")
		if n.dialed() != "" {
			t.Errorf("dialed %s", n.dialed())
		}
	}
}

// A word and the end of its line is no beginning of TLS or HTTP: it passes at once.
func TestOneWordPassesAtOnce(t *testing.T) {
	n := newNetwork(t, nil, "redis.test:6379")
	n.g.wait.proof = time.Hour
	n.host("redis.test", "93.184.216.34")
	n.server("93.184.216.34:6379", echo)
	c := n.dialName("redis.test", 6379)
	send(t, c, "PING\r\n")
	wantRead(t, c, "echo: PING\n")
	n.wantEvents("net tcp.connect allow redis.test:6379")
}

// A request line may be as long as a head.
func TestHTTPLongLine(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(mirror)
	path := "/" + strings.Repeat("a", 40<<10)
	c := n.dialName("site.test", 80)
	status, got := exchange(t, c, bufio.NewReader(c), "GET "+path+" HTTP/1.1\r\nHost: site.test\r\n\r\n")
	if status != 200 || !strings.Contains(got, path) {
		t.Errorf("%d %.100q", status, got)
	}
	n.wantEvents("net tcp.connect allow site.test:80")
}
