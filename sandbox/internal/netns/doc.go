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
// Where the kernel has no TPROXY the next best [Mechanism] is used. By redirect, an output chain of nat changes the port to that of the
// listeners, and connection tracking tells them which one was dialed. By ports, there are no rules at all: since every address is
// local, a socket that listens at port 443 gets what goes to port 443 of any address.
//
// New must be called by a process that is root in the user namespace that is to own the network namespace (or root on the
// host). The command runs in a user namespace below that one, so that even with all its capabilities it could not change an
// interface, a route or a rule. Nothing of the calling process moves: only sockets made here live in the namespace.
//
// A listener has to take a connection before it can refuse it. Where that shows, on loopback, and for what it never sees, such
// as multicast, there is [Watch].
//
// # Limits
//
// TCP and UDP are captured (by ports, only what goes to these), over IPv4 and IPv6; a kernel without IPv6 gives a namespace without it. Anything else (ICMP, SCTP)
// and multicast is dropped, without a record unless there is a Watch; sockets for it are the syscall filter's to refuse.
//
// The files of /proc/sys/net belong to the namespace's root, whose uid on the host is the command's own. They lead nowhere, but
// a command that could write them could turn its IPv6 off: its /proc/sys must be read-only.
package netns
