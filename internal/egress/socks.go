// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// SOCKS 5, RFC 1928.
const (
	socksVersion = 5
	socksConnect = 1
	socksNoAuth  = 0
	maxSOCKS     = 2 + 255 + 4 + 1 + 255 + 2 // a greeting and a request
)

// errSOCKSShort says that more bytes are needed.
var errSOCKSShort = errors.New("the SOCKS request is not complete")

// socksGreeting reads the methods that a client offers, section 3, and returns how long that is.
func socksGreeting(b []byte) (int, error) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return 0, errSOCKSShort
	}
	end := 2 + int(b[1])
	if bytes.IndexByte(b[2:end], socksNoAuth) < 0 {
		return 0, &headError{actionProxy, 401, "the SOCKS client wants to give a user or a password, and the proxy takes none"}
	}
	return end, nil
}

// socksRequest reads a request, section 4, and returns how long it is. The host is a name as it was sent, or an address.
func socksRequest(b []byte) (n int, host string, port uint16, err error) {
	if len(b) < 5 {
		return 0, "", 0, errSOCKSShort
	}
	switch {
	case b[0] != socksVersion || b[2] != 0:
		return 0, "", 0, malformed("the SOCKS request is malformed")
	case b[1] != socksConnect:
		return 0, "", 0, &headError{actionProxy, 405, "of the SOCKS commands only CONNECT is served, not BIND or UDP ASSOCIATE"}
	}
	size, text := 0, false
	rest := b[4:]
	switch b[3] {
	case 1:
		size = 4
	case 3:
		size, text, rest = int(b[4]), true, b[5:]
	case 4:
		size = 16
	default:
		return 0, "", 0, &headError{actionProxy, 415, "the SOCKS request has an unknown type of address"}
	}
	if len(rest) < size+2 {
		return 0, "", 0, errSOCKSShort
	}
	host = string(rest[:size])
	if !text {
		addr, _ := netip.AddrFromSlice(rest[:size])
		host = addr.String()
	}
	port = binary.BigEndian.Uint16(rest[size:])
	if port == 0 {
		return 0, "", 0, malformed("the SOCKS request is for port 0")
	}
	return len(b) - len(rest) + size + 2, host, port, nil
}

// answerSOCKS is the reply to a request, section 6, for the HTTP status that says the same.
func answerSOCKS(status int, _ string) []byte {
	codes := map[int]byte{200: 0, 403: 2, 502: 4, 405: 7, 415: 8}
	code, ok := codes[status]
	if !ok {
		code = 1 // general failure
	}
	return []byte{socksVersion, code, 0, 1, 0, 0, 0, 0, 0, 0}
}

// answerMethods says that none of the methods is taken.
func answerMethods(int, string) []byte { return []byte{socksVersion, 0xff} }

// askSOCKS reads a SOCKS request. The error is a *headError.
func (l *link) askSOCKS() error {
	l.answer = answerMethods
	if err := l.takeSOCKS(socksGreeting); err != nil {
		return err
	}
	if _, err := l.conn.Write([]byte{socksVersion, socksNoAuth}); err != nil {
		return malformed("%v", errSOCKSShort)
	}
	l.answer = answerSOCKS
	var host string
	var port uint16
	err := l.takeSOCKS(func(b []byte) (n int, err error) {
		n, host, port, err = socksRequest(b)
		return n, err
	})
	if err != nil {
		return err
	}
	return l.lead(host, port)
}

// takeSOCKS reads on until parse is content, and takes what it has parsed.
func (l *link) takeSOCKS(parse func([]byte) (int, error)) error {
	for {
		n, err := parse(l.in.data)
		if err == nil {
			l.in.data = l.in.data[n:]
			return nil
		}
		if !errors.Is(err, errSOCKSShort) {
			return err
		}
		if l.in.fill(maxSOCKS) != nil {
			return malformed("%v", errSOCKSShort)
		}
	}
}
