// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Values of Policy.Upstream other than the URL of a proxy. An empty one is to
// be taken for UpstreamEnvironment.
const (
	UpstreamEnvironment = "environment"
	UpstreamNone        = "none"
)

// proxyVariables are the variables by which programs find the proxy of their
// network, in the order of curl(1) and of Go: lower case goes first.
var proxyVariables = []string{
	"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
}

// IsProxyVariable reports whether programs take a variable for the proxy of
// their network.
func IsProxyVariable(name string) bool { return slices.Contains(proxyVariables, name) }

// ProxyVariables are the entries of an environment, in the form of os.Environ,
// that FindUpstream looks at.
func ProxyVariables(environ []string) []string {
	var out []string
	for name, value := range proxyValues(environ) {
		out = append(out, name+"="+value)
	}
	return out
}

// An Upstream says by which proxies of the caller's network allowed hosts are
// reached. The zero Upstream is none: hosts are dialed directly. The URLs may
// hold a password: String does not show it.
type Upstream struct {
	HTTP    *url.URL // for plain HTTP; nil is none
	Other   *url.URL // for all else; nil is none
	NoProxy string   // hosts that are dialed directly, as NO_PROXY lists them
}

// Used reports whether there is a proxy.
func (u Upstream) Used() bool { return u.HTTP != nil || u.Other != nil }

// String names the proxies, without credentials.
func (u Upstream) String() string {
	name := func(p *url.URL) string {
		if p == nil {
			return "none"
		}
		return p.Scheme + "://" + p.Host
	}
	if name(u.HTTP) == name(u.Other) {
		return name(u.HTTP)
	}
	return name(u.Other) + ", plain HTTP " + name(u.HTTP)
}

// FindUpstream finds the proxies that choice, a value of Policy.Upstream,
// means with the caller's environment, in the form of os.Environ. A proxy of
// the policy takes NO_PROXY from there, and the credentials that a variable has
// for the same proxy. No error shows the value of a variable.
func FindUpstream(choice string, environ []string) (Upstream, error) {
	if choice == UpstreamNone {
		return Upstream{}, nil
	}
	values := proxyValues(environ)
	first := func(names ...string) (*url.URL, error) {
		for _, name := range names {
			if values[name] == "" {
				continue
			}
			u, err := parseProxy(values[name])
			if err != nil {
				return nil, errorf("the variable %s: %v; correct it, or give --upstream none to reach hosts directly", name, err)
			}
			return u, nil
		}
		return nil, nil
	}
	plain, err := first("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
	if err != nil {
		return Upstream{}, err
	}
	other, err := first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
	if err != nil {
		return Upstream{}, err
	}
	found := Upstream{HTTP: plain, Other: other}
	if choice != "" && choice != UpstreamEnvironment {
		named, err := parseProxy(choice)
		if err != nil {
			return Upstream{}, errorf("upstream: %v", err)
		}
		for _, u := range []*url.URL{plain, other} {
			if named.User == nil && u != nil && u.Scheme == named.Scheme && u.Host == named.Host {
				named.User = u.User
			}
		}
		found = Upstream{HTTP: named, Other: named}
	}
	if !found.Used() {
		return Upstream{}, nil
	}
	if found.NoProxy = values["no_proxy"]; found.NoProxy == "" {
		found.NoProxy = values["NO_PROXY"]
	}
	return found, nil
}

// proxyValues are the variables of an environment that name proxies. In a CGI
// program HTTP_PROXY is a field of a stranger's request (CVE-2016-5385).
func proxyValues(environ []string) map[string]string {
	var values map[string]string
	cgi := false
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		cgi = cgi || name == "REQUEST_METHOD"
		if !IsProxyVariable(name) {
			continue
		}
		if values == nil {
			values = make(map[string]string)
		}
		if _, twice := values[name]; !twice {
			values[name] = value
		}
	}
	if cgi {
		delete(values, "HTTP_PROXY")
	}
	return values
}

// proxyPort is the port of a proxy where none is given, "" for an unknown scheme.
func proxyPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	case "socks5", "socks5h":
		return "1080"
	}
	return ""
}

// parseProxy reads the URL of a proxy. The host has a port in the result. A
// scheme may be left out and is http then, as everywhere for these variables.
func parseProxy(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errorf("it is not the URL of a proxy, such as http://proxy.example.com:3128") // err shows the value
	}
	port := cmp.Or(u.Port(), proxyPort(u.Scheme))
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case proxyPort(u.Scheme) == "":
		return nil, errorf("its scheme must be http, https, socks5 or socks5h")
	case u.Hostname() == "" || err != nil || number == 0:
		return nil, errorf("it has no host, or a port that is none")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errorf("it has more than a host and a port")
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(u.Hostname(), port)}, nil
}

// checkUpstream accepts a value of Policy.Upstream. A policy is printed and its
// digest is logged, so that it is no place for a password.
func checkUpstream(s string) error {
	if s == UpstreamEnvironment || s == UpstreamNone {
		return nil
	}
	if !strings.Contains(s, "://") {
		return errorf("upstream is %s: it must be environment, none, or the URL of a proxy", show(s))
	}
	u, err := parseProxy(s)
	if err != nil {
		return errorf("upstream: %v", err)
	}
	if u.User != nil {
		return errorf("upstream has credentials, and a policy is printed: leave them to the variable HTTPS_PROXY, for the same proxy")
	}
	return nil
}

// WithUpstream returns the policy with another upstream: UpstreamEnvironment,
// UpstreamNone, or the URL of a proxy.
func (p Policy) WithUpstream(upstream string) (Policy, error) {
	if err := checkUpstream(upstream); err != nil {
		return Policy{}, err
	}
	return p.With(Policy{upstream: upstream}), nil
}
