// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// Exit codes of a run that are not the command's own.
const (
	CodeDeadline   = 124
	CodeNotStarted = 125
)

// graceTime is how long a command has between SIGTERM and SIGKILL when its deadline has come.
const graceTime = 2 * time.Second

// Signal sends a signal to the command, or to the foreground of its terminal. A SIGTSTP that stops the command stops the caller
// too, see Options.Stopped. SIGKILL ends the run also where the supervisor does not answer any more, and so does what asks the command to
// end and is not passed on to it for a while.
func (r *Run) Signal(sig unix.Signal) {
	if sig == unix.SIGTSTP {
		r.stopping.Store(true)
	}
	if ending(sig) {
		r.ends(sig)
	}
	if sig == unix.SIGKILL {
		r.kill.Do(func() { close(r.killed) })
	}
	r.conn.Send(msgSignal, int(sig))
}

// ending tells whether a signal is to end the run.
func ending(sig unix.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL:
		return true
	}
	return false
}

// ends takes note of a signal that is to end the run, and looks later whether the supervisor has passed it on.
func (r *Run) ends(sig unix.Signal) {
	r.tell.Do(func() { close(r.told) })
	number := r.sent.Add(1)
	go func() {
		for range 2 { // this process may have been stopped, too, and have read nothing meanwhile
			time.Sleep(teardownTime / 2)
			if r.taken.Load() >= number {
				return
			}
		}
		select {
		case r.untaken <- sig:
		default:
		}
	}()
}

// Wait waits for the end of the run, writes the end of its log and releases everything. It is called once.
func (r *Run) Wait() (Result, error) {
	reason := r.await()
	trace("launcher: command ended")
	r.stop()
	trace("launcher: supervisor ended")
	result := Result{ID: r.dir.id, Log: r.dir.log(), Reason: reason, Left: r.left}
	if r.end != nil {
		result.Code, result.Exec = r.end.Code, r.end.Exec
		result.Interrupted = r.terminal != nil && r.end.Signal == unix.SIGINT && reason == ""
		result.Typed = result.Interrupted && r.terminal.keys.interrupt.Load()
	}
	if r.left {
		r.log.Emit(audit.Event{Class: audit.ClassRun, Action: "run.left", Decision: audit.Report, Reason: reasonLeft})
	}
	r.sweep()
	result.Workspace = r.reportWorkspace()
	for _, c := range r.crashed {
		result.Crashed = append(result.Crashed, c.id)
	}
	switch reason {
	case reasonDeadline:
		result.Code = CodeDeadline
	case reasonSupervisor, reasonLog:
		result.Code = CodeNotStarted
	case reasonUntaken:
		result.Code = 128 + int(r.ender)
	}
	if r.broken != nil {
		result.Code = CodeNotStarted
	}
	var err error
	result.Summary, err = r.log.Close(audit.End{Status: result.Code, Reason: reason})
	if cerr := r.dir.close(); err == nil {
		err = cerr
	}
	trace("launcher: log closed")
	if err != nil {
		result.Code = CodeNotStarted
		return result, r.layered("log", err)
	}
	if r.broken != nil {
		return result, r.broken
	}
	return result, nil
}

// The reasons for which a run ends, where it is not the command's own end.
const (
	reasonDeadline   = "deadline"
	reasonSupervisor = "the supervisor died"
	reasonUntaken    = "the supervisor did not pass on a signal that was to end it"
	reasonLog        = "the log could not be written"
	reasonBroken     = "a layer failed" // run.failed says which
	reasonUnfinished = "the supervisor ended before all that it had seen was in the log"
)

// reasonLeft says what keeps a process that was killed.
const reasonLeft = "processes of the run were killed but have not ended: they wait for a file system or a device that does not answer"

