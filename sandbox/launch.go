// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
	"github.com/agentjail/agentjail/sandbox/internal/limits"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
	"github.com/agentjail/agentjail/sandbox/internal/ttyfilter"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
	"github.com/agentjail/agentjail/sandbox/internal/workspace"
)

// Options are what a run needs of its caller.
type Options struct {
	Stdin, Stdout, Stderr *os.File
	Log                   LogOptions
	// Early is a supervisor that was started before the plan was made. It may be nil.
	Early *Early
	// Cancel ends the start when a signal comes, with a CancelledError. What comes when the command runs is for Run.Signal.
	Cancel <-chan os.Signal
	// Forked is called when the supervisor has left the caller's job. A caller that handles SIGTSTP does so from here on: before, the
	// signal would stop the supervisor alone, on which the start then waits. It may be nil.
	Forked func()
	// FilterTerminal keeps from the caller's terminal what the command could make it do beyond showing text, with an event for each
	// such sequence; see package ttyfilter.
	FilterTerminal bool
	// Stopped is called when the command was stopped, with the terminal as it was before the run: by SIGTSTP (Ctrl-Z), or by
	// SIGTTIN or SIGTTOU because it wants the terminal of which the calling program is not in the foreground. It stops the
	// calling program by that signal (or not), and the command goes on when it returns.
	Stopped func(unix.Signal)
	// Before is called when the jail is built and its posture is on record, and before the command is executed: what it emits is on
	// record then, too. Its error ends the start.
	Before func(audit.Sink) error
}

// Result is how a run ended.
type Result struct {
	ID      string        `json:"id"`
	Log     string        `json:"log"`              // path of the log
	Code    int           `json:"code"`             // exit code of the command; 128+N for signal N, 124 for the deadline
	Reason  string        `json:"reason,omitempty"` // why the run ended, where the command itself was not the reason
	Exec    string        `json:"exec,omitempty"`   // why the command could not be executed; empty if it was
	Summary audit.Summary `json:"summary"`
	Crashed []string      `json:"crashed,omitempty"` // earlier runs whose launcher was killed
	Left    bool          `json:"left,omitempty"`    // killed processes have not ended: something in the kernel keeps them
	// Workspace is what the run left in the places that it could write which programs of the host would run or follow, most dangerous
	// first.
	Workspace []audit.Finding `json:"workspace,omitempty"`

	Interrupted bool `json:"-"` // SIGINT ended the command of a run on a terminal; Ctrl-C, as a rule
	Typed       bool `json:"-"` // and the key was read here, where the terminal tells none of the others of its job
}

// Run is a run that has been started.
type Run struct {
	options   Options
	plan      Plan
	dir       *runDir
	log       *audit.Recorder
	conn      *wire.Conn
	process   *exec.Cmd
	exited    chan error // of the supervisor
	files     *denyfs.FS
	served    chan struct{} // closed when nobody has the run's root any more, or no process is inside
	group     *limits.Group
	watch     *workspace.Watch // of the places that the command may write
	terminal  *terminal
	invoker   invoker
	messages  chan wire.Message
	failed    error            // of the connection
	end       *endReport       // of the command, once it has ended
	left      bool             // see Result
	broken    *SetupError      // a layer that failed while the command ran
	crashed   []crashedRun     // earlier runs that this one reports
	kept      map[string]bool  // the files of Run.guarded that were there before
	unguarded map[string]error // of which of its names that is not known
	sweeps    bool             // what is there at the end and not in guarded is removed
	told      chan struct{}    // closed when a signal came that is to end the run
	sent      atomic.Int64     // how many of those the supervisor was sent
	taken     atomic.Int64     // and how many it has passed on
	untaken   chan unix.Signal // one that it has not, in time
	ender     unix.Signal      // which ended the run for that
	once      sync.Once
	tell      sync.Once
	killed    chan struct{} // closed when SIGKILL was sent
	kill      sync.Once
	stopping  atomic.Bool   // SIGTSTP was passed on
	heard     atomic.Uint64 // events of the supervisor
	recording atomic.Bool   // the command may run: lookups are its own from here on
}

// Start builds the sandbox of a plan and starts its command. On an error nothing is left running.
func Start(plan Plan, options Options) (*Run, error) {
	r := &Run{
		options: options, plan: plan, messages: make(chan wire.Message),
		told: make(chan struct{}), killed: make(chan struct{}), untaken: make(chan unix.Signal, 1),
	}
	if err := r.start(); err != nil {
		r.abandon(err)
		return nil, err
	}
	return r, nil
}

