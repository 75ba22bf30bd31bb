// SPDX-License-Identifier: Apache-2.0

// Package wire carries messages and open files between the launcher and the supervisor of a run, over one stream socket
// that the supervisor inherits.
//
// A message is a header of 8 bytes (length of what follows, number of files, both big endian uint32), then its kind, which is one
// word, a space, and a JSON body. The files ride on the header (SCM_RIGHTS, unix(7)). Both ends are agentjail itself; sizes are bounded all the same, so
// that a mistake on one side cannot exhaust the other.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Bounds of one message. A plan carries the command's arguments and environment, which the kernel bounds to 6 MiB or so.
const (
	MaxBody  = 16 << 20
	MaxFiles = 8

	headerSize = 8
)

// Message is what Recv returns. The receiver owns Files.
type Message struct {
	Kind  string
	Body  json.RawMessage
	Files []*os.File
}

// Decode reads the body into v.
func (m Message) Decode(v any) error {
	if err := unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("wire: %s: %w", m.Kind, err)
	}
	return nil
}

// Close closes the files that came with the message.
func (m Message) Close() {
	for _, f := range m.Files {
		f.Close()
	}
}

// Conn is one end of the connection. Send is safe for concurrent use, Recv belongs to one goroutine.
type Conn struct {
	socket *net.UnixConn
	mu     sync.Mutex // one message at a time

	// Of Recv. What has come is read at one time: each call costs more than a message does.
	buf    []byte
	unread []byte     // of buf
	files  []*os.File // of messages in unread
	cut    bool       // some files could not be had
	full   bool       // the last read had no room for more
}

// readSize is how many bytes are read at one time: some fifty events.
const readSize = 32 << 10

// Pair makes a connection: this process's end, and the file that the other process inherits.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("wire: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "wire")
	ours, err := New(os.NewFile(uintptr(fds[0]), "wire"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// New makes a Conn of an inherited socket, and closes f.
func New(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	socket, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("wire: not a unix socket")
	}
	return &Conn{socket: socket, buf: make([]byte, readSize)}, nil
}

// Send writes one message. The files stay the caller's.
func (c *Conn) Send(kind string, body any, files ...*os.File) error {
	frame, err := frameOf(kind, body, len(files))
	if err != nil {
		return err
	}
	return c.write(frame, files)
}

// marshal is json.Marshal, which would read once more what a type makes of itself: a third of the time that an event takes.
func marshal(body any) ([]byte, error) {
	if m, ok := body.(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(body)
}

// unmarshal is json.Unmarshal, which would read first what a type reads itself. Such a type refuses what is not JSON.
func unmarshal(data []byte, v any) error {
	if u, ok := v.(json.Unmarshaler); ok {
		return u.UnmarshalJSON(data)
	}
	return json.Unmarshal(data, v)
}

// frameOf is a message as it is sent.
func frameOf(kind string, body any, files int) ([]byte, error) {
	raw, err := marshal(body)
	if err != nil {
		return nil, fmt.Errorf("wire: %s: %w", kind, err)
	}
	size := len(kind) + 1 + len(raw)
	if size > MaxBody || files > MaxFiles {
		return nil, fmt.Errorf("wire: %s: %d bytes and %d files are more than a message holds", kind, size, files)
	}
	frame := make([]byte, headerSize, headerSize+size)
	binary.BigEndian.PutUint32(frame, uint32(size))
	binary.BigEndian.PutUint32(frame[4:], uint32(files))
	frame = append(append(frame, kind...), ' ')
	return append(frame, raw...), nil
}

// maxTry is how long a message may be that the kernel takes as a whole or not at all (net/unix/af_unix.c, unix_stream_sendmsg).
const maxTry = 32 << 10

// TrySend sends a message if that waits for nobody, and tells whether it did: then the other end reads it, whatever becomes of this one.
func (c *Conn) TrySend(kind string, body any) bool {
	frame, err := frameOf(kind, body, 0)
	if err != nil || len(frame) > maxTry || !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	failed := raw.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), frame, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
	if failed != nil || err != nil {
		return false
	}
	if n < len(frame) { // what has begun must end
		_, err = c.socket.Write(frame[n:])
	}
	return err == nil
}

func (c *Conn) write(frame []byte, files []*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(rights) == 0 {
		_, err := c.socket.Write(frame)
		return err
	}
	n, _, err := c.socket.WriteMsgUnix(frame[:headerSize], rights, nil)
	if err == nil && n != headerSize {
		err = io.ErrShortWrite
	}
	if err == nil {
		_, err = c.socket.Write(frame[headerSize:])
	}
	return err
}

// Recv returns the next message; io.EOF when the other end is gone. With an error no file stays open of what has come.
func (c *Conn) Recv() (Message, error) {
	m, err := c.next()
	if err != nil {
		Message{Files: c.files}.Close()
		c.files = nil
	}
	return m, err
}

func (c *Conn) next() (Message, error) {
	for len(c.unread) < headerSize {
		if err := c.fill(); err != nil {
			return Message{}, err
		}
	}
	size, want := binary.BigEndian.Uint32(c.unread), int(binary.BigEndian.Uint32(c.unread[4:]))
	if size > MaxBody {
		return Message{}, fmt.Errorf("wire: a message of %d bytes", size)
	}
	data := make([]byte, size)
	n := copy(data, c.unread[headerSize:])
	c.unread = c.unread[headerSize+n:]
	if _, err := io.ReadFull(c.socket, data[n:]); err != nil { // files ride on headers alone
		return Message{}, err
	}
	kind, body, ok := bytes.Cut(data, []byte(" "))
	if !ok {
		return Message{}, errors.New("wire: a message without a body")
	}
	m := Message{Kind: string(kind), Body: body}
	var err error
	m.Files, err = c.take(want)
	if err != nil {
		return Message{}, fmt.Errorf("wire: %s: %w", kind, err)
	}
	return m, nil
}

// Waits tells whether the next message has come already, or its beginning, as far as that is known without a look.
func (c *Conn) Waits() bool { return len(c.unread) > 0 || c.full }

// fill reads what has come, as much as there is room for. With it come the files of one message at most: the kernel ends a read behind the
// bytes that brought some (net/unix/af_unix.c, unix_stream_read_generic).
func (c *Conn) fill() error {
	c.unread = c.buf[:copy(c.buf, c.unread)]
	oob := make([]byte, unix.CmsgSpace(4*MaxFiles))
	n, oobn, flags, _, err := c.socket.ReadMsgUnix(c.buf[len(c.unread):], oob)
	switch {
	case (errors.Is(err, io.EOF) || err == nil && n == 0) && len(c.unread) == 0:
		return io.EOF
	case errors.Is(err, io.EOF) || err == nil && n == 0:
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	c.unread = c.buf[:len(c.unread)+n]
	c.full = len(c.unread) == len(c.buf)
	files, err := receivedFiles(oob[:oobn])
	c.files, c.cut = append(c.files, files...), c.cut || flags&unix.MSG_CTRUNC != 0
	return err
}

// take returns the files of a message whose bytes have been read. Those of one that follows may have come, too.
func (c *Conn) take(n int) (files []*os.File, err error) {
	switch came := len(c.files); {
	case came < n && c.cut: // there is room for all: this process can have no more (recvmsg(2))
		return nil, unix.EMFILE
	case came < n, came > n && len(c.unread) == 0:
		return nil, fmt.Errorf("%d files came", came)
	}
	files, c.files = c.files[:n:n], c.files[n:]
	return files, nil
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// Close closes the connection; a blocked Recv returns.
func (c *Conn) Close() error { return c.socket.Close() }
