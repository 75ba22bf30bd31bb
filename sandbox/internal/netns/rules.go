// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	// mark is SO_MARK of every socket of this package. The command cannot set one: that takes a capability over the
	// namespace (socket(7)).
	mark = 0x616a
	// port is where the listeners are. The command cannot take a port below 1024 itself, so that this one is never in its
	// way; when it dials the port, it gets what it gets at every port that nobody listens at.
	port = 1

	tableName = "agentjail"
)

// The loopback addresses at which the listeners are, and where the command's own services are, too.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// ruleset is what the table holds. In the syntax of nft(8):
//
//	table inet agentjail {
//		chain own {
//			meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn accept    # belongs to a connection, or gets a reset
//			socket transparent 0 accept                                     # a socket of the command listens there
//		}
//		chain capture {
//			type filter hook prerouting priority mangle; policy drop;
//			meta mark 0x616a accept                                         # answers of the gateway
//			ip daddr 127.0.0.0/8 jump own
//			ip6 daddr ::1 jump own
//			tproxy ip to 127.0.0.1:1 accept
//			tproxy ip6 to [::1]:1 accept
//			socket transparent 0 accept                                     # answers to sockets at other addresses
//		}
//	}
//
// tproxy (nft_tproxy.c) breaks off its rule for other protocols than TCP and UDP, for the other family, and where the packet
// belongs to a socket that is not transparent, which is one of the command. socket looks up connections and listeners.
type ruleset struct{ own, capture [][]expr.Any }

func newRuleset(ipv6 bool) ruleset {
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	own := &expr.Verdict{Kind: expr.VerdictJump, Chain: "own"}
	mine := []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		accept,
	}
	r := ruleset{
		own: [][]expr.Any{append(notSYN(), accept), mine},
		capture: [][]expr.Any{
			{
				&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
				accept,
			},
			append(destination(unix.NFPROTO_IPV4, 16, []byte{127}), own),
		},
	}
	if ipv6 {
		r.capture = append(r.capture, append(destination(unix.NFPROTO_IPV6, 24, loopback6.AsSlice()), own))
	}
	r.capture = append(r.capture, append(tproxy(unix.NFPROTO_IPV4, loopback4), accept))
	if ipv6 {
		r.capture = append(r.capture, append(tproxy(unix.NFPROTO_IPV6, loopback6), accept))
	}
	r.capture = append(r.capture, mine)
	return r
}

// notSYN matches the TCP segments that do not open a connection. The flags are byte 13 of the header (RFC 9293, 3.1).
func notSYN() []expr.Any {
	const fin, syn, rst, ack = 1, 2, 4, 16
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{syn}},
	}
}

// destination matches packets of one family whose destination, at the offset of its header, begins with the prefix.
func destination(family byte, offset uint32, prefix []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(prefix))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix},
	}
}

func tproxy(family byte, to netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.TProxy{Family: family, RegAddr: 1, RegPort: 2},
	}
}

// load puts the table into the network namespace of the calling thread, whole or not at all.
func (r ruleset) load() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	own := conn.AddChain(&nftables.Chain{Name: "own", Table: table})
	capture := conn.AddChain(&nftables.Chain{
		Name: "capture", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityMangle, Policy: &drop,
	})
	for _, exprs := range r.own {
		conn.AddRule(&nftables.Rule{Table: table, Chain: own, Exprs: exprs})
	}
	for _, exprs := range r.capture {
		conn.AddRule(&nftables.Rule{Table: table, Chain: capture, Exprs: exprs})
	}
	return conn.Flush()
}

// loadRules loads the table, and says which part of nftables is missing where that fails.
func loadRules(ipv6 bool) error {
	err := newRuleset(ipv6).load()
	if err == nil {
		return nil
	}
	// A probe has no chain with a hook, so that it changes nothing whatever happens.
	if perr := probe(nil); perr != nil {
		return fail("nftables", fixTables, perr)
	}
	if perr := probe(tproxy(unix.NFPROTO_IPV4, loopback4)); errors.Is(perr, unix.ENOENT) || errors.Is(perr, unix.EOPNOTSUPP) {
		return fail("nftables tproxy", fixTProxy, perr)
	}
	if perr := probe([]expr.Any{&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}}); errors.Is(perr, unix.ENOENT) || errors.Is(perr, unix.EOPNOTSUPP) {
		return fail("nftables socket", fixSocket, perr)
	}
	return fail("nftables", fixTables, err)
}

// probe tries a table with one rule.
func probe(exprs []expr.Any) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName + "-probe"})
	chain := conn.AddChain(&nftables.Chain{Name: "probe", Table: table})
	if exprs != nil {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	return conn.Flush()
}
