// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

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
	// portDNS is always the listeners': a resolver's address is often on loopback.
	portDNS = 53

	tableName = "agentjail"
)

// The loopback addresses at which the listeners are, and where the command's own services are, too.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// ruleset is what the table holds. In the syntax of nft(8), with the lines of a Watch marked by +:
//
//	table inet agentjail {
//		chain own {
//			meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn accept    # belongs to a connection, or gets a reset
//			socket transparent 0 accept                                     # a socket of the command listens there
//	+		tcp dport 53 return                                             # and each port of Watch.Granted
//	+		meta l4proto tcp log group 1 drop                               # refused by this package
//		}
//		chain capture {
//			type filter hook prerouting priority mangle; policy drop;
//			meta mark 0x616a accept                                         # answers of the gateway
//			ip daddr 127.0.0.0/8 jump own
//			ip6 daddr ::1 jump own
//	+		ip daddr 224.0.0.0/4 jump multicast                             # and ip6 daddr ff00::/8
//			tproxy ip to 127.0.0.1:1 accept
//			tproxy ip6 to [::1]:1 accept
//			tcp flags & (fin|syn|rst|ack) != syn socket transparent 0 accept  # answers to sockets at other addresses
//	+		log group 1 drop
//		}
//	+	chain multicast { log group 1; socket transparent 0 accept; drop }
//	}
//
// tproxy (nft_tproxy.c) breaks off its rule for other protocols than TCP and UDP, for the other family, and where the packet
// belongs to a socket that is not transparent, which is one of the command. socket looks up connections and listeners.
type ruleset struct{ own, multicast, capture [][]expr.Any }

func newRuleset(ipv6 bool, w *Watch) ruleset {
	mine := []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		verdict(expr.VerdictAccept),
	}
	r := ruleset{
		own: [][]expr.Any{append(notSYN(), verdict(expr.VerdictAccept)), mine},
		capture: [][]expr.Any{
			{
				&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
				verdict(expr.VerdictAccept),
			},
			append(destination(unix.NFPROTO_IPV4, 16, []byte{127}, []byte{255}), jump("own")),
		},
	}
	if ipv6 {
		all := bytes.Repeat([]byte{255}, 16)
		r.capture = append(r.capture, append(destination(unix.NFPROTO_IPV6, 24, loopback6.AsSlice(), all), jump("own")))
	}
	if w != nil {
		r.watch(ipv6, w, mine)
	}
	r.capture = append(r.capture, append(tproxy(unix.NFPROTO_IPV4, loopback4), verdict(expr.VerdictAccept)))
	if ipv6 {
		r.capture = append(r.capture, append(tproxy(unix.NFPROTO_IPV6, loopback6), verdict(expr.VerdictAccept)))
	}
	r.capture = append(r.capture, append(notSYN(), mine...))
	if w != nil {
		r.capture = append(r.capture, []expr.Any{log(), verdict(expr.VerdictDrop)})
	}
	return r
}

// watch adds what a Watch needs in front of tproxy.
func (r *ruleset) watch(ipv6 bool, w *Watch, mine []expr.Any) {
	isTCP := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	for _, p := range append([]uint16{portDNS}, w.Granted...) {
		r.own = append(r.own, append(slices.Clone(isTCP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)},
			verdict(expr.VerdictReturn)))
	}
	r.own = append(r.own, append(isTCP, log(), verdict(expr.VerdictDrop)))
	r.multicast = [][]expr.Any{{log()}, mine, {verdict(expr.VerdictDrop)}}
	r.capture = append(r.capture, append(destination(unix.NFPROTO_IPV4, 16, []byte{224}, []byte{240}), jump("multicast")))
	if ipv6 {
		r.capture = append(r.capture, append(destination(unix.NFPROTO_IPV6, 24, []byte{255}, []byte{255}), jump("multicast")))
	}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// log hands the first bytes of a packet to the group at which a watcher listens; nobody else can.
func log() expr.Any {
	return &expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: logGroup, Snaplen: logBytes}
}

// notSYN matches the TCP segments that do not open a connection. The flags are byte 13 of the header (RFC 9293, 3.1).
func notSYN() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagFIN | flagSYN | flagRST | flagACK}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{flagSYN}},
	}
}

// destination matches packets of one family whose destination, at the offset of its header, has a prefix.
func destination(family byte, offset uint32, prefix, mask []byte) []expr.Any {
	n := uint32(len(prefix))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
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
	// A chain must be there before a rule jumps to it.
	for _, c := range []struct {
		name  string
		rules [][]expr.Any
	}{{"own", r.own}, {"multicast", r.multicast}, {"capture", r.capture}} {
		if c.rules == nil {
			continue
		}
		chain := &nftables.Chain{Name: c.name, Table: table}
		if c.name == "capture" {
			chain.Type, chain.Hooknum = nftables.ChainTypeFilter, nftables.ChainHookPrerouting
			chain.Priority, chain.Policy = nftables.ChainPriorityMangle, &drop
		}
		conn.AddChain(chain)
		for _, exprs := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		}
	}
	return conn.Flush()
}

// loadRules loads the table, and says which part of nftables is missing where that fails.
func loadRules(ipv6 bool, w *Watch) error {
	err := newRuleset(ipv6, w).load()
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
