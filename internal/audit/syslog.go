// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Severities and the facility of syslog(3), as RFC 5424, section 6.2.1, numbers them.
const (
	syslogError   = 3
	syslogWarning = 4
	syslogNotice  = 5
	syslogInfo    = 6
	syslogDebug   = 7
	syslogUser    = 1 << 3
)

// syslogPause is how long a daemon that is not there, or takes nothing, is left alone.
const syslogPause = 100 * time.Millisecond

// syslogSocket sends each line to the daemon of this machine as one datagram, in the form of syslog(3): that is what every daemon
// expects at its local socket. journald reads no RFC 5424 there (systemd issue 19251), and rsyslog's imuxsock not by default.
type syslogSocket struct {
	path string
	conn *net.UnixConn // nil: the daemon went away
}

func openSyslog(path string) (sink, error) {
	s := &syslogSocket{path: path}
	name := Copy{Syslog: path}.String()
	if err := s.dial(); err != nil {
		return nil, &SinkError{name, err}
	}
	return newQueue(name, s), nil
}

func (s *syslogSocket) dial() error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		var sys *os.SyscallError
		if errors.As(err, &sys) {
			return fmt.Errorf("no syslog daemon answers: %w", sys.Err)
		}
		return err
	}
	s.conn = conn
	return nil
}

func (s *syslogSocket) send(ctx context.Context, lines []byte) (lost uint64, err error) {
	for line := range bytes.Lines(lines) {
		if !s.deliver(ctx, datagram(bytes.TrimSuffix(line, []byte("\n")))) {
			lost++
		}
	}
	return lost, nil
}

// deliver sends one datagram. It goes on trying while the daemon takes nothing or is being started anew: only the end of ctx, and
// a line that is too long for a datagram, are answered with false.
func (s *syslogSocket) deliver(ctx context.Context, packet []byte) bool {
	for ctx.Err() == nil {
		if s.conn == nil && s.dial() != nil {
			wait(ctx, syslogPause)
			continue
		}
		s.conn.SetWriteDeadline(time.Now().Add(syslogPause))
		_, err := s.conn.Write(packet)
		switch {
		case err == nil:
			return true
		case errors.Is(err, unix.EMSGSIZE):
			return false
		case !errors.Is(err, os.ErrDeadlineExceeded):
			s.conn.Close()
			s.conn = nil
		}
	}
	return false
}

func (s *syslogSocket) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// wait waits for a while, or for the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// datagram is a line with the header of syslog(3): priority, local time, tag, and the sender's pid.
func datagram(line []byte) []byte {
	var e Event
	priority, at := syslogNotice, time.Now()
	if json.Unmarshal(line, &e) == nil {
		priority, at = syslogSeverity(e), e.Time
	}
	return fmt.Appendf(nil, "<%d>%s agentjail[%d]: %s", syslogUser|priority, at.Local().Format(time.Stamp), os.Getpid(), line)
}

// syslogSeverity is how much an event matters.
func syslogSeverity(e Event) int {
	switch {
	case e.Severity == SeverityNoise:
		return syslogDebug
	case e.Decision == Allow:
		return syslogInfo
	case e.Decision != Deny:
		return syslogNotice
	case e.Severity == SeverityCredential:
		return syslogError
	}
	return syslogWarning
}
