// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"strings"
	"testing"
)

func TestSniff(t *testing.T) {
	tests := []struct {
		data string
		want kind
	}{
		{"", kindUndecided},
		{"\x16", kindUndecided},
		{"\x16\x03", kindTLS},
		{"\x16\x02", kindOther},
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
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", kindOther}, // PostgreSQL SSLRequest
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
func TestSniffIsFinal(t *testing.T) {
	for _, whole := range []string{"GET / HTTP/1.1\r\n", "\r\nPOST /x HTTP/1.0\n", "\x16\x03\x01", "\x80\x2e\x01\x03\x01", "\r\n\r\n\x00\r\nQUIT\n"} {
		for i := range whole {
			if got := sniff([]byte(whole[:i])); got == kindOther {
				t.Errorf("%q of %q is decided too early", whole[:i], whole)
			}
		}
	}
}
