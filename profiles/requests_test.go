// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"strings"
	"testing"
)

func TestRequests(t *testing.T) {
	p := parse(t, `version: 1
network:
  allow:
    - {host: a.example, ports: [80, 8080], methods: [HEAD, GET, GET], paths: [/v1/**, "/größe/*.js", /], max_upload: 1MiB}
    - {host: a.example, ports: [80], methods: [POST], paths: [/upload]}
    - {host: a.example, ports: ["79-81", 443]}
    - {host: "*.b.example", ports: [80], max_upload: 10}
`)
	want := []string{
		"a.example:79,81,443", "a.example:80,8080 methods:GET,HEAD paths:/,/größe/*.js,/v1/** max_upload:1MiB",
		"a.example:80 methods:POST paths:/upload", "*.b.example:80 max_upload:10",
	}
	if got := ruleTexts(p); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	readsBack(t, p)

	// A rule that narrows goes before one that does not, in whichever layer either is.
	wide := parse(t, "version: 1\nnetwork: {allow: [{host: a.example, ports: [80, 8080, 9]}, {host: x.b.example, ports: [80]}]}\n")
	want[0] = "a.example:9,79,81,443"
	want = append(want, "x.b.example:80")
	for _, both := range []Policy{p.With(wide), wide.With(p), wide.With(p).With(wide)} {
		if got := ruleTexts(both); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("united:\n%s", strings.Join(got, "\n"))
		}
		if both.Digest() != p.With(wide).Digest() {
			t.Error("the order of layers makes a difference")
		}
	}
	if p.Digest() == parse(t, strings.ReplaceAll(string(p.YAML()), "/upload", "/other")).Digest() {
		t.Error("the digest does not tell them apart")
	}
}

func TestInspectRules(t *testing.T) {
	p := parse(t, `version: 1
network:
  allow:
    - {host: a.example}
    - {host: a.example, tls: inspect, ports: [443, 444, 445]}
    - {host: a.example, tls: inspect, ports: [444], methods: [GET]}
`)
	if got := ruleTexts(p); strings.Join(got, "\n") != "a.example:443,445 tls:inspect\na.example:444 tls:inspect methods:GET" {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	readsBack(t, p)
}

func ruleTexts(p Policy) (texts []string) {
	for _, r := range p.Rules() {
		texts = append(texts, r.String())
	}
	return texts
}

func TestRequestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{host: a, methods: [GET]}":                            "cannot be kept on port 443, where TLS hides requests",
		"{host: a, ports: ['80-500'], paths: [/a]}":            "cannot be kept on port 443",
		"{cidr: 10.0.0.0/8, ports: [80], methods: [GET]}":      "need a host",
		"{host: a, tls: maybe}":                                `tls is "maybe": it must be inspect`,
		"{cidr: 10.0.0.0/8, tls: inspect}":                     "need a host",
		"{host: a, ports: [80], methods: []}":                  "methods is empty and would grant nothing",
		"{host: a, ports: [80], methods: GET}":                 "methods must be a list",
		"{host: a, ports: [80], methods: [get]}":               `"get" is not a method: write it in capitals`,
		"{host: a, ports: [80], methods: [CONNECT]}":           "never passed on",
		"{host: a, ports: [80], methods: ['GET POST']}":        "is not a method",
		"{host: a, ports: [80], methods: [1]}":                 "a string is needed",
		"{host: a, ports: [80], paths: [v1]}":                  "must begin with a slash",
		"{host: a, ports: [80], paths: ['/v1?x=1']}":           "a query is not looked at",
		"{host: a, ports: [80], paths: ['/a%20b']}":            "write characters as they are",
		"{host: a, ports: [80], paths: ['/a;b']}":              "write characters as they are",
		"{host: a, ports: [80], paths: ['/a b']}":              "has a blank",
		"{host: a, ports: [80], paths: [\"/a\\tb\"]}":          "a character that does not show",
		"{host: a, ports: [80], paths: [/a/**/b]}":             "** stands at the end alone",
		"{host: a, ports: [80], paths: [/a**]}":                "** stands at the end alone",
		"{host: a, ports: [80], paths: [/**]}":                 "is every path: leave paths out",
		"{host: a, ports: [80], paths: [//a]}":                 "an empty part",
		"{host: a, ports: [80], paths: [/a/../b]}":             "has a part . or ..",
		"{host: a, ports: [80], max_upload: 0}":                "a limit of 0 would stop everything",
		"{host: a, ports: [80], max_upload: x}":                "is not a size",
		"{host: a, ports: [80], method: [GET]}":                `unknown key "method"`,
		"{host: a, ports: [80], methods: [GET], methods: [X]}": "methods",
	} {
		_, err := Parse("p.yaml", []byte("version: 1\nnetwork:\n  allow:\n    - "+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p.yaml:4:") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := Parse("p.yaml", []byte("version: 1\nnetwork: {deny: [{host: a, methods: [GET]}]}\n")); err == nil {
		t.Error("a denial takes methods")
	}
	for _, r := range []Requests{{Methods: []string{"get"}}, {Paths: []string{"x"}}, {MaxUpload: -1}} {
		rule := Rule{Host: "a.example", Ports: []PortRange{{80, 80}}, Requests: r}
		if _, err := (Policy{}).WithAllow(rule); err == nil {
			t.Errorf("WithAllow takes %+v", r)
		}
		rule.Requests, rule.Ports = Requests{Methods: []string{"GET"}}, []PortRange{{443, 443}}
		if _, err := (Policy{}).WithAllow(rule); err == nil {
			t.Errorf("WithAllow takes %s", rule)
		}
	}
}
