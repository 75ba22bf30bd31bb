// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxHead bounds the head of a request: request line and fields.
const maxHead = 64 << 10

// A headError says why a request is not passed on.
type headError struct {
	action string // of the event
	status int    // of the answer
	why    string
}

func (e *headError) Error() string { return e.why }

func malformed(format string, args ...any) error {
	return &headError{actionMalformedHTTP, http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func mismatch(format string, args ...any) error {
	return &headError{actionHostMismatch, http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// A head is a request's head that can be read in one way only.
type head struct {
	line    string   // request line, without its end
	fields  []string // as sent, without their ends
	chunked bool
	upgrade string // the Upgrade field in lower case
}

// splitHead returns the lines of a head that ends in an empty line. A line ends in CR LF: a bare LF, which some servers
// take for the end of a line, is refused, and so are control characters and folded fields.
func splitHead(raw []byte) ([]string, error) {
	text, ok := strings.CutSuffix(string(raw), "\r\n\r\n")
	if !ok {
		return nil, malformed("lines of the request do not end in CR LF")
	}
	lines := strings.Split(text, "\r\n")
	for _, line := range lines {
		for _, c := range []byte(line) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return nil, malformed("the request has a control character in its head")
			}
		}
	}
	return lines, nil
}

// parseHead judges the head of a request on a connection to port of name, which is an address where a proxy was asked for one. It
// accepts only what every server reads alike, and only for that host.
func parseHead(raw []byte, name string, port uint16) (*head, error) {
	lines, err := splitHead(raw)
	if err != nil {
		return nil, err
	}
	h := &head{line: lines[0], fields: lines[1:]}
	method, target, version, err := splitRequestLine(h.line)
	if err != nil {
		return nil, err
	}
	values, err := h.values()
	if err != nil {
		return nil, err
	}
	if err := checkTarget(method, target, name, port); err != nil {
		return nil, err
	}
	hosts := values["host"]
	if len(hosts) != 1 {
		return nil, mismatch("the request has %d Host fields, and must have one", len(hosts))
	}
	if err := checkAuthority(hosts[0], name, port); err != nil {
		return nil, err
	}
	if err := h.checkFraming(values, version); err != nil {
		return nil, err
	}
	if up := values["upgrade"]; len(up) > 0 {
		h.upgrade = strings.ToLower(strings.Join(up, ","))
	}
	if length := values["content-length"]; h.upgrade == "websocket" && (h.chunked || len(length) > 0 && strings.Trim(length[0], "0") != "") {
		return nil, malformed("a websocket is asked for without a body")
	}
	return h, nil
}

func splitRequestLine(line string) (method, target, version string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[0] == "" || !isToken([]byte(parts[0])) || parts[1] == "" {
		return "", "", "", malformed("the request line is malformed")
	}
	method, target, version = parts[0], parts[1], parts[2]
	if version == "HTTP/2.0" {
		return "", "", "", malformed("HTTP/2 cannot be judged without TLS: use https, or HTTP/1.1 (a client's \"prior knowledge\" of HTTP/2 turned off)")
	}
	if version != "HTTP/1.1" && version != "HTTP/1.0" {
		return "", "", "", malformed("only HTTP/1.1 can be judged without TLS, not %s", quote(version))
	}
	return method, target, version, checkCharacters(target)
}

// checkCharacters judges the bytes of a request target. RFC 3986 has ASCII only, but browsers and curl send a path as it was typed: what
// is printable UTF-8 is passed on unchanged, for whatever a server makes of it, the host is the same. Blanks and controls beyond ASCII
// are not, since some servers end the target there. Nor is a path whose escapes are none (RFC 3986 section 2.1).
func checkCharacters(target string) error {
	if !utf8.ValidString(target) {
		return malformed("the request target is not UTF-8: write its bytes as %%XX")
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f || unicode.IsControl(c) || unicode.IsSpace(c) {
			return malformed("the request target has a blank or a control character: write it as %%XX")
		}
	}
	path, _, _ := strings.Cut(target, "?")
	for rest := path; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return nil
		}
		if len(after) < 2 || strings.Trim(after[:2], "0123456789abcdefABCDEF") != "" {
			return malformed("the path of the request has a %% without two hexadecimal digits, which servers read in two ways: write it as %%25")
		}
		rest = after
	}
}

// values parses the fields. Names are in lower case.
func (h *head) values() (map[string][]string, error) {
	values := make(map[string][]string, len(h.fields))
	for _, field := range h.fields {
		key, value, ok := strings.Cut(field, ":")
		if !ok || key == "" || !isToken([]byte(key)) {
			return nil, malformed("the request has a malformed field")
		}
		key = strings.ToLower(key)
		values[key] = append(values[key], strings.Trim(value, " \t"))
	}
	return values, nil
}

// checkTarget judges the request target, RFC 9112 section 3.2. A target with a host must name the same one.
func checkTarget(method, target, name string, port uint16) error {
	switch {
	case method == http.MethodConnect:
		return mismatch("CONNECT asks for a tunnel to %s, which would not be judged", quote(target))
	case target[0] == '/', target == "*" && method == http.MethodOptions:
		return nil
	}
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !strings.EqualFold(scheme, "http") {
		return malformed("the request target is neither a path nor an http URL")
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	return checkAuthority(authority, name, port)
}

// checkAuthority compares HOST or HOST:PORT with what was dialed.
func checkAuthority(authority, name string, port uint16) error {
	host, asked, err := splitAuthority(authority, port)
	if err != nil || !means(host, name) && !sameAddr(host, name) {
		return mismatch("the request is for %s, but the connection was made to %s", quote(authority), name)
	}
	if asked != port {
		return mismatch("the request is for %s, but the connection was made to port %d", quote(authority), port)
	}
	return nil
}

// checkFraming makes sure that the length of the body is said once, and that no field takes it back.
func (h *head) checkFraming(values map[string][]string, version string) error {
	lengths, codings := values["content-length"], values["transfer-encoding"]
	switch {
	case len(lengths)+len(codings) > 1:
		return malformed("the request says the length of its body more than once")
	case len(lengths) == 1 && !isDecimal(lengths[0]):
		return malformed("the Content-Length is not a number")
	case len(codings) == 1 && (version != "HTTP/1.1" || !strings.EqualFold(codings[0], "chunked")):
		return malformed("the Transfer-Encoding is not chunked")
	}
	h.chunked = len(codings) == 1
	for _, token := range tokens(values["connection"]) {
		// A server that is a proxy drops the fields that Connection names, RFC 9110 section 7.6.1.
		if slices.Contains([]string{"content-length", "transfer-encoding", "host"}, token) {
			return malformed("the Connection field takes back %s", token)
		}
	}
	return nil
}

// isDecimal accepts a length below 10^18, which fits an int64.
func isDecimal(s string) bool {
	return s != "" && len(s) <= 18 && strings.Trim(s, "0123456789") == ""
}

// tokens splits comma-separated lists, in lower case.
func tokens(values []string) []string {
	var out []string
	for _, v := range values {
		for t := range strings.SplitSeq(strings.ToLower(v), ",") {
			if t = strings.Trim(t, " \t"); t != "" {
				out = append(out, t)
			}
		}
	}
	return out
}

// direct makes of a request in absolute form one for the server itself, in origin form, RFC 9112 section 3.2.1, and the last one of its
// connection. What was for the proxy alone is taken out, RFC 9110 section 7.6.1.
func (h *head) direct(authority string) {
	method, rest, _ := strings.Cut(h.line, " ")
	rest, version, _ := strings.Cut(rest, " ")
	_, rest, _ = strings.Cut(rest, "://")
	path := ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		path = rest[i:]
	}
	switch {
	case path == "" && method == http.MethodOptions:
		path = "*" // section 3.2.4
	case path == "" || path[0] == '?':
		path = "/" + path
	}
	h.line = method + " " + path + " " + version
	drop := []string{"host", "connection", "proxy-connection", "keep-alive", "proxy-authorization"}
	for _, field := range h.fields {
		if key, value, _ := strings.Cut(field, ":"); strings.EqualFold(key, "connection") {
			drop = append(drop, tokens([]string{value})...)
		}
	}
	h.fields = slices.DeleteFunc(h.fields, func(field string) bool {
		key, _, _ := strings.Cut(field, ":")
		return slices.Contains(drop, strings.ToLower(key))
	})
	h.fields = append([]string{"Host: " + authority}, append(h.fields, "Connection: close")...)
}

// close makes a request the last one of its connection.
func (h *head) close() {
	options := []string{"close"}
	h.fields = slices.DeleteFunc(h.fields, func(field string) bool {
		key, value, _ := strings.Cut(field, ":")
		if !strings.EqualFold(key, "connection") {
			return false
		}
		options = append(options, tokens([]string{value})...)
		return true
	})
	options = slices.DeleteFunc(options, func(t string) bool { return t == "keep-alive" })
	h.fields = append(h.fields, "Connection: "+strings.Join(options, ", "))
}

// forProxy makes a request one for a proxy, RFC 9112 section 3.2.2, with the caller's credentials instead of the agent's own.
func (h *head) forProxy(authority, credentials string) error {
	method, rest, _ := strings.Cut(h.line, " ")
	rest, version, _ := strings.Cut(rest, " ")
	if method == http.MethodTrace {
		return &headError{actionMalformedHTTP, http.StatusForbidden, "TRACE asks a proxy to show the request, with its credentials"}
	}
	if rest == "*" {
		rest = "" // section 3.2.4
	}
	if _, after, absolute := strings.Cut(rest, "://"); absolute && rest[0] != '/' {
		rest = ""
		if i := strings.IndexAny(after, "/?#"); i >= 0 {
			rest = after[i:]
		}
	}
	h.line = method + " http://" + strings.TrimSuffix(authority, ":80") + rest + " " + version
	h.fields = slices.DeleteFunc(h.fields, func(field string) bool {
		key, _, _ := strings.Cut(field, ":")
		return strings.EqualFold(key, "proxy-authorization") || strings.EqualFold(key, "proxy-connection")
	})
	if credentials != "" {
		h.fields = append(h.fields, "Proxy-Authorization: "+credentials)
	}
	return nil
}

// bytes writes the head as it was sent. Unless keepUpgrade, it is without the fields that ask for another protocol: a
// server may ignore them, RFC 9110 section 7.8, and clients that offer HTTP/2 this way go on with HTTP/1.1.
func (h *head) bytes(keepUpgrade bool) []byte {
	var b bytes.Buffer
	b.WriteString(h.line + "\r\n")
	for _, field := range h.fields {
		key, value, _ := strings.Cut(field, ":")
		if h.upgrade != "" && !keepUpgrade {
			switch strings.ToLower(key) {
			case "upgrade", "http2-settings":
				continue
			case "connection":
				left := slices.DeleteFunc(tokens([]string{value}), func(t string) bool {
					return t == "upgrade" || t == "http2-settings"
				})
				if len(left) == 0 {
					continue
				}
				field = key + ": " + strings.Join(left, ", ")
			}
		}
		b.WriteString(field + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}
