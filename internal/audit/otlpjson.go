// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// The messages of OTLP that a request for logs is made of, in their JSON encoding: names in lowerCamelCase, numbers of 64 bits as
// decimal text, enums as numbers.
type (
	otlpRequest struct {
		ResourceLogs []otlpResourceLogs `json:"resourceLogs"`
	}
	otlpResourceLogs struct {
		Resource  otlpResource    `json:"resource"`
		ScopeLogs []otlpScopeLogs `json:"scopeLogs"`
	}
	otlpResource struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScopeLogs struct {
		Scope      otlpScope    `json:"scope"`
		LogRecords []otlpRecord `json:"logRecords"`
	}
	otlpScope struct {
		Name string `json:"name"`
	}
	otlpRecord struct {
		Time       string          `json:"timeUnixNano"`
		Observed   string          `json:"observedTimeUnixNano"`
		Severity   int             `json:"severityNumber"`
		Text       string          `json:"severityText"`
		Body       otlpValue       `json:"body"`
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"`
	}
)

func otlpString(s string) otlpValue { return otlpValue{String: &s} }

func otlpInt[N int | uint64](n N) otlpValue {
	s := strconv.FormatUint(uint64(n), 10)
	return otlpValue{Int: &s}
}

func otlpTime(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// otlpName is the instrumentation scope, and the service's name its last part.
const otlpName = "github.com/agentjail/agentjail"

// request is the request that brings whole lines.
func (o *collector) request(lines []byte) []byte {
	var records []otlpRecord
	run := ""
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			continue // the recorder wrote it
		}
		run = e.Run
		records = append(records, otlpRecordOf(e, string(line)))
	}
	resource := []otlpAttribute{{"service.name", otlpString("agentjail")}, {"service.instance.id", otlpString(run)}}
	if o.host != "" {
		resource = append(resource, otlpAttribute{"host.name", otlpString(Printable(o.host))})
	}
	return mustDetail(otlpRequest{[]otlpResourceLogs{{
		otlpResource{resource}, []otlpScopeLogs{{otlpScope{otlpName}, records}},
	}}})
}

// otlpRecordOf is a line as a log record: the line itself, from which the log can be checked, and what one searches for. Texts of the
// command are as people get to see them, since an interface shows them somewhere.
func otlpRecordOf(e Event, line string) otlpRecord {
	number, text := otlpSeverity(e)
	r := otlpRecord{
		Time: otlpTime(e.Time), Observed: otlpTime(e.Time), Severity: number, Text: text, Body: otlpString(line),
		Attributes: []otlpAttribute{{"agentjail.seq", otlpInt(e.Seq)}},
	}
	for _, a := range []struct{ key, value string }{
		{"agentjail.class", string(e.Class)}, {"agentjail.action", e.Action}, {"agentjail.decision", string(e.Decision)},
		{"agentjail.target", e.Target}, {"agentjail.rule", e.Rule}, {"agentjail.reason", e.Reason}, {"agentjail.fix", e.Fix},
		{"agentjail.severity", e.Severity}, {"agentjail.errno", e.Errno}, {"process.executable.path", e.Exe},
	} {
		if a.value != "" {
			r.Attributes = append(r.Attributes, otlpAttribute{a.key, otlpString(Printable(a.value))})
		}
	}
	if e.PID > 0 {
		r.Attributes = append(r.Attributes, otlpAttribute{"process.pid", otlpInt(e.PID)})
	}
	if e.Count > 0 {
		r.Attributes = append(r.Attributes, otlpAttribute{"agentjail.count", otlpInt(e.Count)})
	}
	return r
}

// otlpSeverity is how much an event matters, as a SeverityNumber of logs.proto and its name.
func otlpSeverity(e Event) (int, string) {
	switch syslogSeverity(e) {
	case syslogDebug:
		return 5, "DEBUG"
	case syslogWarning:
		return 13, "WARN"
	case syslogError:
		return 17, "ERROR"
	}
	return 9, "INFO"
}
