// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// otlpPath is where a collector takes logs, if its URL does not say (OTLP, "OTLP/HTTP Request").
const otlpPath = "/v1/logs"

// collectorURL is where the collector of --log-otlp takes logs. published are the ports of this machine's loopback that lead into the run.
func collectorURL(text string, published []uint16) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("--log-otlp: %s is not the URL of a collector; write http://HOST:4318 or https://HOST", strconv.Quote(text))
	case u.User != nil:
		return nil, errors.New("--log-otlp: the URL has credentials, which others see in the list of processes; put them into OTEL_EXPORTER_OTLP_HEADERS")
	case u.Fragment != "":
		return nil, fmt.Errorf("--log-otlp: a URL of a collector has no #%s", u.Fragment)
	}
	port, _ := strconv.ParseUint(u.Port(), 10, 16)
	if isLoopback(u.Hostname()) && slices.Contains(published, uint16(port)) {
		return nil, fmt.Errorf("--log-otlp: port %d of this machine leads into the run (--publish), which would get its own log; choose another", port)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = otlpPath
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
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