func (r *Run) start() error {
	trace("launcher: start")
	if err := errors.Join(checkStdio(r.options), r.options.checkStream(), r.options.checkShared(), r.options.checkFiles()); err != nil {
		return err
	}
	id := ulid.Make().String()
	limited := r.limit(id)
	if err := r.becomeInvoker(); err != nil {
		return err
	}
	if err := r.begin(limited); err != nil {
		r.openLog(id) // for the refusal; where it fails as well, the first error is the one to print
		return err
	}
	trace("launcher: supervisor started")
	if r.crashed = crashedRuns(r.plan.State); len(r.crashed) > 0 {
		limits.RemoveStale(false)
	}
	if err := r.open(id); err != nil {
		return err
	}
	order := buildOrder{ID: r.dir.id, Dir: r.dir.path, Plan: r.plan, TTYs: r.options.ttys(), Slack: timerSlack()}
	order.Keys = r.options.alone() && inForeground(r.options.Stdin)
	if r.group != nil {
		order.Group = posture.Group{Name: r.group.Name(), Controllers: r.group.Controllers()}
	}
	err := r.conn.Send(msgBuild, order, r.invoker.files()...)
	r.invoker.close()
	if err != nil {
		return &SetupError{Layer: "supervisor", Err: err}
	}
	opened := make(chan error, 1)
	go func() { opened <- r.log.Start(r.startDetail()) }()
	ready, err := r.build()
	if err := errors.Join(<-opened, err); err != nil {
		return r.layered("log", err)
	}
	r.log.Emit(audit.Event{
		Class: audit.ClassRun, Action: "run.posture", Decision: audit.Report, Provenance: audit.FromKernel,
		Process: audit.Process{PID: ready.PID}, Detail: detail(map[string]any{"posture": ready.Posture, "coverage": ready.Coverage}),
	})
	r.reportWithheld()
	if r.options.Before != nil {
		if err := r.options.Before(r.log); err != nil {
			return err
		}
	}
	// No command runs without its posture on record.
	if err := r.log.Flush(); err != nil {
		return r.layered("log", err)
	}
	for _, c := range r.crashed {
		c.settle()
	}
	if r.terminal != nil {
		if err := r.terminal.begin(r.options, order.Keys); err != nil {
			return r.layered("terminal", err)
		}
	}
	r.recording.Store(true)
	if err := r.conn.Send(msgGo, nil); err != nil {
		return &SetupError{Layer: "supervisor", Err: err}
	}
	_, err = r.expect(msgStarted)
	if r.terminal != nil && err == nil {
		go r.terminal.follow(r.Signal)
	}
	if err == nil {
		r.watch.Learn(workspace.LearnAfter, r.reportBefore)
	}
	trace("launcher: command started")
	return err
}

// limit makes the run's cgroup, where a limit is asked for that needs one.
func (r *Run) limit(id string) error {
	l := r.plan.Limits
	if l.Memory == 0 && l.Pids == 0 && l.CPUs == 0 {
		return nil
	}
	group, err := limits.Create(limits.Spec{
		Memory: l.Memory, Pids: l.Pids, CPUs: l.CPUs, Run: id,
		Leaving: forInvoker(r.plan.Identity), // see becomeInvoker
	})
	if err != nil {
		return r.layered("limits", err)
	}
	r.group = group
	r.plan = r.plan.withViews(group.Views())
	return nil
}

// becomeInvoker leaves root, where this process is that for the user who called sudo.
func (r *Run) becomeInvoker() (err error) {
	r.invoker, err = becomeInvoker(r.plan.Identity)
	return r.layered("identity", err)
}

// begin starts the supervisor, where nothing that is known by now keeps the run from starting. That takes time in which what the
// supervisor will be told to build can be made ready.
func (r *Run) begin(limited error) error {
	if limited != nil {
		return limited
	}
	if r.invoker.closed != nil && !r.plan.plain() {
		return r.layered("file system root", r.invoker.closed)
	}
	if err := checkReach(r.plan); err != nil {
		return err
	}
	return r.spawn()
}

// open makes what outlives the supervisor: the run's directory, its log, and its private home.
func (r *Run) open(id string) error {
	if err := r.openLog(id); err != nil {
		return err
	}
	if r.plan.Home.Ephemeral {
		r.plan = r.plan.withHome(r.dir.home())
	}
	if err := r.dir.hold(r.plan.Home.Caches); err != nil {
		return r.layered("private home", err)
	}
	obstructed, err := r.plan.Home.furnish(r.plan.Identity.Home)
	if err != nil {
		return r.layered("private home", err)
	}
	r.plan = r.plan.withoutDirs(obstructed)
	if err := r.watchPlaces(); err != nil {
		return err
	}
	if r.plan.plain() {
		return r.before()
	}
	files, err := denyfs.New(denyfsConfig(r.plan, r.log, r.isOurs))
	r.files = files
	return r.layered("file system root", err)
}

func (r *Run) openLog(id string) error {
	dir, err := newRunDir(r.plan.State, id)
	if err != nil {
		return r.layered("log", err)
	}
	r.dir = dir
	r.log, err = audit.Open(audit.Options{
		Path: dir.log(), Copies: r.options.Log.copies(r.plan.Publish), Run: dir.id, Key: filepath.Join(r.plan.State, KeyFile), Owner: r.plan.Identity.UID,
		Continue: r.plan.GoesOn, MaxSize: r.plan.LogMaxSize, Redact: profiles.RedactArgs, Fix: r.plan.fixes(resolver()),
	})
	return r.layered("log", err)
}

