// SPDX-License-Identifier: Apache-2.0

// Package netns makes the network namespace of a run, in which everything that leaves a socket arrives at the gateway.
//
// The namespace has one interface, lo, and one idea: every address is local (`local default dev lo`). A packet to any address
// therefore comes back in through lo, where a chain of nftables hands it to the listeners of this package (TPROXY): the
// address that was dialed becomes the local address of the accepted connection. There is no way out to close: what no
// listener takes is dropped, and a gateway that is gone leaves a namespace that reaches nothing.
//
//	command ──connect 192.0.2.7:443──▶ lo ──prerouting──▶ tproxy ──▶ [Namespace.Listeners] ──▶ gateway (host's network)
//	command ──connect 127.0.0.1:3000─▶ lo ──prerouting──▶ a socket of the command listens there? it gets the packet
//	                                                      nobody does?  tproxy, as for every other address
//
// New must be called by a process that is root in the user namespace that is to own the network namespace (or root on the
// host). The command runs in a user namespace below that one, so that even with all its capabilities it could not change an
// interface, a route or a rule. Nothing of the calling process moves: only sockets made here live in the namespace.
//
// # Limits
//
// TCP and UDP are captured, over IPv4 and IPv6. Anything else (ICMP, SCTP) is dropped without a record; sockets for it are
// the syscall filter's to refuse. A kernel without IPv6 gives a namespace without it. Multicast is not delivered to the
// listeners: the kernel drops it.
package netns
