// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirect sends connections to the listeners' port. Only their port is changed (nft(8): dnat to :1), as every address is local
// already: a statement that changes the address as well, as redirect does, would make one of two connections that come from one port
// and go to two hosts, and give one of them another port to come from, by which its process would not be found.
//
// It is in the output hook: that is where connection tracking takes the address of what is sent from here, and once.
func (w wanted) redirect() chain {
	c := chain{"redirect", &nftables.Chain{
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	}, [][]expr.Any{isMarked()}}
	for _, p := range append([]uint16{portDNS}, w.granted...) {
		for _, match := range w.loopback() {
			c.rules = append(c.rules, append(append(match, toPort(unix.IPPROTO_TCP, p)...), toListeners()...))
		}
	}
	for _, match := range w.loopback() {
		c.rules = append(c.rules, append(match, verdict(expr.VerdictAccept)))
	}
	c.rules = append(c.rules, append(protocol(expr.CmpOpEq, unix.IPPROTO_TCP), toListeners()...))
	return c
}

func toListeners() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_INET, RegProtoMin: 1},
	}
}

// wasRedirected accepts what belongs to a connection whose port was changed, which only the rules of redirect do.
func wasRedirected() []expr.Any {
	const statusDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDstNAT), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: zero},
		verdict(expr.VerdictAccept),
	}
}

// arrived are the rules for what goes to other addresses than loopback, and was not redirected.
func (w wanted) arrived() [][]expr.Any {
	refused := protocol(expr.CmpOpEq, unix.IPPROTO_UDP)
	if w.dropped {
		refused = append(refused, log(dropGroup))
	}
	return [][]expr.Any{
		append(toPort(unix.IPPROTO_TCP, port), verdict(expr.VerdictAccept)),
		append(toPort(unix.IPPROTO_UDP, portDNS), verdict(expr.VerdictAccept)),
		append(refused, verdict(expr.VerdictDrop)),
	}
}

// untracked keeps what no rule redirects out of the table of connections, which a flood of datagrams would fill.
func untracked() chain {
	return chain{"untracked", &nftables.Chain{
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
	}, [][]expr.Any{append(protocol(expr.CmpOpNeq, unix.IPPROTO_TCP), &expr.Notrack{})}}
}
