// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/sandbox"
)

func TestDoctorPrints(t *testing.T) {
	broken := sandbox.DoctorReport{Checks: []sandbox.DoctorCheck{
		{Layer: "files", Mechanism: "a FUSE root", Status: sandbox.DoctorMissing, Detail: "open /dev/fuse: <gone>", Fix: "modprobe fuse\nagain"},
	}}
	works := sandbox.DoctorReport{Works: true, Host: map[string]string{"release": "6.8"}}

	var out bytes.Buffer
	err := printDoctor(&out, broken, false)
	if exitCode(err) != 1 || err.Error() != "" {
		t.Errorf("a host that lacks something: %v", err)
	}
	for _, want := range []string{"missing  files", "open /dev/fuse: <gone>", "fix: modprobe fuse\n", "cannot work here: 1 thing is missing."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := printDoctor(&out, works, false); exitCode(err) != 0 || out.String() != "agentjail run works here.\n" {
		t.Errorf("%v: %q", err, out.String())
	}
	for code, report := range []sandbox.DoctorReport{works, broken} {
		out.Reset()
		err := printDoctor(&out, report, true)
		var back sandbox.DoctorReport
		if jerr := json.Unmarshal(out.Bytes(), &back); jerr != nil || exitCode(err) != code || back.Works != report.Works || len(back.Checks) != len(report.Checks) {
			t.Errorf("%v, %v: %s", err, jerr, out.String())
		}
		if strings.Contains(out.String(), `\u003c`) {
			t.Errorf("escaped for HTML: %s", out.String())
		}
	}
}

func TestDoctorTakesNoArguments(t *testing.T) {
	command := doctorCommand()
	if command.Name != "doctor" || command.Usage == "" || len(command.Flags) != 1 {
		t.Errorf("%+v", command)
	}
}
