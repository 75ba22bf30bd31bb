// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/egress"
	"github.com/agentjail/agentjail/sandbox"
)

// gateway fits the egress gateway, which knows nothing of namespaces, to the run's network.
type gateway struct{ *egress.Gateway }

func newGateway(plan sandbox.Plan, sink audit.Sink) (sandbox.Gateway, error) {
	g, err := egress.New(egress.Config{Rules: plan.Rules, Loopback: plan.Loopback, Publish: plan.Publish, Sink: sink})
	if err != nil {
		return nil, err
	}
	return gateway{g}, nil
}

// Serve hands the run's listeners over.
func (g gateway) Serve(n sandbox.Network) error {
	net := egress.Net{TCP: n.TCP, Owner: n.Owner, Inside: n.Inside}
	for _, c := range n.UDP {
		net.UDP = append(net.UDP, c)
	}
	return g.Gateway.Serve(net)
}

// Coverage is what the gateway cannot see or do.
func (g gateway) Coverage() []string { return egress.Coverage() }