// await handles what happens while the command runs, up to the end of the supervisor. It tells why that came, where the command's
// own end was not the reason.
func (r *Run) await() string {
	var deadline, kill, deaf, hopeless <-chan time.Time
	if ttl := r.plan.Limits.TTL; ttl > 0 {
		timer := time.NewTimer(ttl)
		defer timer.Stop()
		deadline = timer.C
	}
	failed, killed := r.log.Failed(), r.killed
	reason, heard := "", uint64(0)
	ticks := r.limitTicks()
	for {
		select {
		case m, ok := <-r.messages:
			if !ok && reason == "" {
				reason = r.died()
			}
			if !ok {
				r.reportLimits()
				return reason
			}
			switch r.handle(m.Kind, m.Decode); m.Kind {
			case msgOver:
				if r.end.Late && reason == "" {
					reason = r.timeIsOver()
				}
				deadline, kill, deaf, heard = nil, nil, time.After(2*teardownTime), r.heard.Load()
			case msgEnded:
				return reason
			}
		case <-deadline:
			reason = r.timeIsOver()
			r.Signal(unix.SIGTERM)
			r.Signal(unix.SIGCONT)
			kill = time.After(graceTime)
		case <-kill:
			r.Signal(unix.SIGKILL)
		case <-failed:
			reason, failed = reasonLog, nil
			r.Signal(unix.SIGKILL)
		case <-killed:
			killed, deaf = nil, time.After(teardownTime)
		case sig := <-r.untaken: // somebody has stopped the supervisor
			if reason == "" && r.end == nil && killed != nil {
				reason, r.ender = reasonUntaken, sig
				r.process.Process.Kill()
				hopeless = time.After(teardownTime)
			}
		case <-deaf: // the same, or it waits for what does not end
			if now := r.heard.Load(); r.end != nil && now != heard { // or it has much to tell
				heard, deaf = now, time.After(2*teardownTime)
				continue
			}
			r.process.Process.Kill()
			hopeless = time.After(teardownTime)
		case <-hopeless: // it waits itself
			r.left = true
			return reason
		case <-ticks:
			r.reportLimits()
		}
	}
}

// died says why the run has ended whose supervisor is gone before it said that all was done.
func (r *Run) died() string {
	switch {
	case r.broken != nil:
		return reasonBroken
	case r.end != nil:
		return reasonUnfinished
	}
	return reasonSupervisor
}

// timeIsOver records that the deadline has come.
func (r *Run) timeIsOver() string {
	r.log.Emit(audit.Event{
		Class: audit.ClassLimit, Action: "limit.ttl", Decision: audit.Deny, Target: r.plan.Limits.TTL.String(),
		Reason: "the run's time is over",
	})
	return reasonDeadline
}

// handle acts on one message of the supervisor.
func (r *Run) handle(kind string, decode func(any) error) {
	switch kind {
	case msgStopped:
		var sig unix.Signal
		decode(&sig)
		r.pause(sig)
	case msgOver:
		r.end = &endReport{}
		if decode(r.end) != nil {
			r.end.Code = CodeNotStarted
		}
		r.reportLimits()
		r.conn.Send(msgCounted, nil)
	case msgFailed:
		if r.broken != nil {
			return // what follows from the first
		}
		var f failure
		decode(&f)
		r.broken = &SetupError{Layer: f.Layer, Err: errors.New(f.Err), Fix: f.Fix}
		r.log.Emit(audit.Event{Class: audit.ClassRun, Action: "run.failed", Decision: audit.Report, Reason: f.Layer + ": " + f.Err})
	}
}

