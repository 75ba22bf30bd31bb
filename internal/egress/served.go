// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/agentjail/agentjail/internal/audit"
)

// dial connects to the server. Each connection is judged as the first one was: what the name resolves to can have changed.
func (x *relay) dial() (net.Conn, error) {
	if !x.begin() {
		return nil, net.ErrClosed
	}
	defer x.work.Done()
	l := x.l
	if l.g.uploads.counts() {
		if s := l.count(0); s.rule != "" {
			return nil, &quotaError{s}
		}
	}
	dial, err := l.way()
	if err != nil {
		return nil, err
	}
	x.told.Do(func() { l.emit(actionConnect, audit.Allow, l.allow.Rule, l.allow.Reason, "") })
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	if conn = l.traffic.meter(conn); l.g.uploads.counts() {
		conn = countedConn{wrapped{conn}, l}
	}
	return x.keep(conn)
}

// begin tells whether something more may be done with servers. Where it may, work.Done says that it was.
func (x *relay) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		x.work.Add(1)
	}
	return !x.closed
}

// keep takes a connection that close is to end.
func (x *relay) keep(conn net.Conn) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	s := &served{wrapped{conn}, x}
	x.conns[s] = struct{}{}
	return s, nil
}

// close ends the connections to the server, and waits for what is under way with them, those that are being made, too: the end of the
// client's tells of all of it.
func (x *relay) close() {
	x.proxy.Transport.(*http.Transport).CloseIdleConnections() // orderly, in TLS, too
	x.mu.Lock()
	x.closed = true
	conns := slices.Collect(maps.Keys(x.conns))
	x.mu.Unlock()
	for _, s := range conns {
		s.Close()
	}
	x.work.Wait()
}

// served is a connection to the server, of one relay.
type served struct {
	wrapped
	x *relay
}

func (s *served) Read(b []byte) (int, error) { return s.do(s.Conn.Read, b) }

func (s *served) Write(b []byte) (int, error) { return s.do(s.Conn.Write, b) }

func (s *served) do(what func([]byte) (int, error), b []byte) (int, error) {
	if !s.x.begin() {
		return 0, net.ErrClosed
	}
	defer s.x.work.Done()
	n, err := what(b)
	if s.x.switched.Load() {
		s.x.l.traffic.witness(err)
	}
	return n, err
}

// Close ends it.
func (s *served) Close() error {
	s.x.mu.Lock()
	delete(s.x.conns, s)
	s.x.mu.Unlock()
	return s.Conn.Close()
}

// countedConn is a connection to the server that takes what the quotas allow.
type countedConn struct {
	wrapped
	l *link
}

func (c countedConn) Write(b []byte) (int, error) {
	if s := c.l.count(len(b)); s.rule != "" {
		return 0, &quotaError{s}
	}
	return c.Conn.Write(b)
}
