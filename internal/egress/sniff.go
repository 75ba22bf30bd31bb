// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// A kind says what the first bytes of a connection are.
type kind int

const (
	kindUndecided kind = iota // the beginning of TLS or HTTP, perhaps
	kindSilent                // nothing came in time
	kindClosed                // the client closed without a byte
	kindTLS
	kindHTTP
	kindProxied // a PROXY protocol header: it hides what follows from this judgement
	kindOther
)

const (
	maxLine   = maxHead // of an HTTP request line
	maxMethod = 128

	// blanks are what some server takes for a space in a request line: RFC 9112 section 3 lets it take the first four, and
	// Python's http.server splits the line at all of them, read as ISO 8859-1.
	blanks = " \t\v\f\r\x1c\x1d\x1e\x1f\x85\xa0"
)

// sniff says what data is the beginning of. Anything that some server might take for TLS or HTTP is called that, or
// undecided, since only kindOther is passed on unread.
func sniff(data []byte) kind {
	switch {
	case len(data) == 0:
		return kindUndecided
	case data[0] >= recordChangeCipher && data[0] <= recordHandshake:
		return sniffRecords(data)
	case data[0]&0x80 != 0:
		if k := sniffSSLv2(data); k != kindOther {
			return k
		}
	}
	return sniffText(data)
}

// sniffRecords looks for a hello behind records that servers skip: OpenSSL and Go skip alerts and empty records, and in the first one Go
// takes every version below 16.0. Where the version is not 3.x, the message must be a hello: MySQL and MongoDB begin with their length.
func sniffRecords(data []byte) kind {
	const maxVersion = 16
	for {
		switch {
		case len(data) == 0:
			return kindUndecided
		case data[0] < recordChangeCipher || data[0] > recordHandshake:
			return kindOther
		case len(data) == 1:
			return kindUndecided
		case data[0] == recordHandshake && data[1] == 3:
			return kindTLS
		case data[1] >= maxVersion:
			return kindOther
		case len(data) < recordHeader:
			return kindUndecided
		}
		size := int(data[3])<<8 | int(data[4])
		if data[0] == recordHandshake && size > 0 {
			switch {
			case len(data) == recordHeader:
				return kindUndecided
			case data[recordHeader] == typeClientHello:
				return kindTLS
			}
			return kindOther
		}
		const longest = 2 // of an alert
		if size > longest {
			return kindOther
		}
		data = data[min(recordHeader+size, len(data)):]
	}
}

// sniffSSLv2 knows the hello of SSL 2, which OpenSSL still takes as the start of a newer connection (RFC 5246 appendix E.2):
// two bytes of length, type 1, version 3.x.
func sniffSSLv2(data []byte) kind {
	for i, want := range []byte{1, 3} {
		if len(data) <= 2+i {
			return kindUndecided
		}
		if data[2+i] != want {
			return kindOther
		}
	}
	return kindTLS
}

func sniffText(data []byte) kind {
	proxyV2 := []byte("\r\n\r\n\x00\r\nQUIT\n") // haproxy's PROXY protocol, section 2.2
	if n := min(len(data), len(proxyV2)); bytes.Equal(data[:n], proxyV2[:n]) {
		if n == len(proxyV2) {
			return kindProxied
		}
		return kindUndecided
	}
	for len(data) > 0 && (data[0] == '\n' || isBlank(data[0])) { // servers skip empty lines, RFC 9112 section 2.2, or blanks
		data = data[1:]
	}
	line, _, whole := bytes.Cut(data, []byte("\n"))
	if whole {
		switch {
		case bytes.HasPrefix(line, []byte("PROXY ")):
			return kindProxied
		case bytes.Contains(bytes.ToUpper(line), []byte("HTTP/")):
			return kindHTTP
		}
		return kindOther
	}
	method, rest := line, []byte(nil)
	if i := slices.IndexFunc(line, isBlank); i >= 0 {
		method, rest = line[:i], line[i:]
	}
	if len(method) > maxMethod || !isToken(method) {
		return kindOther
	}
	for _, c := range rest {
		// Python's http.server takes control characters in a path, NUL too. A method that is no word tells Git's protocol, which
		// begins with a length, and LDAP.
		if (c < ' ' || c == 0x7f) && !isBlank(c) && !isLetter(method[0]) {
			return kindOther
		}
	}
	return kindUndecided
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isBlank(c byte) bool { return strings.IndexByte(blanks, c) >= 0 }

// isToken reports whether b has only the characters of an HTTP token, RFC 9110 section 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return true
}

// A peeker reads from a connection and keeps what was looked at.
type peeker struct {
	conn net.Conn
	data []byte // read and not yet taken
}

var errPeekFull = errors.New("too many bytes before a decision")

// fill reads some more bytes into data, at most limit in all.
func (p *peeker) fill(limit int) error {
	room := min(4096, limit-len(p.data))
	if room <= 0 {
		return errPeekFull
	}
	have := len(p.data)
	p.data = append(p.data, make([]byte, room)...)
	n, err := p.conn.Read(p.data[have:])
	p.data = p.data[:have+n]
	if n > 0 {
		return nil
	}
	return err
}

// Read takes from what was looked at, then from the connection.
func (p *peeker) Read(b []byte) (int, error) {
	if len(p.data) > 0 {
		n := copy(b, p.data)
		p.data = p.data[n:]
		return n, nil
	}
	return p.conn.Read(b)
}

// classify looks at the first bytes. It waits at most first for one to come, for ever if first is 0, and then at most rest
// for enough of them.
func (p *peeker) classify(first, rest time.Duration) kind {
	defer p.conn.SetReadDeadline(time.Time{})
	p.setTimeout(first)
	for {
		if k := sniff(p.data); k != kindUndecided {
			return k
		}
		started := len(p.data) > 0
		switch err := p.fill(maxLine); {
		case err == nil:
			if !started {
				p.setTimeout(rest)
			}
		case !started && errors.Is(err, os.ErrDeadlineExceeded):
			return kindSilent
		case !started:
			return kindClosed
		case errors.Is(err, io.EOF):
			if k := sniff(append(p.data[:len(p.data):len(p.data)], '\n')); k != kindUndecided {
				return k
			}
			return kindOther // too short for anything
		default:
			return kindUndecided
		}
	}
}

// setTimeout lets reads fail after d, or never if d is 0.
func (p *peeker) setTimeout(d time.Duration) {
	if d > 0 {
		p.conn.SetReadDeadline(time.Now().Add(d))
	} else {
		p.conn.SetReadDeadline(time.Time{})
	}
}

// hello reads the rest of a ClientHello and returns its SNI.
func (p *peeker) hello(timeout time.Duration) (string, error) {
	p.setTimeout(timeout)
	defer p.conn.SetReadDeadline(time.Time{})
	if p.data[0]&0x80 != 0 {
		return "", helloError("the hello is of SSL 2 and has no server name (SNI)")
	}
	for {
		name, err := helloName(p.data)
		if !errors.Is(err, errHelloShort) {
			return name, err
		}
		if err := p.fill(maxHello); err != nil {
			return "", helloError("the TLS hello ended early")
		}
	}
}