// pause does what the stop of a command asks for. One that was stopped because it wants the keys gets them, where the terminal is
// this job's. Any other stop is the whole job's, as without agentjail: the terminal is given back, the caller stops, and lets the
// command go on when it goes on itself. Without a terminal a command that stops itself stops nothing else: the deadline holds.
func (r *Run) pause(sig unix.Signal) {
	t := r.terminal
	asks := t != nil && (sig == unix.SIGTTIN || sig == unix.SIGTTOU)
	switch asked := r.stopping.Swap(false); {
	case t == nil && !asked:
		return
	case asks && t.keys.claim():
		r.conn.Send(msgContinue, true)
		return
	case !asks:
		sig = unix.SIGTSTP // whatever it was: the command has no choice
	}
	wanted := asks
	if t != nil {
		t.settle()
		wanted = wanted || t.keys.taken()
		t.keys.release()
	}
	if r.options.Stopped != nil {
		r.options.Stopped(sig)
	}
	foreground := wanted && t.keys.claim()
	if asks && !foreground {
		time.Sleep(background) // it will ask again at once, and where no shell stops this process it did not wait either
		if t.keys.gone() {
			r.Signal(unix.SIGHUP)
		}
	}
	r.conn.Send(msgContinue, foreground)
}

// limitTicks says when to look whether a limit was hit.
func (r *Run) limitTicks() <-chan time.Time {
	if r.group == nil {
		return nil
	}
	return time.Tick(time.Second)
}

// reportLimits records the limits that were hit since the last look.
func (r *Run) reportLimits() {
	if r.group == nil {
		return
	}
	for _, hit := range r.group.Hits() {
		r.log.Emit(audit.Event{
			Class: audit.ClassLimit, Action: "limit." + hit.Limit, Decision: audit.Deny, Target: hit.Limit, Count: hit.Count,
			Reason: hit.Reason, Provenance: audit.FromKernel,
		})
	}
}

// startDetail is the body of the log's first event: what this run may do, and what cannot be seen.
func (r *Run) startDetail() map[string]any {
	grants := make([]string, 0, len(r.plan.Mounts))
	for _, m := range r.plan.Mounts {
		if m.Origin != "system" && m.Origin != originPin {
			grants = append(grants, access(m)+" "+m.Target)
		}
	}
	rules := make([]string, 0, len(r.plan.Rules))
	for _, rule := range r.plan.Rules {
		rules = append(rules, rule.String())
	}
	onError := profiles.LogStop
	if r.plan.GoesOn {
		onError = profiles.LogContinue
	}
	copies := []string{}
	for _, c := range r.options.Log.copies(nil) {
		copies = append(copies, c.String())
	}
	denials := make([]string, 0, len(r.plan.Denials))
	for _, d := range r.plan.Denials {
		denials = append(denials, d.String()+because(d.Reason))
	}
	command, redacted := profiles.RedactArgs(r.plan.Command)
	detail := map[string]any{
		"version": Version(), "build": buildID(), "kernel": kernelRelease(), "copies": copies, "log_on_error": onError,
		"policy": r.plan.Policy, "command": command, "workdir": r.plan.Workdir, "identity": r.plan.Identity,
		"grants": grants, "network": rules, "denials": denials, "loopback": r.plan.Loopback, "publish": r.plan.Publish, "sockets": r.plan.Sockets(),
		"upstream": r.plan.Proxies, "proxy": r.plan.Proxy, "syscalls": r.plan.Syscalls,
		"limits": r.plan.Limits, "quota": r.plan.Quota, "withheld": r.plan.Withheld, "coverage": r.plan.Coverage,
	}
	if redacted > 0 {
		detail["redacted"] = redacted
	}
	return detail
}

// reportWithheld records what was decided before the command started: variables that look like secrets, and crashed runs.
func (r *Run) reportWithheld() {
	for _, name := range r.plan.Secrets {
		r.log.Emit(audit.Event{
			Class: audit.ClassCredential, Action: "env.withheld", Decision: audit.Deny, Target: name,
			Severity: audit.SeverityCredential, Reason: fmt.Sprintf("--env %s lets it in", name), Provenance: audit.FromResolved,
		})
	}
	for _, c := range r.crashed {
		r.log.Emit(audit.Event{
			Class: audit.ClassRun, Action: "run.crashed", Decision: audit.Report, Target: c.id,
			Reason: "the launcher of this earlier run was killed before it had cleaned up; agentjail verify tells whether its log is whole",
		})
	}
}

func detail(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		return nil // maps of plain values always encode
	}
	return data
}
