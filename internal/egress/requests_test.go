// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// grants are rules for site.test:80 that grant these requests.
func grants(requests ...profiles.Requests) (out []profiles.Rule) {
	for _, r := range requests {
		out = append(out, profiles.Rule{Host: "site.test", Ports: []profiles.PortRange{{First: 80, Last: 80}}, Requests: r})
	}
	return out
}

// A grantTest is a request that rules grant, or do not.
type grantTest struct {
	rules  []profiles.Rule
	method string
	target string
	length int64
	fields string
	want   string // of the reason; empty for granted
}

func (tt grantTest) try(t *testing.T) {
	t.Helper()
	fields := make(http.Header)
	if key, value, ok := strings.Cut(tt.fields, ": "); ok {
		fields.Set(key, value)
	}
	_, err := grantRequest(tt.rules, request{tt.method, tt.target, tt.length, fields})
	if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
		t.Errorf("%s %s %s: %v, want %q", tt.method, tt.target, tt.fields, err, tt.want)
	}
}

// TestGrantRequest: what a rule does not name is refused.
// Containment check: K07.
func TestGrantRequest(t *testing.T) {
	methods := grants(profiles.Requests{Methods: []string{"GET", "HEAD"}})
	several := grants(profiles.Requests{Methods: []string{"GET"}}, profiles.Requests{Methods: []string{"POST"}, Paths: []string{"/up"}, MaxUpload: 10},
		profiles.Requests{Methods: []string{"POST"}, Paths: []string{"/up", "/other"}, MaxUpload: 100})
	for _, tt := range []grantTest{
		{methods, "GET", "/x", 0, "", ""},
		{methods, "HEAD", "/x", 0, "", ""},
		{methods, "POST", "/x", 0, "", `the method "POST" is not granted, but GET, HEAD`},
		{methods, "get", "/x", 0, "", "is not granted"},
		{methods, "GET", "/x", 0, "X-Http-Method-Override: DELETE", `the method "DELETE"`},
		{methods, "GET", "/x", 0, "X-Method-Override: HEAD", ""},
		{methods, "GET", "/x", 0, "X_http_Method-Override: DELETE", `the method "DELETE"`},
		{methods, "GET", "/x", 0, "X-Http-Method: PUT", `the method "PUT"`},
		{methods, "GET", "/..//;%00", 0, "X-Original-Url: /y", ""}, // the path is not the rule's business

		{several, "GET", "/x", 1 << 40, "", ""},
		{several, "POST", "/up", 50, "", ""},
		{several, "POST", "/up", -1, "", ""},
		{several, "POST", "/up", 101, "", "none of the 3 rules for this host grants it, the first because the method"},
		{several[1:2], "POST", "/up", 11, "", "longer than 10"},
		{several, "POST", "/x", 0, "", "none of the 3 rules"},
	} {
		tt.try(t)
	}
	if rule, _ := grantRequest(several, request{"POST", "/up", 5, nil}); rule.Requests.MaxUpload != 100 {
		t.Errorf("by %s", rule)
	}
}

