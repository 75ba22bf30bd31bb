// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"net/netip"
	"strings"
	"testing"
)

func TestProxyOfAPolicy(t *testing.T) {
	on := parse(t, "version: 1\nnetwork: {proxy: true}\n")
	off := parse(t, "version: 1\nnetwork: {proxy: false}\n")
	for _, test := range []struct {
		what string
		p    Policy
		want bool
	}{
		{"the zero policy", Policy{}, false},
		{"true", on, true},
		{"false", off, false},
		{"the later layer says false", on.With(off), false},
		{"the later layer says true", off.With(on), true},
		{"the later layer says nothing", on.With(Policy{}), true},
		{"a flag", Policy{}.WithProxy(true), true},
		{"a flag against it", on.WithProxy(false), false},
	} {
		if test.p.Proxy() != test.want {
			t.Errorf("%s: %t", test.what, test.p.Proxy())
		}
		readsBack(t, test.p)
	}
	if on.Digest() == off.Digest() || off.Digest() == (Policy{}).Digest() {
		t.Error("the digest does not tell them apart")
	}
	for bad, want := range map[string]string{
		"null": "proxy must be true or false, not nothing", `"true"`: "not a string", "1": "not a number", "yes": "not a string",
	} {
		_, err := Parse("p.yaml", []byte("version: 1\nnetwork: {proxy: "+bad+"}\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "p.yaml:2:18: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestProxyEnvironment(t *testing.T) {
	for name, value := range ProxyEnvironment() {
		switch {
		case !IsProxyVariable(name):
			t.Errorf("%s is no variable for a proxy", name)
		case strings.EqualFold(name, "no_proxy"):
			if value != "localhost,127.0.0.1,::1" {
				t.Errorf("%s=%s", name, value)
			}
		case value != "http://"+ProxyAddress:
			t.Errorf("%s=%s", name, value)
		}
	}
	if len(ProxyEnvironment()) != len(proxyVariables) {
		t.Error("a variable has no value")
	}
	if addr := netip.MustParseAddrPort(ProxyAddress); !netip.MustParsePrefix("198.18.0.0/15").Contains(addr.Addr()) {
		t.Errorf("%s is not of the range for benchmarks", addr)
	}
}
