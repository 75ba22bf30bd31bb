// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Groups of the log of packets. They are of this namespace alone.
const (
	logGroup  = 1   // of watcher
	dropGroup = 2   // of droppedUDP
	logBytes  = 128 // the longest headers are 60 and 60
)

// Messages and attributes of nfnetlink_log.
const (
	ulogPacket     = unix.NFNL_SUBSYS_ULOG << 8
	ulogConfig     = unix.NFNL_SUBSYS_ULOG<<8 | 1
	cfgCommand     = 1
	cfgMode        = 2
	cfgBuffer      = 3
	cfgThreshold   = 5
	commandBind    = 1
	copyPacket     = 2
	attrPayload    = 9
	nfgenmsgLength = 4
)

// packetLog reads one group of the log of packets (libnetfilter_log's protocol, linux/netfilter/nfnetlink_log.h).
type packetLog struct {
	file   *os.File
	losses losses
}

// open listens in the network namespace of the calling thread.
func (l *packetLog) open(group byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("nfnetlink_log: %w", err)
	}
	l.file = os.NewFile(uintptr(fd), "nfnetlink_log")
	if err := unix.Sendto(fd, bindRequest(group), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("nfnetlink_log: %w", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT) // the kernel has answered when sendto returns
	if err != nil {
		return fmt.Errorf("nfnetlink_log: %w", err)
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("nfnetlink_log: no acknowledgement")
	}
	if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:]))); errno != 0 {
		return fmt.Errorf("nfnetlink_log: %w", errno)
	}
	return nil
}

// bindRequest asks for the group's packets, each at once (the default is to wait for a hundred of them, or a second).
func bindRequest(group byte) []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, group} // struct nfgenmsg: family, version, the group in network order
	body = appendAttr(body, cfgCommand, []byte{commandBind})
	body = appendAttr(body, cfgMode, append(binary.BigEndian.AppendUint32(nil, logBytes), copyPacket, 0))
	// The default is a page for each message, which takes more room in the socket's buffer than what is in it.
	body = appendAttr(body, cfgBuffer, binary.BigEndian.AppendUint32(nil, logBytes))
	body = appendAttr(body, cfgThreshold, binary.BigEndian.AppendUint32(nil, 1))
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	message = binary.NativeEndian.AppendUint16(message, ulogConfig)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return append(append(message, make([]byte, 8)...), body...)
}

// appendAttr adds an attribute with its padding (netlink(7)).
func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, (4-len(value)%4)%4)...)
}

// read waits for packets that a program sent. After end the error is os.ErrDeadlineExceeded.
func (l *packetLog) read(buf []byte) ([]packet, error) {
	for {
		size, err := l.file.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue // a flood: losses counts what was dropped
		}
		if err != nil {
			return nil, err
		}
		if packets := asked(buf[:size]); len(packets) > 0 {
			return packets, nil
		}
	}
}

// rest reads what has come, without waiting.
func (l *packetLog) rest(buf []byte) (all []packet) {
	for range maxRest {
		size, err := l.readNow(buf)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			break
		}
		all = append(all, asked(buf[:size])...)
	}
	l.look()
	return all
}

// asked are the packets among messages of the kernel, without those that kernels send by themselves.
func asked(messages []byte) (packets []packet) {
	for _, payload := range payloads(messages) {
		if p, err := parsePacket(payload); err == nil && !p.isAnswer() {
			packets = append(packets, p)
		}
	}
	return packets
}

// end has read return, and reports whether it does.
func (l *packetLog) end() bool { return l.file.SetReadDeadline(time.Unix(1, 0)) == nil }

// readNow reads without waiting, whatever the deadline.
func (l *packetLog) readNow(b []byte) (n int, err error) {
	conn, err := l.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { n, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) })
	return max(n, 0), errors.Join(err, failed)
}

// look counts what was lost, one message for each packet. Those of the kernel's own that are not told otherwise are among them.
func (l *packetLog) look() {
	if conn, err := l.file.SyscallConn(); err == nil {
		l.losses.look(conn)
	}
}

// close may be called again, and without open.
func (l *packetLog) close() error {
	if l.file == nil {
		return nil
	}
	return ignoreClosed(l.file.Close())
}

// payloads finds the packets in messages of the kernel.
func payloads(b []byte) [][]byte {
	var out [][]byte
	for len(b) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[4:]) == ulogPacket && length >= unix.NLMSG_HDRLEN+nfgenmsgLength {
			out = append(out, attrs(b[unix.NLMSG_HDRLEN+nfgenmsgLength:length], attrPayload)...)
		}
		b = b[min(align(length), len(b)):]
	}
	return out
}

// attrs returns the values of one kind of attribute.
func attrs(b []byte, kind uint16) [][]byte {
	var out [][]byte
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			out = append(out, b[unix.SizeofNlAttr:length])
		}
		b = b[min(align(length), len(b)):]
	}
	return out
}

// align is the next multiple of 4, to which netlink pads.
func align(n int) int { return (n + 3) &^ 3 }
