// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// abandon ends a run that did not start, and says so in its log.
func (r *Run) abandon(cause error) {
	if r.process != nil {
		r.process.Process.Kill()
	}
	r.tell.Do(func() { close(r.told) })
	r.stop()
	if r.watch != nil {
		r.watch.Close()
	}
	code := CodeNotStarted
	var cancelled *CancelledError
	if errors.As(cause, &cancelled) {
		code = cancelled.Code()
	}
	if r.log != nil {
		r.log.Start(r.startDetail()) // where the refusal came before it
		r.log.Emit(audit.Event{Class: audit.ClassRun, Action: "run.refused", Decision: audit.Deny, Reason: cause.Error()})
		r.log.Close(audit.End{Status: code, Reason: "not started"})
	}
	if r.dir != nil {
		r.dir.close()
	}
	for _, c := range r.crashed {
		c.mark.Close()
	}
}

// stop ends all processes of the run, and releases what the launcher holds for it.
func (r *Run) stop() {
	r.once.Do(func() {
		if r.process != nil && !r.left {
			r.drain()
		}
		if r.terminal != nil {
			r.terminal.close(r.left, r.told)
		}
		if r.files != nil {
			r.files.Close()
		}
		if r.group != nil {
			r.group.Kill()
			r.group.Close()
		}
		if r.conn != nil {
			r.conn.Close()
		}
	})
}

// drain waits for the supervisor, and kills it if it takes longer than a teardown may; then for all processes inside, which a
// supervisor that was killed did not wait for: the device of their root ends with the last of them (ENODEV, fuse(4)).
func (r *Run) drain() {
	timer := time.AfterFunc(teardownTime, func() { r.process.Process.Kill() })
	defer timer.Stop()
	go func() {
		for range r.messages { // what comes after the end is nobody's
		}
	}()
	// A process that waits for a file system in user space does not end before that answers, not even when it is killed
	// (fuse(4)): neither one inside, nor a supervisor that looks at a path for it.
	select {
	case <-r.exited:
	case <-time.After(2 * teardownTime):
		r.left = true
		return
	}
	if r.served == nil {
		return
	}
	select {
	case <-r.served:
	case <-time.After(teardownTime):
		r.left = true
	}
}

// teardownTime is how long a supervisor may take to end once its run has, and then what is left inside.
const teardownTime = 5 * time.Second
