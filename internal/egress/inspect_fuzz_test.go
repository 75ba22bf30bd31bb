// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// FuzzStream: what of an HTTP/2 request is accepted is for the host alone, and a path that rules judge. Where HTTP/1 could say the same,
// it is judged alike.
func FuzzStream(f *testing.F) {
	for _, r := range [][4]string{
		{"GET", "/a/b?c", "site.test", ""},
		{"OPTIONS", "*", "SITE.test:443", "site.test"},
		{"CONNECT", "site.test:443", "site.test", ""},
		{"GET", "/docs/%2e%2e/x", "site.test", "other.test"},
		{"G T", "/", "user@site.test", ""},
		{"GET", "https://site.test/", "[::1]", ""},
		{"GET", "//other.test/", "site.test:0443", "site.test:80"},
	} {
		f.Add(r[0], r[1], r[2], r[3])
	}
	granted := []profiles.Rule{{Requests: profiles.Requests{Inspect: true, Methods: []string{"GET"}, Paths: []string{"/docs/**"}}}}
	f.Fuzz(func(t *testing.T, method, target, authority, host string) {
		r := &http.Request{Method: method, RequestURI: target, Host: authority, Header: http.Header{}}
		if host != "" {
			r.Header.Set("Host", host)
		}
		if checkStream(r, "site.test", 443) != nil {
			return
		}
		for _, of := range []string{authority, host} {
			name, port, ported := strings.Cut(of, ":")
			if of != "" && (!strings.EqualFold(strings.TrimSuffix(name, "."), "site.test") || ported && port != "443") {
				t.Errorf("a request for %q is accepted", of)
			}
		}
		if method == http.MethodConnect || target != "*" && !strings.HasPrefix(target, "/") || strings.ContainsAny(method+target, " \r\n\x00") {
			t.Errorf("%q %q is accepted", method, target)
		}
		head := method + " " + target + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
		if _, err := parseHead([]byte(head), "site.test", 443); err != nil {
			t.Errorf("HTTP/1 refuses %q: %v", head, err)
		}
		if _, err := grantRequest(granted, request{method, target, 0, r.Header}); err == nil && (method != http.MethodGet || !strings.HasPrefix(target, "/docs")) {
			t.Errorf("%q %q is granted", method, target)
		}
	})
}
