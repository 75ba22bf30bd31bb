// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ports are those of the gateway's listeners on the loopback addresses.
type ports struct{ tcp4, tcp6, udp4, udp6 uint16 }

// capture adds the chain through which every packet goes. In nft's words:
//
//	table inet agentjail {
//	    chain capture {
//	        type filter hook prerouting priority mangle
//	        ip  daddr 127.0.0.0/8 socket transparent 0 accept    # the run's own listener, or its own end
//	        ip6 daddr ::1         socket transparent 0 accept
//	        ip  protocol tcp tproxy ip  to 127.0.0.1:PORT accept # and udp, and ip6
//	    }
//	}
func capture(p ports) error {
	c, err := nftables.New()
	if err != nil {
		return &Error{"nftables", err, nftFix}
	}
	table := c.AddTable(&nftables.Table{Name: "agentjail", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{
		Name: "capture", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityMangle,
	})
	for _, exprs := range [][]expr.Any{
		ownSocket(unix.NFPROTO_IPV4, 16, net.IPv4(127, 0, 0, 0).To4(), net.CIDRMask(8, 32)),
		ownSocket(unix.NFPROTO_IPV6, 24, net.IPv6loopback, net.CIDRMask(128, 128)),
		toGateway(unix.NFPROTO_IPV4, unix.IPPROTO_TCP, p.tcp4),
		toGateway(unix.NFPROTO_IPV6, unix.IPPROTO_TCP, p.tcp6),
		toGateway(unix.NFPROTO_IPV4, unix.IPPROTO_UDP, p.udp4),
		toGateway(unix.NFPROTO_IPV6, unix.IPPROTO_UDP, p.udp6),
	} {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	if err := c.Flush(); err != nil {
		return &Error{"nftables", err, nftFix}
	}
	return nil
}

const nftFix = "the kernel needs nf_tables, nft_tproxy and nft_socket: modprobe -a nft_tproxy nft_socket"

// ownSocket accepts a packet for which a socket of the run is there. Those of the gateway are transparent.
func ownSocket(family byte, offset uint32, address net.IP, mask net.IPMask) []expr.Any {
	size := uint32(len(mask))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address},
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// toGateway gives a packet to the listener on the loopback address of its family.
func toGateway(family, protocol byte, port uint16) []expr.Any {
	address := net.IPv4(127, 0, 0, 1).To4()
	if family == unix.NFPROTO_IPV6 {
		address = net.IPv6loopback
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Immediate{Register: 1, Data: address},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{Family: family, TableFamily: byte(nftables.TableFamilyINet), RegAddr: 1, RegPort: 2},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}
