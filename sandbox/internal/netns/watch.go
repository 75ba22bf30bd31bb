// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"os"

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

// watcher tells of what is logged to its group.
type watcher struct {
	Watch
	log   packetLog
	ended chan struct{}
}

// start begins to read.
func (w *watcher) start(n *Namespace) {
	w.ended = make(chan struct{})
	go w.run(n)
}

func (w *watcher) run(n *Namespace) {
	defer close(w.ended)
	buf := make([]byte, 64<<10)
	for {
		packets, err := w.log.read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) { // of close: what has come is still told
			packets = w.log.rest(buf)
		}
		for _, p := range packets {
			w.refuse(n, p)
		}
		if err != nil {
			return
		}
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

// close ends the reading, after what has come. A watcher that was never started reads nothing.
func (w *watcher) close() error {
	if w.ended != nil && w.log.end() {
		<-w.ended
	}
	return w.log.close()
}
