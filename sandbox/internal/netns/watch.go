// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// Watch has the namespace refuse by itself what a listener cannot refuse as a host does, and report it:
//
//   - a TCP connect to a loopback address where nobody listens. A listener takes every connection before its owner can say
//     no, and so a program that waits for its server (nc -z, wait-for-it, Playwright) would find it too early;
//   - multicast, which the kernel does not hand to listeners of other addresses. Sockets of the command still get it;
//   - every packet that is neither TCP nor UDP, and that no kernel sends by itself.
type Watch struct {
	// Granted are the loopback ports that the listeners take where nobody inside listens. They always take port 53.
	Granted []uint16
	// Refused is told of each refusal before the command sees it. It is called from one goroutine, and must not block.
	Refused func(Refusal)
}

// Refusal is a packet that no listener took.
type Refusal struct {
	Network       string         // "tcp", "udp", "icmp", or "ip:" and the number of the protocol
	Local, Remote netip.AddrPort // the command's end, and where it wanted to go; without ports where there are none
	Process       audit.Process  // zero if unknown
}

// Watching tells whether the Watch that was asked for is there: a kernel that cannot log packets (nfnetlink_log) has none, and
// everything on loopback goes to the listeners then.
func (n *Namespace) Watching() bool { return n.watch != nil }

// watcher reads the log of packets (libnetfilter_log's protocol, linux/netfilter/nfnetlink_log.h).
type watcher struct {
	Watch
	file   *os.File
	losses losses
	ended  chan struct{}
}

const (
	logGroup = 1   // of this namespace: groups are its own
	logBytes = 128 // the longest headers are 60 and 60
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

// open listens in the network namespace of the calling thread.
func (w *watcher) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("nfnetlink_log: %w", err)
	}
	w.file = os.NewFile(uintptr(fd), "nfnetlink_log")
	if err := unix.Sendto(fd, bindRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
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
func bindRequest() []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, logGroup} // struct nfgenmsg: family, version, the group in network order
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

// start begins to read.
func (w *watcher) start(n *Namespace) {
	w.ended = make(chan struct{})
	go w.run(n)
}

func (w *watcher) run(n *Namespace) {
	defer close(w.ended)
	buf := make([]byte, 64<<10)
	for rest := maxRest; rest > 0; {
		size, err := w.file.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) { // of close: what has come is still told
			rest--
			size, err = w.readNow(buf)
		}
		if errors.Is(err, unix.ENOBUFS) {
			continue // a flood: losses counts what was dropped
		}
		if err != nil {
			return
		}
		for _, payload := range payloads(buf[:size]) {
			if p, err := parsePacket(payload); err == nil && !p.isAnswer() {
				w.refuse(n, p)
			}
		}
	}
}

// readNow reads without waiting, whatever the deadline.
func (w *watcher) readNow(b []byte) (n int, err error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { n, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) })
	return max(n, 0), errors.Join(err, failed)
}

// look counts what was lost, one message for each packet. Those of the kernel's own that are not told otherwise are among them.
func (w *watcher) look() {
	if conn, err := w.file.SyscallConn(); err == nil {
		w.losses.look(conn)
	}
}

// refuse reports a packet, and answers it where a host would.
func (w *watcher) refuse(n *Namespace, p packet) {
	r := Refusal{Network: p.network(), Local: p.src, Remote: p.dst}
	if r.Network == "tcp" || r.Network == "udp" {
		r.Process = n.Owner(r.Network, p.src, p.dst)
	}
	w.Refused(r)
	if p.protocol != unix.IPPROTO_TCP || p.flags&(flagSYN|flagACK|flagRST) != flagSYN {
		return
	}
	for _, u := range n.udp {
		if u.ipv6 == p.dst.Addr().Is6() {
			u.raw.send(resetPacket(p), p.src.Addr()) // one that is lost is asked for again by the next SYN
		}
	}
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

// close ends the reading, after what has come. A watcher that was never started reads nothing.
func (w *watcher) close() error {
	if w.file == nil {
		return nil
	}
	if w.ended != nil && w.file.SetReadDeadline(time.Unix(1, 0)) == nil {
		<-w.ended
		w.look()
	}
	return ignoreClosed(w.file.Close())
}
