// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What browsers and curl send of an address that was typed reaches the server as it was sent.
func TestHTTPTargetsBeyondRFC3986(t *testing.T) {
	n := newNetwork(t, nil, "site.test:80")
	n.web(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	c := n.dialName("site.test", 80)
	br := bufio.NewReader(c)
	for _, target := range []string{
		"/gr\u00fc\u00dfe", "/\u00e0", "/\u65e5\u672c?q=\u8a9e", "http://site.test/\u00e9", "/?q=50%", "/?q=%zz", "/%C3%bc", "/a|b{c}\"<>`^\\",
	} {
		if status, got := exchange(t, c, br, "GET "+target+" HTTP/1.1\r\nHost: site.test\r\n\r\n"); status != 200 || got != target {
			t.Errorf("%q: %d %q", target, status, got)
		}
	}
	n.wantEvents("net tcp.connect allow site.test:80")
}

// A refusal says what to do about it.
func TestHTTPRefusalsNameTheFix(t *testing.T) {
	for line, want := range map[string]string{
		"PRI * HTTP/2.0": "use https, or HTTP/1.1", "GET /%zz HTTP/1.1": "%25", "GET /\xfc HTTP/1.1": "%XX", "GET /\u00a0 HTTP/1.1": "%XX",
	} {
		if _, _, _, err := splitRequestLine(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}
