// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// TestProxyVariablesOfTheRun: they are there with the proxy alone, go before the caller's own, and after the policy's.
func TestProxyVariablesOfTheRun(t *testing.T) {
	host := fakeHost()
	host.Environ = append(host.Environ, "https_proxy=http://outside.test:3128")
	on := func(p profiles.Policy) (profiles.Policy, error) { return p.WithProxy(true), nil }
	pass := func(p profiles.Policy) (profiles.Policy, error) {
		return p.WithEnv("https_proxy", "HTTP_PROXY=http://mine.test")
	}
	for _, test := range []struct {
		what  string
		steps []func(profiles.Policy) (profiles.Policy, error)
		want  []string
	}{
		{"without", nil, nil},
		{"the caller's", []func(profiles.Policy) (profiles.Policy, error){pass}, []string{"HTTP_PROXY=http://mine.test", "https_proxy=http://outside.test:3128"}},
		{"with", []func(profiles.Policy) (profiles.Policy, error){on}, []string{
			"ALL_PROXY=http://198.19.255.254:3128", "HTTPS_PROXY=http://198.19.255.254:3128", "HTTP_PROXY=http://198.19.255.254:3128",
			"NO_PROXY=localhost,127.0.0.1,::1", "all_proxy=http://198.19.255.254:3128", "http_proxy=http://198.19.255.254:3128",
			"https_proxy=http://198.19.255.254:3128", "no_proxy=localhost,127.0.0.1,::1",
		}},
		{"both", []func(profiles.Policy) (profiles.Policy, error){on, pass}, []string{
			"ALL_PROXY=http://198.19.255.254:3128", "HTTPS_PROXY=http://198.19.255.254:3128", "HTTP_PROXY=http://mine.test",
			"NO_PROXY=localhost,127.0.0.1,::1", "all_proxy=http://198.19.255.254:3128", "http_proxy=http://198.19.255.254:3128",
			"https_proxy=http://198.19.255.254:3128", "no_proxy=localhost,127.0.0.1,::1",
		}},
	} {
		plan, err := Compile(with(t, base(t), test.steps...), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(slices.Clone(plan.Env), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return !profiles.IsProxyVariable(name)
		})
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
		if shown := strings.Contains(plan.String(), "a proxy inside, at 198.19.255.254:3128"); shown != plan.Proxy {
			t.Errorf("%s: the plan says so: %t", test.what, shown)
		}
	}
}