// TestGrantPath: a path that a rule does not name is refused, in every way in which a server might read it.
// Containment check: K07.
func TestGrantPath(t *testing.T) {
	paths := grants(profiles.Requests{Paths: []string{"/api/**", "/@*/*", "/*", "/a/*.js"}})
	for _, tt := range []grantTest{
		{paths, "GET", "/api/x/y", 0, "", ""},
		{paths, "GET", "/api/", 0, "", ""},
		{paths, "GET", "/api", 0, "", ""}, // by /*
		{paths, "GET", "/apix/y", 0, "", "the path is not granted, but /api/**"},
		{paths, "GET", "/API/x", 0, "", "the path is not granted"},
		{paths, "GET", "/%61pi/x?y=/../z", 0, "", ""},
		{paths, "GET", "http://site.test/api/x", 0, "", ""},
		{paths, "GET", "http://site.test", 0, "", ""},
		{paths, "GET", "http://site.test?/api/x", 0, "", ""},
		{paths, "OPTIONS", "*", 0, "", "has no path"},
		{paths, "GET", "/@types%2fnode", 0, "", ""},
		{paths, "GET", "/@types/node", 0, "", ""},
		{paths, "GET", "/x%2fnode", 0, "", "the path is not granted"}, // /* by one reading alone
		{paths, "GET", "/a/x.js", 0, "", ""},
		{paths, "GET", "/a/x.css", 0, "", "the path is not granted"},
		{paths, "GET", "/a/b/x.js", 0, "", "the path is not granted"},
		{paths, "GET", "/api/../admin/x", 0, "", ". or .."},
		{paths, "GET", "/api/%2e%2E/admin/x", 0, "", ". or .."},
		{paths, "GET", "/api/.%2e%2fadmin/x", 0, "", ". or .."},
		{paths, "GET", "/api/x/..", 0, "", ". or .."},
		{paths, "GET", "/api/./x", 0, "", ". or .."},
		{paths, "GET", "/api//x", 0, "", "an empty part"},
		{paths, "GET", "/api/%2f/x", 0, "", "an empty part"},
		{paths, "GET", "//admin/x", 0, "", "an empty part"},
		{paths, "GET", "/api/..;/admin", 0, "", "a semicolon"},
		{paths, "GET", "/api/..%3b/admin", 0, "", ". or .."},
		{paths, "GET", `/api\..\admin`, 0, "", "a backslash"},
		{paths, "GET", "/api/..%5cadmin", 0, "", "a backslash"},
		{paths, "GET", "/api/%252e%252e/admin", 0, "", "escaped twice"},
		{paths, "GET", "/api/x%00", 0, "", "a control character"},
		{paths, "GET", "/api/x%0d%0ay", 0, "", "a control character"},
		{paths, "GET", "/api/x#/y", 0, "", "a #"},
		{paths, "GET", "/api/100%25", 0, "", ""},
		{paths, "GET", "/api/x", 0, "X-Original-Url: /admin", "asks for another path"},
		{paths, "GET", "/api/x", 0, "X_Original_Url: /admin", "asks for another path"},
		{paths, "GET", "/api/%c0%ae%c0%ae%c0%afadmin", 0, "", "not UTF-8"},
		{paths, "GET", "/api/x", 0, "X-Rewrite-Url: /admin", "asks for another path"},
		{paths, "GET", "/api/..%20/admin", 0, "", ". or .."},
		{paths, "GET", "/api/%20../admin", 0, "", ". or .."},
		{paths, "GET", "/api/.%2e%c2%a0/admin", 0, "", ". or .."},
		{paths, "GET", "/api/..%20%3bx/admin", 0, "", ". or .."},
		{paths, "GET", "/api/.../admin", 0, "", ". or .."},
		{paths, "GET", "/api/%20/admin", 0, "", ". or .."},
		{paths, "GET", "/api/%ef%bc%8e%ef%bc%8e/admin", 0, "", "is made a dot"},
		{paths, "GET", "/api/\uff0e\uff0e/admin", 0, "", "is made a dot"},
		{paths, "GET", "/api/..%ef%bc%8fadmin", 0, "", "is made a dot"},
		{paths, "GET", "/api/%e2%80%a5/admin", 0, "", "is made a dot"},
		{paths, "GET", "/api/%ef%bc%852e", 0, "", "is made a dot"},
		{paths, "GET", "/api/a%20b/x..y/.hidden", 0, "", ""},
		{paths, "GET", "/api/\u00fc/%e3%83%bb", 0, "", ""},
	} {
		tt.try(t)
	}
}

func TestRequestTarget(t *testing.T) {
	for target, want := range map[string]string{
		"/a/b?token=x":                          "GET http://h/a/b",
		"http://h/a?b":                          "GET http://h/a",
		"http://h":                              "GET http://h/",
		"*":                                     "GET http://h*",
		"/x/ghp_0123456789abcdefghijklmnop/y":   "GET http://h/x/[withheld]/y",
		"/x/gh%70_0123456789abcdefghijklmnop/y": "GET http://h/x/[withheld]/y",
		"/" + strings.Repeat("a", maxShownPath): "GET http://h/" + strings.Repeat("a", maxShownPath-1) + "...",
		"/a%2Fb/\u00fc":                         "GET http://h/a%2Fb/\u00fc",
	} {
		if got := requestTarget("http", "h", "GET", target); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// FuzzReadPath: what is granted has one meaning, whichever server reads it.
// Containment check: K07.
func FuzzReadPath(f *testing.F) {
	for _, target := range []string{
		"/api/x", "/api/%2e%2e/x", "/@a%2fb", "/..;/", "//", "/%252e", "http://h/api/x?y", "*", "/api/%5c", "/api/\xff", "/a/b/c.js", "/api/%", "/api/..%2f", "/api/..%20/", "/api/%ef%bc%8e%ef%bc%8e/", "/api/.%c2%a0",
	} {
		f.Add(target)
	}
	rules := grants(profiles.Requests{Paths: []string{"/api/**", "/a/*/*.js", "/@*/*"}})
	f.Fuzz(func(t *testing.T, target string) {
		if target == "" {
			return
		}
		if _, err := grantRequest(rules, request{"GET", target, 0, nil}); err != nil {
			return
		}
		readings, err := readPath(target)
		if err != nil || len(readings) == 0 {
			t.Fatalf("%q is granted: %v", target, err)
		}
		for _, parts := range readings {
			whole := "/" + strings.Join(parts, "/")
			if clean := path.Clean(whole); clean != whole && clean+"/" != whole {
				t.Fatalf("%q is granted, and read as %q, which is %q", target, whole, clean)
			}
			if !strings.HasPrefix(whole, "/api/") && !strings.HasPrefix(whole, "/a/") && !strings.HasPrefix(whole, "/@") {
				t.Fatalf("%q is granted as %q", target, whole)
			}
		}
	})
}
