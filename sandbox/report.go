// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/workspace"
)

// watchPlaces takes hold of the places that the command may write, before it starts, for the report of what it left there.
func (r *Run) watchPlaces() error {
	watch, err := workspace.Open(r.plan.Protected.Places, r.plan.Protected.Names, workspace.DefaultBounds)
	if err != nil {
		return r.layered("workspace report", err)
	}
	r.watch = watch
	r.plan.Coverage = slices.Clone(r.plan.Coverage)
	for _, doubt := range watch.Doubts() {
		r.plan.Coverage = append(r.plan.Coverage, "the workspace report may miss changes in "+doubt)
	}
	return nil
}

// reportBefore records what led out of the places before the run.
func (r *Run) reportBefore(findings []workspace.Finding) {
	for _, f := range findings {
		r.log.Emit(workspaceEvent(f))
	}
}

// reportWorkspace records what the run left, when all of its processes are gone, and returns what of it was not there before.
func (r *Run) reportWorkspace() []audit.Finding {
	findings := r.findings()
	if r.left {
		findings = append(findings, workspace.Finding{Kind: workspace.Unread, Reason: reasonLeft + ", and can go on changing files when it does"})
	}
	var left []audit.Finding
	for _, f := range findings {
		r.log.Emit(workspaceEvent(f))
		if !f.Before {
			left = append(left, audit.Finding{Action: string(f.Kind), Target: f.Path, Reason: f.Reason, Count: f.Count})
		}
	}
	return left
}

// findings waits for the report as long as it may take, and then some: a place may lie on a file system that does not answer, and
// what waits for that is left behind.
func (r *Run) findings() []workspace.Finding {
	done := make(chan []workspace.Finding, 1)
	go func() {
		done <- r.watch.Report()
		r.watch.Close()
	}()
	select {
	case findings := <-done:
		return findings
	case <-time.After(workspace.DefaultBounds.Time + teardownTime):
		return []workspace.Finding{{Kind: workspace.Unread, Reason: "nothing was looked at: a file system does not answer"}}
	}
}

func workspaceEvent(f workspace.Finding) audit.Event {
	return audit.Event{
		Class: audit.ClassWorkspace, Action: string(f.Kind), Decision: audit.Report, Target: f.Path, Reason: f.Reason, Count: f.Count,
		Provenance: audit.FromResolved,
	}
}

// workspaceLines is how many findings the summary names.
const workspaceLines = 5

// workspace is what of the summary is about what the run left.
func (r Result) workspace() string {
	if len(r.Workspace) == 0 {
		return ""
	}
	var order []string
	counts := map[string]uint64{}
	for _, f := range r.Workspace {
		if counts[f.Action] == 0 {
			order = append(order, f.Action)
		}
		counts[f.Action] += max(f.Count, 1)
	}
	for i, action := range order {
		order[i] = fmt.Sprintf("%d %s", counts[action], action)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "agentjail: left for programs of yours to run or follow: %s (agentjail log %s)\n", strings.Join(order, ", "), r.ID)
	for i, f := range r.Workspace {
		if i == workspaceLines {
			fmt.Fprintf(&b, "    and %d more\n", len(r.Workspace)-i)
			break
		}
		text := f.Reason
		if f.Target != "" {
			text = quotePath(f.Target)
		}
		fmt.Fprintf(&b, "    %s %s\n", f.Action, text)
	}
	return b.String()
}
