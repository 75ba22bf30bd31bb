// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"
	"testing"
)

func TestFindUpstream(t *testing.T) {
	const at = "http://user:CANARY@proxy.test:3128"
	for _, test := range []struct {
		what, choice string
		environ      []string
		want         string // of String, "" for none
		http, other  string // with credentials
		noProxy      string
	}{
		{what: "nothing", environ: []string{"HOME=/x", "HTTP_PROXY="}},
		{"upper case", "", []string{"HTTPS_PROXY=" + at, "NO_PROXY=a"}, "http://proxy.test:3128, plain HTTP none", "", at, "a"},
		{"lower case first", "environment", []string{"HTTPS_PROXY=http://b", "https_proxy=" + at, "NO_PROXY=a", "no_proxy=b"}, "http://proxy.test:3128, plain HTTP none", "", at, "b"},
		{"the first of two", "", []string{"https_proxy=a:1", "https_proxy=b:2"}, "http://a:1, plain HTTP none", "", "http://a:1", ""},
		{"both", "", []string{"HTTPS_PROXY=" + at, "HTTP_PROXY=" + at}, "http://proxy.test:3128", at, at, ""},
		{"plain only", "", []string{"HTTP_PROXY=" + at}, "none, plain HTTP http://proxy.test:3128", at, "", ""},
		{"all", "", []string{"all_proxy=socks5h://[::1]"}, "socks5h://[::1]:1080", "socks5h://[::1]:1080", "socks5h://[::1]:1080", ""},
		{"all is for the rest", "", []string{"ALL_PROXY=socks5://s", "HTTPS_PROXY=https://t/"}, "https://t:443, plain HTTP socks5://s:1080", "socks5://s:1080", "https://t:443", ""},
		{"without a scheme", "", []string{"HTTPS_PROXY=proxy.test:8080"}, "http://proxy.test:8080, plain HTTP none", "", "http://proxy.test:8080", ""},
		{"CGI", "", []string{"HTTP_PROXY=http://stranger", "REQUEST_METHOD=GET"}, "", "", "", ""},
		{"CGI, its own", "", []string{"http_proxy=http://own", "REQUEST_METHOD=GET"}, "none, plain HTTP http://own:80", "http://own:80", "", ""},
		{"none", "none", []string{"HTTPS_PROXY=" + at}, "", "", "", ""},
		{"none, whatever there is", "none", []string{"HTTPS_PROXY=://"}, "", "", "", ""},
		{"named", "http://other.test", []string{"HTTPS_PROXY=" + at, "NO_PROXY=a"}, "http://other.test:80", "http://other.test:80", "http://other.test:80", "a"},
		{"named, known", "http://proxy.test:3128", []string{"HTTPS_PROXY=" + at}, "http://proxy.test:3128", at, at, ""},
	} {
		u, err := FindUpstream(test.choice, test.environ)
		got := [2]string{}
		if u.HTTP != nil {
			got[0] = u.HTTP.String()
		}
		if u.Other != nil {
			got[1] = u.Other.String()
		}
		if err != nil || got != [2]string{test.http, test.other} || u.NoProxy != test.noProxy || u.Used() != (test.want != "") {
			t.Errorf("%s: %v %v, %v", test.what, got, u, err)
		}
		if u.Used() && u.String() != test.want {
			t.Errorf("%s: is shown as %q", test.what, u)
		}
		// The supervisor finds the same with the variables that it is handed.
		if again, err := FindUpstream(test.choice, ProxyVariables(test.environ)); err != nil || again.String() != u.String() || again.NoProxy != u.NoProxy {
			t.Errorf("%s: found again as %v, %v", test.what, again, err)
		}
	}
}

func TestFindUpstreamErrors(t *testing.T) {
	for value, want := range map[string]string{
		"socks4://CANARY":         "its scheme must be http, https, socks5 or socks5h",
		"http://u:CANARY@:3128":   "it has no host, or a port that is none",
		"http://CANARY:0":         "a port that is none",
		"http://CANARY:70000":     "a port that is none",
		"http://CANARY:x":         "it is not the URL of a proxy",
		"http://p.test/CANARY":    "it has more than a host and a port",
		"http://p.test?x=CANARY":  "it has more than a host and a port",
		"http://CANARY %zz@p":     "it is not the URL of a proxy",
		"http://p.test\nX:CANARY": "it is not the URL of a proxy",
	} {
		for _, name := range []string{"HTTPS_PROXY", "http_proxy", "ALL_PROXY"} {
			_, err := FindUpstream("", []string{name + "=" + value})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the variable "+name+": ") ||
				strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
}

func TestUpstreamOfAPolicy(t *testing.T) {
	lower := parse(t, "version: 1\nnetwork: {upstream: \"http://proxy.test:3128\"}\n")
	upper := parse(t, "version: 1\nnetwork: {upstream: none}\n")
	if got := lower.With(upper).Upstream(); got != "none" {
		t.Errorf("the later layer says none, not %q", got)
	}
	if got := lower.With(Policy{}).Upstream(); got != "http://proxy.test:3128" {
		t.Errorf("an empty layer makes it %q", got)
	}
	if lower.Digest() == upper.Digest() {
		t.Error("the digest does not tell them apart")
	}
	readsBack(t, lower)
	for _, bad := range []string{"proxy.test", "direct", "http://u@proxy.test", "http://u:p@proxy.test", "ftp://proxy.test", "http://"} {
		if _, err := (Policy{}).WithUpstream(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
		_, err := Parse("p.yaml", []byte("version: 1\nnetwork: {upstream: \""+bad+"\"}\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "p.yaml:2:21: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestProxyVariables(t *testing.T) {
	got := ProxyVariables([]string{"no_proxy=x", "HOME=/h", "HTTP_PROXY=a", "GOPROXY=b"})
	slices.Sort(got)
	if strings.Join(got, " ") != "HTTP_PROXY=a no_proxy=x" {
		t.Errorf("got %v", got)
	}
}
