// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestCollectorURL(t *testing.T) {
	for text, want := range map[string]string{
		"http://localhost:4318":          "http://localhost:4318/v1/logs",
		"https://otel.example/":          "https://otel.example/v1/logs",
		"https://otel.example/otlp/logs": "https://otel.example/otlp/logs",
		"http://[::1]:4318?a=b":          "http://[::1]:4318/v1/logs?a=b",
		"http://10.0.0.1:3000":           "http://10.0.0.1:3000/v1/logs",
	} {
		if u, err := collectorURL(text); err != nil || u.String() != want {
			t.Errorf("%s is %v (%v)", text, u, err)
		}
	}
	for text, want := range map[string]string{
		"":                          "is not the URL",
		"localhost:4318":            "is not the URL",
		"otel.example":              "is not the URL",
		"grpc://otel.example":       "is not the URL",
		"http://u:hunter2@otel.com": "has credentials",
		"http://otel.com/#x":        "has no #x",
	} {
		u, err := collectorURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s is %v (%v), want %s", text, u, err, want)
		}
	}
}

func TestCollectorHeader(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want http.Header // nil: an error
	}{
		{nil, http.Header{}},
		{map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a=b, x-team = blue"}, http.Header{"Authorization": {"Bearer a=b"}, "X-Team": {"blue"}}},
		{map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=2"}, http.Header{"A": {"2"}}},
		{map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"}, nil},
		{map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=hunter2%0d%0ab: c"}, nil},
	} {
		got, err := collectorHeader(func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok })
		if (err == nil) != (tt.want != nil) || err == nil && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v is %v (%v)", tt.env, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is in the error: %v", err)
		}
	}
}
