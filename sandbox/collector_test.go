// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// TestWithoutCollector: what a policy grants with others does not include the collector of the log; what it grants alone does.
func TestWithoutCollector(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("fe80::9")}
	here := []string{"deny 127.0.0.0/8:4318", "deny [::1/128]:4318", "deny 10.9.8.7/32:4318", "deny [fe80::9/128]:4318"}
	for name, tt := range map[string]struct {
		url       string
		addresses []string
		rules     []string
		loopback  []uint16
		want      []string // denials
		reaches   bool
	}{
		"nothing granted": {"https://otel.example.com", []string{"93.184.216.34"}, nil, nil, []string{"deny otel.example.com:443"}, false},
		"a wildcard":      {"https://otel.example.com:4318", nil, []string{"*.example.com:4318"}, nil, []string{"deny otel.example.com:4318"}, false},
		"case and dot":    {"https://OTEL.example.com.", nil, nil, nil, []string{"deny otel.example.com:443"}, false},
		"alone":           {"https://otel.example.com", nil, []string{"otel.example.com"}, nil, nil, true},
		"another port":    {"https://otel.example.com", nil, []string{"otel.example.com:4318"}, nil, []string{"deny otel.example.com:443"}, false},
		"a range":         {"https://otel.example.com", nil, []string{"otel.example.com:1-65535"}, nil, []string{"deny otel.example.com:443"}, false},
		"private":         {"http://otel.example.com:4318", []string{"10.1.2.3", "::ffff:10.1.2.4"}, []string{"10.0.0.0/8:4318"}, nil, []string{"deny otel.example.com:4318", "deny 10.1.2.3/32:4318", "deny 10.1.2.4/32:4318"}, false},
		"private alone":   {"http://10.1.2.3:4318", []string{"10.1.2.3"}, []string{"10.1.2.3:4318"}, nil, nil, true},
		"localhost":       {"http://localhost:4318", []string{"127.0.0.1", "::1"}, nil, nil, append([]string{"deny 127.0.0.1/32:4318"}, here...), false},
		"unspecified":     {"http://0.0.0.0:4318", []string{"0.0.0.0"}, []string{"127.0.0.1:4000-5000"}, nil, append([]string{"deny 127.0.0.1/32:4318"}, here...), false},
		"by another name": {"http://127.0.0.1:4318", nil, []string{"127.0.0.2:4000-5000"}, nil, append([]string{"deny 127.0.0.1/32:4318"}, here...), false},
		"an own address":  {"http://10.9.8.7:4318", []string{"10.9.8.7"}, nil, []uint16{4318}, here, false},
		"an own name":     {"http://otel.example.com:4318", []string{"fe80::9%eth0"}, nil, []uint16{4318}, append([]string{"deny otel.example.com:4318"}, here...), false},
		"an own, alone":   {"http://10.9.8.7:4318", []string{"10.9.8.7"}, []string{"10.9.8.7:4318"}, nil, nil, true},
		"a loopback port": {"http://localhost:4318", []string{"127.0.0.1", "::1"}, nil, []uint16{4318}, nil, true},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		var addresses []netip.Addr
		for _, a := range tt.addresses {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		plan := Plan{Loopback: tt.loopback}
		for _, text := range tt.rules {
			r, err := profiles.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			plan.Rules = append(plan.Rules, r)
		}
		got := plan.WithoutCollector(u, addresses, own)
		var denials []string
		for _, d := range got.Denials {
			denials = append(denials, d.String())
		}
		for _, want := range tt.want {
			if !slices.Contains(denials, want) {
				t.Errorf("%s: no %q in %q", name, want, denials)
			}
		}
		if len(denials) != len(tt.want) || (got.Collector != "") != tt.reaches || (len(got.Coverage) > 0) != tt.reaches {
			t.Errorf("%s: %q, and reaches %q", name, denials, got.Collector)
		}
		if again := got.WithoutCollector(u, addresses, own); len(again.Denials) != len(got.Denials) {
			t.Errorf("%s: twice", name)
		}
	}
}

// TestDialsCollector: whatever a host is called, the address that is dialed counts.
func TestDialsCollector(t *testing.T) {
	for _, tt := range []struct {
		scheme, at, want string
	}{
		{"http", "127.0.0.1:3000", "leads into the run"}, {"https", "[::1]:3000", "leads into the run"}, {"http", "127.8.8.8:3000", "leads into the run"},
		{"http", "0.0.0.0:3000", "leads into the run"}, {"http", "[::]:3000", "leads into the run"}, {"http", "[::ffff:127.0.0.1]:3000", "leads into the run"},
		{"http", "10.0.0.1:3000", ""}, {"http", "127.0.0.1:4318", ""}, {"http", "[fd00::1]:4318", ""}, {"http", "[fe80::1%eth0]:4318", ""},
		{"http", "100.64.1.1:4318", ""}, {"http", "[::ffff:192.168.1.1]:4318", ""}, {"http", "93.184.216.34:4318", "use https"},
		{"http", "[2606:2800::1]:80", "use https"}, {"https", "93.184.216.34:443", ""},
	} {
		err := dialsCollector(tt.scheme, []uint16{3000})(netip.MustParseAddrPort(tt.at))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s to %s: %v", tt.scheme, tt.at, err)
		}
	}
}
