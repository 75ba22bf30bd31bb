// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentjail/agentjail/internal/egress"
	"github.com/agentjail/agentjail/sandbox"
)

// otlpPath is where a collector takes logs, if its URL does not say (OTLP, "OTLP/HTTP Request").
const otlpPath = "/v1/logs"

// lookupTime is how long the addresses of a collector are looked for.
const lookupTime = 5 * time.Second

// withoutCollector keeps the command of a plan from the collector of --log-otlp.
func withoutCollector(text string, plan sandbox.Plan) (sandbox.Plan, error) {
	if text == "" {
		return plan, nil
	}
	u, err := collectorURL(text)
	if err != nil {
		return plan, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	// Where there is none now, no collector answers either, and the run does not start.
	addresses, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	own, err := egress.HostAddrs()
	if err != nil {
		return plan, fmt.Errorf("--log-otlp: the addresses of this machine, which are denied where the collector is on it: %w", err)
	}
	return plan.WithoutCollector(u, addresses, own), nil
}

// collectorURL is where the collector of --log-otlp takes logs.
func collectorURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("--log-otlp: %s is not the URL of a collector; write http://HOST:4318 or https://HOST", strconv.Quote(text))
	case u.User != nil:
		return nil, errors.New("--log-otlp: the URL has credentials, which others see in the list of processes; put them into OTEL_EXPORTER_OTLP_HEADERS")
	case u.Fragment != "":
		return nil, fmt.Errorf("--log-otlp: a URL of a collector has no #%s", u.Fragment)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = otlpPath
	}
	return u, nil
}

// otlpHeaders are the variables that hold headers of requests to a collector, the one that counts first (OpenTelemetry Protocol Exporter,
// "Specifying headers via environment variables").
var otlpHeaders = []string{"OTEL_EXPORTER_OTLP_LOGS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"}

// collectorHeader reads the variables: name=value, separated by commas, with %XX in values.
func collectorHeader(lookup func(string) (string, bool)) (http.Header, error) {
	header := http.Header{}
	for _, variable := range otlpHeaders {
		text, set := lookup(variable)
		if !set || text == "" {
			continue
		}
		for pair := range strings.SplitSeq(text, ",") {
			name, value, ok := strings.Cut(pair, "=")
			name, value = strings.TrimSpace(name), strings.TrimSpace(value)
			if decoded, err := url.PathUnescape(value); err == nil {
				value = decoded
			}
			if !ok || name == "" || strings.ContainsAny(name+value, "\r\n\x00") {
				return nil, fmt.Errorf("%s must be NAME=VALUE, separated by commas", variable) // its values are secrets
			}
			header.Add(name, value)
		}
		return header, nil
	}
	return header, nil
}
