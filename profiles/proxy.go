// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// ProxyAddress is where a run whose policy asks for it finds a proxy, HTTP and
// SOCKS 5. The address is one of the range for benchmarks (RFC 2544), which no
// host on the Internet has, and means nothing outside of the run.
const ProxyAddress = "198.19.255.254:3128"

// Values of Policy.proxy, as YAML has them.
const (
	proxyOn  = "true"
	proxyOff = "false"
)

// ProxyEnvironment are the variables by which programs in a run find its
// proxy. The run's own loopback is not reached by it.
func ProxyEnvironment() map[string]string {
	env := map[string]string{}
	for _, name := range proxyVariables {
		env[name] = "http://" + ProxyAddress
		if strings.EqualFold(name, "no_proxy") {
			env[name] = "localhost,127.0.0.1,::1"
		}
	}
	return env
}

// Proxy reports whether the run has a proxy inside, with the variables of
// ProxyEnvironment.
func (p Policy) Proxy() bool { return p.proxy == proxyOn }

// WithProxy returns the policy with a proxy inside, or without.
func (p Policy) WithProxy(on bool) Policy {
	layer := Policy{proxy: proxyOff}
	if on {
		layer.proxy = proxyOn
	}
	return p.With(layer)
}

// readProxy reads network.proxy.
func (d *decoder) readProxy(n ast.Node) error {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		return d.fail(n, errorf("proxy must be true or false, not %s", kind(n)))
	}
	d.layer.proxy = proxyOff
	if b.Value {
		d.layer.proxy = proxyOn
	}
	return nil
}
