// SPDX-License-Identifier: Apache-2.0

// Package egress decides what a run may reach over the network, and carries what it allows.
//
// A [Gateway] serves listeners that it is given. Every connection and packet that leaves the run arrives there, whatever
// its destination, and the local address of an accepted connection is the address that was dialed. Nothing is passed on
// unless a rule names it: without rules, nothing is.
//
// # How a connection is judged
//
// A denial of the policy goes before every grant, for names as for addresses, and so also for what an allowed name resolves to.
//
// Names come first. The gateway answers every DNS query itself, whichever server it was sent to, with an address out of its
// own pool (198.18.0.0/15 and fd6a:6169:6c00::/48), one for each name and stable for the run. No query leaves the host for a
// name that is not allowed, and none for an allowed name until something connects to it. A connection to a pool address
// is a connection to that name; [Decide] says whether name and port are allowed.
//
// Then comes the proof that the connection is what it claims to be. The first bytes are read, whatever the port: a TLS hello
// must carry the name in its SNI, and every HTTP request of the connection must carry it in Host. Bytes that are neither
// (ssh, a database) are passed on, but not on ports 80 and 443. A client that waits for the server to speak is connected
// after 200 ms, and its first bytes are still judged when they come.
//
// Where a rule narrows the requests that it grants (profiles.Requests), the connection is for HTTP alone, and each request is judged,
// passed on and answered for itself (relay). All readings of a path that servers are known to make must be granted. Where it says that TLS
// is inspected, the client's TLS ends here, by a certificate of the run's own (package authority), and what is in it is judged so as
// well. To the server there is TLS of the gateway's, in which the host's authorities must vouch for the name; where they do not, no
// request is sent, and the client gets a 502.
//
// Then the name is resolved, on the host, and each answer is compared with a table of special addresses (loopback, private,
// link-local, cloud metadata, the host's own...). Such an address is used only if a CIDR rule no wider than its special
// range grants it. Then the allow event is written, and an address that passed is dialed: the name is not resolved again.
// Connections to the name in the second that follows have the same answers, each compared with the table anew.
//
// A connection to an address that is not of the pool needs a CIDR rule, or a loopback port for 127.0.0.1 and ::1.
//
// # Upstream proxies
//
// Where Config has a proxy, what was decided and proven is dialed by way of it, and never directly instead; the host's own
// loopback and what NO_PROXY lists are not. Plain HTTP goes to an HTTP proxy in absolute form, one connection of the agent's to one
// of the proxy's, since proxies seldom allow CONNECT to port 80; all else by CONNECT or SOCKS5. The proxy resolves the names: the
// table of special addresses is compared with addresses that were dialed as such, and with no others. What the proxy is told of
// its own, its credentials, is in no event and no answer: an answer 407 becomes a 502, and TRACE is refused.
//
// # Quotas
//
// Where Config has a quota of what may be sent, what a client sends is counted before it is written to the server, and not a byte more
// than the quota is. It is then copied by this process: without a quota the copy stays in the kernel.
//
// # The explicit proxy
//
// Where Config has Proxy, connections to profiles.ProxyAddress are requests to a proxy: CONNECT, plain HTTP in absolute form, or SOCKS 5.
// What such a request asks for is turned into the address that a client would have dialed without a proxy, a name's being the pool's,
// and judged as a connection to that. Nothing else decides on it, and no more of the request is believed than a connection tells. A
// tunnel is granted by name and port, and dialed when its first bytes have proven the name. Of requests in absolute form there is one
// to a connection. The proxy has nothing to offer itself, and does not lead to itself.
//
// # What the agent sees
//
// A refused connection says why where it can: plain HTTP gets a 403 with the rule to add, TLS an access_denied alert, other
// connections a reset. Denied names resolve, so that the connection that follows can be told. Denied UDP gets no answer.
// Every connection is accepted first, so that a probe which only connects learns nothing: neither that a name does not
// exist, nor that nobody listens.
//
// # Events
//
// Every denial is one event, written before the agent is answered, and so is every connection that is passed on. That one has another
// event when it has ended, with what was exchanged.
//
//	class action                decision     target          what
//	net   tcp.connect           allow, deny  HOST:PORT       a TCP connection; allow is written before the dial
//	net   tcp.close             report       HOST:PORT       the end of a connection that was passed on: bytes, duration, address
//	net   tcp.publish           allow        127.0.0.1:PORT  a connection of the host to a published port; before the dial
//	net   tcp.publish           report       127.0.0.1:PORT  one that reached nobody inside, or one too many
//	net   tcp.connect           report       HOST:PORT       the client sent nothing, on 80 or 443 for 30 s: nothing was dialed
//	net   tcp.unproven          deny         HOST:PORT       allowed, but the first bytes are no proof of the name
//	net   tls.sni_mismatch      deny         HOST:PORT       the TLS hello has no SNI, another one, or cannot be read
//	net   tls.authority         report       sha256:HASH     the certificate by which TLS is inspected; once
//	net   tls.handshake_failed  report       HOST:PORT       a client did not go on with TLS that is inspected
//	net   http.host_mismatch    deny         HOST:PORT       a request is for another host, or is CONNECT
//	net   http.malformed        deny         HOST:PORT       a request that two servers could read in two ways
//	net   http.request          allow, deny  METHOD URL      a request, where the rule says which are granted; allow with the status of the answer
//	net   http.request          report       METHOD URL      such a request whose client left before the answer came
//	net   proxy.malformed       deny         ADDRESS:PORT    a request to the explicit proxy that leads nowhere that could be judged
//	net   tcp.upload            deny         HOST:PORT       a quota of what may be sent is used up: the connection is ended, or not made
//	net   dial.special_address  deny         HOST:PORT       a special address, behind a name or in a wide CIDR rule, or a denied one behind a name
//	net   dial.failed           report       HOST:PORT       allowed, but the host could not be resolved or reached, or a proxy refused
//	net   udp.send              deny         HOST:PORT       a UDP packet to any port but 53
//	net   gateway.error         report       tcp, udp        a listener failed for a moment
//	dns   dns.query             allow, deny  NAME [TYPE]     a query; TYPE where it is not A or AAAA
//	dns   dns.malformed         deny         SERVER:PORT     bytes to port 53 that are not a DNS query
//	dns   dns.exhausted         deny         NAME            the pool is used up
//	dns   dns.wildcard          report       *.NAME          many distinct names were asked for below a wildcard
//	limit limit.upload          deny         SIZE [to HOST]  such a quota is used up; once
//	limit limit.connections     deny         N connections...  the quota of connections was reached; once
//
// HOST is the name where the gateway knows it and the address where not. Targets that are addresses are vouched for by the
// kernel, names behind a pool address by the gateway (resolved). What the agent wrote itself (an SNI, a Host) stands quoted
// in the reason.
//
// # Limits
//
// Inside TLS that is not inspected nothing is read: an allowed server that also serves other names (a shared CDN) can be asked for them after
// the handshake, the inner name of an encrypted hello (ECH) is not seen, the outer one is compared, and of two hellos, where the server
// asks for a second one (RFC 8446 section 4.1.4), the first. A server that leaves the body of a POST where it is takes that for its next
// request, which nobody has judged. A wildcard lets data out to whoever runs the zone, in the names themselves. Of addresses that stand for
// others, NAT64's are told by its well-known prefix (RFC 6052) alone. Only addresses are resolved: SRV, TXT and MX of allowed names are
// answered empty. Allowed hosts are reached over TCP only; HTTP/3 clients fall back to it. Port 53 is always answered by the gateway itself,
// even where a CIDR rule covers it. An HTTP upgrade must be the first request of its connection, and is passed on for websocket only.
// Servers that speak first on 80 or 443 are not waited for.
package egress
