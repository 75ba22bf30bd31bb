// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/egress"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox"
)

// gateway fits the egress gateway, which knows nothing of namespaces, to the run's network.
type gateway struct{ *egress.Gateway }

func newGateway(plan sandbox.Plan, sink audit.Sink) (sandbox.Gateway, error) {
	upstream, err := upstreamOf(plan)
	if err != nil {
		return nil, err
	}
	g, err := egress.New(egress.Config{Access: accessOf(plan), Quota: plan.Quota, Publish: plan.Publish, Upstream: upstream, Sink: sink})
	if err != nil {
		return nil, err
	}
	return gateway{g}, nil
}

// accessOf is what a plan lets the gateway grant.
func accessOf(plan sandbox.Plan) egress.Access {
	return egress.Access{Rules: plan.Rules, Denials: plan.Denials, Loopback: plan.Loopback, Proxy: plan.Proxy}
}

// upstreamOf finds the proxies of a plan again, with their credentials, which no plan holds.
func upstreamOf(plan sandbox.Plan) (profiles.Upstream, error) {
	if plan.Proxies == "" {
		return profiles.Upstream{}, nil
	}
	return profiles.FindUpstream(plan.Upstream, os.Environ())
}

// Serve hands the run's listeners over.
func (g gateway) Serve(n sandbox.Network) error {
	net := egress.Net{TCP: n.TCP, Owner: n.Owner, Inside: n.Inside}
	for _, c := range n.UDP {
		net.UDP = append(net.UDP, c)
	}
	return g.Gateway.Serve(net)
}

// Authority is by whom TLS is inspected.
func (g gateway) Authority() []byte { return g.Gateway.Authority() }

// Coverage is what the gateway cannot see or do.
func (g gateway) Coverage() []string { return g.Gateway.Coverage() }