func (r *Run) layered(layer string, err error) error {
	if err == nil {
		return nil
	}
	return setupError(layer, err)
}

// spawn takes the supervisor that was started early, where there is one that fits, and starts one otherwise.
func (r *Run) spawn() error {
	stdio := [3]*os.File{r.options.Stdin, r.options.Stdout, r.options.Stderr}
	e := r.options.Early
	if !e.fits(r.plan, stdio) {
		e.Close()
		var err error
		if e, err = startSupervisor(r.plan.Identity, stdio, r.plan.Proxies != "", r.plan.inspects()); err != nil {
			return &SetupError{Layer: "supervisor", Err: err}
		}
	}
	e.taken = true
	select {
	case err := <-e.started:
		if err != nil {
			e.conn.Close()
			return setupError("user namespace", err)
		}
	case sig := <-r.options.Cancel:
		go e.end()
		return &SetupError{Layer: "start", Err: &CancelledError{sig}}
	}
	if r.options.Forked != nil {
		r.options.Forked()
	}
	r.conn, r.exited, r.process = e.conn, e.exited, e.process
	go r.receive()
	return nil
}

// gatherTime is how long events of a run that has many wait for more, in the socket, where they are whatever becomes of the supervisor: to be
// woken for each costs more than to read it.
const gatherTime = 2 * time.Millisecond

// receive reads the supervisor's messages until it is gone. Events go to the log at once, or together with those that follow soon.
func (r *Run) receive() {
	defer close(r.messages)
	for gathered := time.Now(); ; {
		m, err := r.conn.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.failed = err
			}
			return
		}
		switch m.Kind {
		case msgEvent:
			r.heard.Add(1)
			var e audit.Event
			if m.Decode(&e) == nil {
				r.log.Emit(e)
			}
			if r.conn.Waits() {
				continue
			}
			if time.Since(gathered) < gatherTime {
				time.Sleep(gatherTime)
			}
			gathered = time.Now()
		case msgDropped:
			var counts map[audit.Class]uint64
			if m.Decode(&counts) == nil {
				r.log.Dropped(counts)
			}
		case msgTaken:
			r.taken.Add(1)
		default:
			r.messages <- m
		}
	}
}

// build serves the supervisor until the command is ready to go.
func (r *Run) build() (readyReport, error) {
	var ready readyReport
	for {
		m, err := r.next()
		if err != nil {
			return ready, err
		}
		switch m.Kind {
		case msgFuse:
			if len(m.Files) != 1 {
				return ready, errors.New("supervisor: no device came")
			}
			r.served = make(chan struct{})
			go func() {
				defer close(r.served)
				r.files.Serve(m.Files[0])
			}()
		case msgTerminal:
			if len(m.Files) != 1 {
				return ready, errors.New("supervisor: no terminal came")
			}
			r.terminal = newTerminal(m.Files[0], r.options)
			if r.options.FilterTerminal {
				r.terminal.filter = &ttyfilter.Filter{Dropped: r.dropped}
			}
		case msgPlace:
			if err := r.place(m); err != nil {
				return ready, err
			}
		case msgReady:
			if err := m.Decode(&ready); err != nil || !r.plan.plain() {
				return ready, err
			}
			return ready, r.follow(ready.Init)
		default:
			return ready, fmt.Errorf("supervisor: unexpected message %q", m.Kind)
		}
	}
}

func (r *Run) place(m wire.Message) error {
	var pid int
	if err := m.Decode(&pid); err != nil {
		return err
	}
	var answer placed
	if err := r.group.Add(pid); err != nil {
		answer.Refused = err.Error()
	}
	answer.Views = r.group.Views()
	return r.conn.Send(msgPlaced, answer)
}

// next returns the supervisor's next message; its failure, its death, or the word to give up is an error.
func (r *Run) next() (wire.Message, error) {
	var m wire.Message
	ok := false
	select {
	case m, ok = <-r.messages:
	case sig := <-r.options.Cancel:
		return m, &SetupError{Layer: "start", Err: &CancelledError{sig}}
	}
	if !ok {
		if r.failed != nil {
			return m, setupError("supervisor", r.failed)
		}
		return m, &SetupError{Layer: "supervisor", Err: errors.New("it ended unexpectedly")}
	}
	if m.Kind != msgFailed {
		return m, nil
	}
	var f failure
	if err := m.Decode(&f); err != nil {
		return m, err
	}
	return m, &SetupError{Layer: f.Layer, Err: errors.New(f.Err), Fix: f.Fix}
}

func (r *Run) expect(kind string) (wire.Message, error) {
	m, err := r.next()
	if err == nil && m.Kind != kind {
		err = fmt.Errorf("supervisor: unexpected message %q", m.Kind)
	}
	return m, err
}
