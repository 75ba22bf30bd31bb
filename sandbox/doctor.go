// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"io"
	"strings"
)

// DoctorStatus says whether this host can do what a layer of the sandbox needs.
type DoctorStatus string

// The statuses. A run is refused where one check is missing; a weaker one is good enough to run, and Detail says what for.
const (
	DoctorOK      DoctorStatus = "ok"
	DoctorWeaker  DoctorStatus = "weaker"
	DoctorMissing DoctorStatus = "missing"
)

// DoctorCheck is what was found out about one layer.
type DoctorCheck struct {
	Layer     string       `json:"layer"`
	Mechanism string       `json:"mechanism"` // what a run uses here
	Status    DoctorStatus `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Fix       string       `json:"fix,omitempty"` // what the user can do; lines that can be pasted into a shell stand alone
}

// DoctorReport is what this host can do.
type DoctorReport struct {
	Works  bool              `json:"works"`
	Checks []DoctorCheck     `json:"checks"` // in the order in which a run needs them
	Host   map[string]string `json:"host"`   // settings that bear on confinement, as they are
}

// Doctor finds out whether a run would work here. Everything that can be tried is tried, in processes of its own that end
// with it, and nothing of the host is changed. As root after sudo it tries as the user who called sudo, as a run would.
func Doctor() DoctorReport { return judge(gatherFacts()) }

// judge turns facts into checks. It is pure.
func judge(f doctorFacts) DoctorReport {
	r := DoctorReport{Works: true, Host: f.host()}
	for _, check := range []func(doctorFacts) DoctorCheck{
		checkKernel, checkUserNamespace, checkMounts, checkFiles, checkNetwork, checkProcesses, checkIdentity, checkSyscalls,
		checkLandlock, checkNested, checkLimits, checkState,
	} {
		c := check(f)
		r.Works = r.Works && c.Status != DoctorMissing
		r.Checks = append(r.Checks, c)
	}
	return r
}

// Write prints the report for people.
func (r DoctorReport) Write(w io.Writer) error {
	var b strings.Builder
	missing := 0
	told := map[string]bool{"": true}
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-8s %-16s %s\n", c.Status, c.Layer, c.Mechanism)
		if c.Detail != "" {
			fmt.Fprintf(&b, "%25s %s\n", "", strings.ReplaceAll(c.Detail, "\n", "\n"+strings.Repeat(" ", 26)))
		}
		switch {
		case !told[c.Fix]:
			fmt.Fprintf(&b, "%25s fix: %s\n", "", strings.ReplaceAll(c.Fix, "\n", "\n"+strings.Repeat(" ", 31)))
		case c.Fix != "":
			fmt.Fprintf(&b, "%25s fix: as above\n", "")
		}
		told[c.Fix] = true
		if c.Status == DoctorMissing && c.Detail != notTried {
			missing++
		}
	}
	switch {
	case r.Works:
		b.WriteString("agentjail run works here.\n")
	case missing <= 1:
		b.WriteString("agentjail run cannot work here: 1 thing is missing.\n")
	default:
		fmt.Fprintf(&b, "agentjail run cannot work here: %d things are missing.\n", missing)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
