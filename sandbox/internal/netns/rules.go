// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
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
	// portDNS is always the listeners': a resolver's address is often on loopback.
	portDNS = 53

	tableName = "agentjail"
)

// The loopback addresses at which the listeners are, and where the command's own services are, too.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// wanted says what rules are to be made for. With watch and dropped there is somebody to read the log of packets.
type wanted struct {
	mechanism Mechanism
	ipv6      bool
	granted   []uint16 // of loopback, see Watch
	watch     bool     // what a Watch wants is refused and logged
	dropped   bool     // datagrams that go nowhere are logged for droppedUDP
}

// ruleset is what the table holds. In the syntax of nft(8), with the lines of a Watch marked by +, those of ByTProxy alone by T, and
// those of ByRedirect by R:
//
//	table inet agentjail {
//		chain own {
//			meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn accept    # belongs to a connection, or gets a reset
//	R+		tcp dport 1 log group 1 drop                                    # where the listeners are
//			socket transparent 0 accept                                     # a socket of the command listens there
//	T+		tcp dport 53 return                                             # and each port of Watch.Granted
//	+		meta l4proto tcp log group 1 drop                               # refused by this package
//	R		meta l4proto tcp accept                                         # without a Watch: refused by the kernel
//		}
//		chain capture {
//			type filter hook prerouting priority mangle; policy drop;
//			meta mark 0x616a accept                                         # answers of the gateway
//	R		ct status & dnat != 0 accept                                    # see redirect
//			ip daddr 127.0.0.0/8 jump own
//			ip6 daddr ::1 jump own
//	+		ip daddr 224.0.0.0/4 jump multicast                             # and ip6 daddr ff00::/8
//	T		tproxy ip to 127.0.0.1:1 accept
//	T		tproxy ip6 to [::1]:1 accept
//	R		tcp dport 1 accept                                              # dialed as it is: nothing was changed
//	R		udp dport 53 accept
//	R		meta l4proto udp log group 2 drop
//			tcp flags & (fin|syn|rst|ack) != syn socket transparent 0 accept  # answers to sockets at other addresses
//	+		log group 1 drop
//		}
//	+	chain multicast { log group 1; socket transparent 0 accept; drop }
//	R	chain untracked {
//			type filter hook output priority raw;
//			meta l4proto != tcp notrack
//		}
//	R	chain redirect {
//			type nat hook output priority dstnat;
//			meta mark 0x616a accept                                         # of Inside
//			ip daddr 127.0.0.0/8 tcp dport 53 dnat to :1                    # and each port of Watch.Granted; and ip6 daddr ::1
//			ip daddr 127.0.0.0/8 accept                                     # and ip6 daddr ::1
//			meta l4proto tcp dnat to :1                                     # the port alone: see there
//		}
//	}
//
// tproxy (nft_tproxy.c) breaks off its rule for other protocols than TCP and UDP, for the other family, and where the packet
// belongs to a socket that is not transparent, which is one of the command. socket looks up connections and listeners.
type ruleset []chain

type chain struct {
	name  string
	hook  *nftables.Chain // what makes it one that packets go through by themselves; nil for one to jump to
	rules [][]expr.Any
}

// isOwn matches what a socket takes that is not transparent: by TProxy all but the listeners, by Redirect the listeners as well, which
// their ports tell from the command's.
func isOwn() []expr.Any {
	return []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		verdict(expr.VerdictAccept),
	}
}

func isMarked() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		verdict(expr.VerdictAccept),
	}
}

