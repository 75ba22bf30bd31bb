// SPDX-License-Identifier: Apache-2.0

package egress

import "errors"

// maxHello bounds a ClientHello with its record headers. The largest in use, with post-quantum key shares and a ticket,
// is below 4 KiB.
const maxHello = 64 << 10

// Sizes and numbers of RFC 8446, sections 4 and 5.
const (
	recordHeader       = 5
	recordHandshake    = 22
	recordChangeCipher = 20
	maxRecord          = 1 << 14
	handshakeHeader    = 4
	typeClientHello    = 1
	extServerName      = 0
	nameTypeHostName   = 0
)

// errHelloShort asks for more bytes.
var errHelloShort = errors.New("the TLS hello is not complete")

// helloError says why a hello is no proof of a name.
type helloError string

func (e helloError) Error() string { return string(e) }

// helloName returns the SNI of the ClientHello at the start of b, as it was sent. It returns errHelloShort while b is the
// beginning of a hello, and a helloError for one that has no name, two, or another reading. It is stricter than servers
// are, so that what it reads is what every server reads: one hello alone in its records, each extension at most once, each
// length exact.
func helloName(b []byte) (string, error) {
	msg, err := helloMessage(b)
	if err != nil {
		return "", err
	}
	r := reader{b: msg}
	r.skip(2 + 32)    // legacy_version, random
	r.skip(r.uint8()) // legacy_session_id
	r.skip(r.uint16())
	r.skip(r.uint8()) // legacy_compression_methods
	if r.bad {
		return "", helloError("the TLS hello is malformed")
	}
	if len(r.b) == 0 {
		return "", helloError("the TLS hello has no server name (SNI)")
	}
	exts := reader{b: r.bytes(r.uint16())}
	if r.bad || len(r.b) != 0 {
		return "", helloError("the TLS hello is malformed")
	}
	return extensionName(exts)
}

// helloMessage joins the records of a hello and returns the body of the handshake message.
func helloMessage(b []byte) ([]byte, error) {
	if len(b) > maxHello {
		return nil, helloError("the TLS hello is too long")
	}
	var msg []byte
	for {
		if len(b) < recordHeader {
			return nil, errHelloShort
		}
		size := int(b[3])<<8 | int(b[4])
		if b[0] != recordHandshake || b[1] != 3 || size == 0 || size > maxRecord {
			return nil, helloError("the TLS hello is malformed")
		}
		n := min(size, len(b)-recordHeader)
		msg = append(msg, b[recordHeader:recordHeader+n]...)
		if len(msg) >= handshakeHeader {
			if msg[0] != typeClientHello {
				return nil, helloError("the TLS connection does not start with a ClientHello")
			}
			total := handshakeHeader + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
			switch {
			case total > maxHello:
				return nil, helloError("the TLS hello is too long")
			case len(msg) > total || len(msg) == total && n < size:
				return nil, helloError("the TLS hello shares its record with another message")
			case len(msg) == total:
				return msg[handshakeHeader:], nil
			}
		}
		if n < size {
			return nil, errHelloShort
		}
		b = b[recordHeader+n:]
	}
}

// extensionName finds the one host name among the extensions of a hello, RFC 6066 section 3.
func extensionName(exts reader) (string, error) {
	name, found := "", false
	seen := make(map[int]bool)
	for len(exts.b) > 0 {
		id := exts.uint16()
		data := reader{b: exts.bytes(exts.uint16())}
		if exts.bad || seen[id] {
			return "", helloError("the TLS hello has extensions that are malformed or come twice")
		}
		seen[id] = true
		if id != extServerName {
			continue
		}
		list := reader{b: data.bytes(data.uint16())}
		kind := list.uint8()
		host := list.bytes(list.uint16())
		if data.bad || list.bad || len(data.b) != 0 || len(list.b) != 0 || kind != nameTypeHostName {
			return "", helloError("the TLS hello has a server name (SNI) that is not one host name")
		}
		name, found = string(host), true
	}
	if !found {
		return "", helloError("the TLS hello has no server name (SNI)")
	}
	return name, nil
}

// reader takes big-endian values off the front of b. bad is set, and stays set, when b is too short.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) skip(n int) { r.bytes(n) }

func (r *reader) uint8() int {
	if b := r.bytes(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.bytes(2); b != nil {
		return int(b[0])<<8 | int(b[1])
	}
	return 0
}
