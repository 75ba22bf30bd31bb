// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// addrPort returns the address of a TCP or UDP end, without IPv4 mapping. It is not valid for other addresses.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// reset closes a connection so that the other end sees a reset, and not an orderly end.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0) // tcp(7): close then sends RST
	} else if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		reset(t.NetConn()) // an orderly end of TLS would make what was cut look whole
		return
	}
	c.Close()
}

// closeWrite ends one direction of a connection.
func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
}

// A wrapped connection still ends one direction where the type around it adds to the other calls.
type wrapped struct{ net.Conn }

// CloseWrite ends the direction to the other end.
func (w wrapped) CloseWrite() error {
	closeWrite(w.Conn)
	return nil
}

// Bounds on what is read and thrown away after a refusal was written.
const (
	maxDrain  = 256 << 10
	drainTime = time.Second
)

// farewell writes a last message and closes the connection so that the message arrives: closing while there are unread
// bytes would send a reset, which overtakes it.
func farewell(c net.Conn, message []byte) {
	c.SetDeadline(time.Now().Add(drainTime))
	if _, err := c.Write(message); err != nil {
		c.Close()
		return
	}
	drain(c)
}

// drain ends what is sent to c, and reads on until the other end has done the same, within the bounds.
func drain(c net.Conn) {
	c.SetDeadline(time.Now().Add(drainTime))
	closeWrite(c)
	io.Copy(io.Discard, io.LimitReader(c, maxDrain))
	c.Close()
}

// gone tells whether the other end has reset a connection.
func gone(c net.Conn) bool {
	if m, ok := c.(spliced); ok {
		c = m.Conn
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true // closed here
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		const stateClose = 7 // TCP_CLOSE of net/tcp_states.h
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == stateClose
	})
	return closed || err != nil
}

// pump copies from src to dst until src ends, and then ends dst. An error in either ends both at once, as a reset; only a read
// deadline of src's leaves both as they are, after all that was read has been written.
// Between two TCP connections the copy stays in the kernel: io.Copy uses splice(2).
func pump(dst, src net.Conn) error {
	_, err := io.Copy(dst, src)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case err != nil:
		reset(src)
		reset(dst)
		return err
	}
	closeWrite(dst)
	return nil
}