func newRuleset(w wanted) ruleset {
	drop := nftables.ChainPolicyDrop
	r := ruleset{{name: "own", rules: w.own()}}
	if w.watch {
		r = append(r, chain{name: "multicast", rules: [][]expr.Any{{log(logGroup)}, isOwn(), {verdict(expr.VerdictDrop)}}})
	}
	capture := chain{"capture", &nftables.Chain{
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &drop,
	}, [][]expr.Any{isMarked()}}
	add := func(rules ...[]expr.Any) { capture.rules = append(capture.rules, rules...) }
	if w.mechanism == ByRedirect {
		add(wasRedirected())
	}
	for _, match := range w.loopback() {
		add(append(match, jump("own")))
	}
	if w.watch {
		add(append(destination(unix.NFPROTO_IPV4, 16, []byte{224}, []byte{240}), jump("multicast")))
	}
	if w.watch && w.ipv6 {
		add(append(destination(unix.NFPROTO_IPV6, 24, []byte{255}, []byte{255}), jump("multicast")))
	}
	if w.mechanism == ByRedirect {
		add(w.arrived()...)
	} else {
		add(append(tproxy(unix.NFPROTO_IPV4, loopback4), verdict(expr.VerdictAccept)))
	}
	if w.mechanism == ByTProxy && w.ipv6 {
		add(append(tproxy(unix.NFPROTO_IPV6, loopback6), verdict(expr.VerdictAccept)))
	}
	add(append(notSYN(), isOwn()...))
	if w.watch {
		add([]expr.Any{log(logGroup), verdict(expr.VerdictDrop)})
	}
	r = append(r, capture)
	if w.mechanism == ByRedirect {
		r = append(r, untracked(), w.redirect())
	}
	return r
}

// own is the chain of what goes to loopback.
func (w wanted) own() [][]expr.Any {
	rules := [][]expr.Any{append(notSYN(), verdict(expr.VerdictAccept))}
	if w.watch && w.mechanism == ByRedirect {
		rules = append(rules, append(toPort(unix.IPPROTO_TCP, port), log(logGroup), verdict(expr.VerdictDrop)))
	}
	rules = append(rules, isOwn())
	switch {
	case w.watch:
		if w.mechanism == ByTProxy {
			for _, p := range append([]uint16{portDNS}, w.granted...) {
				rules = append(rules, append(toPort(unix.IPPROTO_TCP, p), verdict(expr.VerdictReturn)))
			}
		}
		rules = append(rules, append(protocol(expr.CmpOpEq, unix.IPPROTO_TCP), log(logGroup), verdict(expr.VerdictDrop)))
	case w.mechanism == ByRedirect:
		rules = append(rules, append(protocol(expr.CmpOpEq, unix.IPPROTO_TCP), verdict(expr.VerdictAccept)))
	}
	return rules
}

// loopback matches what goes to loopback, for each family.
func (w wanted) loopback() [][]expr.Any {
	match := [][]expr.Any{destination(unix.NFPROTO_IPV4, 16, []byte{127}, []byte{255})}
	if w.ipv6 {
		match = append(match, destination(unix.NFPROTO_IPV6, 24, loopback6.AsSlice(), bytes.Repeat([]byte{255}, 16)))
	}
	return match
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// log hands the first bytes of a packet to a group, at which a packetLog listens; nobody else can.
func log(group uint16) expr.Any {
	return &expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: group, Snaplen: logBytes}
}

func protocol(op expr.CmpOp, number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte{number}}}
}

// toPort matches what goes to a port; it stands at the same place in both protocols.
func toPort(number byte, p uint16) []expr.Any {
	return append(protocol(expr.CmpOpEq, number),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)})
}

// notSYN matches the TCP segments that do not open a connection. The flags are byte 13 of the header (RFC 9293, 3.1).
func notSYN() []expr.Any {
	return append(protocol(expr.CmpOpEq, unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagFIN | flagSYN | flagRST | flagACK}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{flagSYN}})
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
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	for _, c := range r { // one must be there before a rule jumps to it
		chain := &nftables.Chain{}
		if c.hook != nil {
			chain = c.hook
		}
		chain.Name, chain.Table = c.name, table
		conn.AddChain(chain)
		for _, exprs := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		}
	}
	return conn.Flush()
}

// unload removes the table.
func unload() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	return conn.Flush()
}

// missing says which part of nftables is, where the rules could not be loaded.
func missing(m Mechanism, err error) error {
	// A probe has no chain with a hook, so that it changes nothing whatever happens.
	if perr := probe(nil); perr != nil {
		return fail("nftables", fixTables, perr)
	}
	lacks := func(e ...expr.Any) error {
		if err := probe(e); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		return nil
	}
	if m == ByTProxy {
		if perr := lacks(tproxy(unix.NFPROTO_IPV4, loopback4)...); perr != nil {
			return fail("nftables tproxy", fixTProxy, perr)
		}
	}
	if perr := lacks(&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}); perr != nil {
		return fail("nftables socket", fixSocket, perr)
	}
	if m == ByRedirect {
		return fail("nftables nat", fixNAT, err)
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
