// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"strconv"

	"github.com/agentjail/agentjail/internal/audit"
)

// The actions of classes net and dns; the package comment says what each is.
const (
	actionConnect       = "tcp.connect"
	actionClose         = "tcp.close"
	actionUnproven      = "tcp.unproven"
	actionSNIMismatch   = "tls.sni_mismatch"
	actionHandshake     = audit.ActionHandshakeFailed
	actionAuthority     = "tls.authority"
	actionHostMismatch  = "http.host_mismatch"
	actionMalformedHTTP = "http.malformed"
	actionRequest       = "http.request"
	actionSpecial       = "dial.special_address"
	actionDialFailed    = audit.ActionDialFailed
	actionProxy         = "proxy.malformed"
	actionUpload        = "tcp.upload"
	actionUDP           = "udp.send"
	actionPublish       = "tcp.publish"
	actionGatewayError  = "gateway.error"

	actionQuery        = "dns.query"
	actionMalformedDNS = "dns.malformed"
	actionExhausted    = "dns.exhausted"
	actionWildcard     = "dns.wildcard"

	actionUploadLimit     = "limit.upload"
	actionConnectionLimit = "limit.connections"
)

// maxQuoted bounds what is quoted from the agent in a reason.
const maxQuoted = 100

// quote makes text of the agent safe to stand in a reason or an answer: ASCII, escaped, short.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return strconv.QuoteToASCII(s)
}

// target names a destination: the name if it is known, else the address.
func target(name string, addr netip.AddrPort) string {
	if name == "" {
		return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String()
	}
	return name + ":" + strconv.Itoa(int(addr.Port()))
}

// provenance says who vouches for such a target: the pool's name is this package's own knowledge.
func provenance(name string) audit.Provenance {
	if name == "" {
		return audit.FromKernel
	}
	return audit.FromResolved
}

// withFix adds to a reason what to do about it, for an answer: events have it by itself.
func withFix(reason, fix string) string {
	if fix == "" {
		return reason
	}
	return reason + "; to allow it: " + fix
}
