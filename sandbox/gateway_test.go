// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/netns"
)

func TestRefusalEvents(t *testing.T) {
	for _, tt := range []struct{ network, local, remote, action, reason string }{
		{"tcp", "127.0.0.1:40000", "127.0.0.1:3000", "tcp.connect", "nobody inside listens there"},
		{"tcp", "[::1]:40000", "[::1]:3000", "tcp.connect", "nobody inside listens there"},
		{"tcp", "127.0.0.1:40000", "127.0.0.1:3001", "tcp.connect", "nobody listens there, neither inside nor"},
		{"tcp", "9.9.9.9:4444", "9.9.9.9:4444", "tcp.connect", "the socket connects to itself"},
		{"tcp", "[2620:fe::9]:4444", "[2620:fe::9]:4444", "tcp.connect", "the socket connects to itself"},
		{"tcp", "9.9.9.9:4445", "9.9.9.9:4444", "tcp.connect", "nothing takes it any more"},
		{"udp", "127.0.0.1:40000", "224.0.0.251:5353", "udp.send", "multicast"},
		{"icmp", "127.0.0.1:0", "9.9.9.9:0", "", ""},
		{"ip:132", "127.0.0.1:0", "9.9.9.9:0", "", ""},
	} {
		process := audit.Process{PID: 7}
		e, ok := refusalEvent(netns.Refusal{
			Network: tt.network, Local: netip.MustParseAddrPort(tt.local), Remote: netip.MustParseAddrPort(tt.remote), Process: process,
		}, func(to netip.AddrPort) bool { return to.Port() == 3000 })
		if ok != (tt.action != "") {
			t.Errorf("%s to %s: an event: %v", tt.network, tt.remote, ok)
		}
		if ok && (e.Action != tt.action || e.Decision != audit.Deny || e.Target != tt.remote || e.PID != 7 || !strings.HasPrefix(e.Reason, tt.reason)) {
			t.Errorf("%s from %s to %s: %+v", tt.network, tt.local, tt.remote, e)
		}
		if (e.Severity == audit.SeverityNoise) != (tt.remote == "127.0.0.1:3001") {
			t.Errorf("%s to %s: severity %q", tt.network, tt.remote, e.Severity)
		}
		if (e.Fix == "--allow-net 127.0.0.1:3000") != (tt.reason == "nobody inside listens there") {
			t.Errorf("%s to %s: the flag %q", tt.network, tt.remote, e.Fix)
		}
	}
}

func TestUnpublishedEvents(t *testing.T) {
	ports := []uint16{80, 3000, 4000}
	for port := range uint16(20) {
		ports = append(ports, 5000+port)
	}
	events := Plan{Publish: []uint16{3000}}.unpublishedEvents(ports)
	if len(events) != maxUnpublished || events[1].Target != "127.0.0.1:4000" || !strings.HasSuffix(events[1].Reason, "--publish 4000") {
		t.Errorf("%+v", events)
	}
	if events := (Plan{Publish: ports}).unpublishedEvents(ports); events != nil {
		t.Errorf("all are published: %+v", events)
	}
}
