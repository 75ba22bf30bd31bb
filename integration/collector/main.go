// SPDX-License-Identifier: Apache-2.0

// Command collector is an OpenTelemetry collector for the tests: its receiver of OTLP is the real one, and what it gets it prints, a line
// of JSON for each log record. It is a module of its own, so that the program depends on nothing of it.
//
//	collector ADDRESS
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: collector ADDRESS")
	}
	config := `yaml:
receivers: {otlp: {protocols: {http: {endpoint: "` + os.Args[1] + `"}}}}
exporters: {print: {}}
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {logs: {receivers: [otlp], exporters: [print]}}
`
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "test"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{config},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err == nil {
		err = c.Run(context.Background())
	}
	if err != nil {
		log.Fatal(err)
	}
}

func factories() (f otelcol.Factories, err error) {
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	kind := component.MustNewType("print")
	f.Exporters, err = otelcol.MakeFactoryMap(exporter.NewFactory(kind, func() component.Config { return &struct{}{} },
		exporter.WithLogs(newPrinter, component.StabilityLevelStable)))
	f.Telemetry = otelconftelemetry.NewFactory()
	return f, err
}

// printer is the exporter.
type printer struct {
	component.StartFunc
	component.ShutdownFunc
	consumer.Logs
}

func newPrinter(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
	logs, err := consumer.NewLogs(func(_ context.Context, l plog.Logs) error { return print(l) })
	return printer{Logs: logs}, err
}

// record is a line of output.
type record struct {
	Resource   map[string]any `json:"resource"`
	Scope      string         `json:"scope"`
	Time       int64          `json:"time"` // nanoseconds
	Severity   string         `json:"severity"`
	Body       string         `json:"body"`
	Attributes map[string]any `json:"attributes"`
}

func print(l plog.Logs) error {
	out := json.NewEncoder(os.Stdout)
	for _, resource := range l.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, r := range scope.LogRecords().All() {
				err := out.Encode(record{
					resource.Resource().Attributes().AsRaw(), scope.Scope().Name(), int64(r.Timestamp()), r.SeverityNumber().String(),
					r.Body().AsString(), r.Attributes().AsRaw(),
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}
