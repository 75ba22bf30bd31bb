// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// helloFor is the TLS hello of a client that connects to a server.
func helloFor(server string) ([]byte, error) {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	var sent recorder
	tls.Client(&sent, &tls.Config{ServerName: host}).Handshake() // fails: nobody answers
	return sent.Bytes(), nil
}

// recorder is a connection whose other end says nothing.
type recorder struct{ bytes.Buffer }

func (*recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (*recorder) Close() error                     { return nil }
func (*recorder) LocalAddr() net.Addr              { return nil }
func (*recorder) RemoteAddr() net.Addr             { return nil }
func (*recorder) SetDeadline(time.Time) error      { return nil }
func (*recorder) SetReadDeadline(time.Time) error  { return nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }
