// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

var update = flag.Bool("update", false, "write the golden files")

// TestExplainGolden: what is said of each kind of destination.
func TestExplainGolden(t *testing.T) {
	rs := rules(t, "allowed.test", "allowed.test:8000-8010", "*.wild.test", "git.test:22", "xn--bcher-kva.test", "10.20.0.0/16:5432", "0.0.0.0/0:80", "port53.test:53")
	a := Access{Rules: rs, Loopback: []uint16{5432}, Denials: denials(t, "bad.wild.test", "*.bad.wild.test", "9.9.9.0/24", "git.test:80")}
	var b strings.Builder
	for _, text := range []string{
		"ALLOWED.test.", "allowed.test:8005", "allowed.test:22", "a.wild.test", "wild.test", "git.test:22", "other.test:80", "bücher.test", "ⓐllowed.test",
		"localhost:5432", "localhost:80", "127.0.0.1:5432", "[::1]:80", "10.20.1.2:5432", "10.21.1.2:5432", "169.254.169.254:80", "1.1.1.1:80", "::ffff:10.0.0.1",
		"64:ff9b::7f00:1", "[fe80::1%eth0]:443", "127.1", "0x7f.1:80", "port53.test:53",
		"", ":443", "allowed.test:0443", "allowed.test:65536", "allowed.test:", "allowed.test:https", "allowed.test:443/x", "[allowed.test]:443", "[::1", "[::1]x",
		"user@allowed.test", "https://allowed.test", "allowed.test\x1b[2K",
		"bad.wild.test", "x.bad.wild.test", "git.test:80", "9.9.9.9:80", "198.19.255.254:3128",
	} {
		b.WriteString(Explain(a, profiles.Upstream{}, text).String())
	}
	a.Proxy = true
	b.WriteString(Explain(a, profiles.Upstream{}, "198.19.255.254:3128").String())
	const golden = "testdata/explain.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%s", b.String())
	}
}

// TestExplainDecides: an explanation says what the gateway decides.
func TestExplainDecides(t *testing.T) {
	rs := rules(t, "allowed.test", "*.wild.test", "10.0.0.0/8:443")
	for form := range hostForms {
		if strings.ContainsAny(form, ":[") || form == "" {
			continue
		}
		name, addr := form, netip.Addr{}
		if a, err := netip.ParseAddr(form); err == nil {
			name, addr = "", a
		}
		d, e := Decide(Access{Rules: rs}, name, addr, 443), Explain(Access{Rules: rs}, profiles.Upstream{}, form)
		if d.Allow != e.Allow {
			t.Errorf("%q: decided %t, explained %t", form, d.Allow, e.Allow)
		}
	}
}

// TestResolveDeniedAsksNothing: the name of a denied destination goes nowhere.
func TestResolveDeniedAsksNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a query would fail
	for text, asks := range map[string]bool{"allowed.test": true, "other.test": false, "10.0.0.1": false, "localhost:5432": false} {
		_, err := Resolve(ctx, Access{}, Explain(Access{Rules: rules(t, "allowed.test"), Loopback: []uint16{5432}}, profiles.Upstream{}, text))
		if (err != nil) != asks {
			t.Errorf("%s: %v, want a query: %t", text, err, asks)
		}
	}
}

// TestExplainProxy: what is reached through a proxy of the caller's network says so, and what is not does not.
func TestExplainProxy(t *testing.T) {
	proxies, err := profiles.FindUpstream("", []string{"https_proxy=http://u:secret@proxy.test:3128", "http_proxy=http://plain.test:80", "no_proxy=direct.wild.test"})
	if err != nil {
		t.Fatal(err)
	}
	rs := rules(t, "*.wild.test", "*.wild.test:80", "*.wild.test:53", "10.0.0.0/8")
	for text, want := range map[string]string{
		"a.wild.test": "proxy.test:3128", "a.wild.test:80": "plain.test:80", "10.1.2.3": "proxy.test:3128",
		"direct.wild.test": "", "a.wild.test:53": "", "a.wild.test:22": "", "localhost:5432": "",
	} {
		if got := Explain(Access{Rules: rs, Loopback: []uint16{5432}}, proxies, text); got.Proxy != want || strings.Contains(got.String(), "secret") {
			t.Errorf("%s: %q, want %q\n%s", text, got.Proxy, want, got)
		}
	}
}
