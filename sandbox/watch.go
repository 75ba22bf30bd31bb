// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
)

// watch lets the command go, passes signals on and waits for the end.
func (s *supervisor) watch() error {
	counted := make(chan struct{})
	go s.obey(counted)
	over := make(chan struct{})
	defer close(over)
	if len(s.filter.Namespaces()) == 0 { // a command that makes its own is held to others
		go s.holds(over)
	}
	late := s.endLate()
	// A command can be stopped before it is executed, and then waits to go on.
	executed := make(chan error, 1)
	go func() { executed <- s.stage.Go() }()
	status, err := s.stage.Wait(s.stopped)
	if err != nil {
		return setupError("stage", err)
	}
	end := endReport{Code: status.ExitCode(), Signal: status.Signal}
	var failed *stage.Error
	switch err := <-executed; {
	case errors.As(err, &failed) && failed.Step == stage.StepExec:
		end = endReport{Code: failed.ExitCode(), Exec: failed.Error()}
	case err != nil:
		return setupError("stage", err)
	}
	end.Late = late != nil && !late.Stop()
	trace("supervisor: command ended")
	s.conn.Send(msgOver, end)
	if s.order.Group.Name != "" {
		<-counted // systemd removes a scope after its last process, and what it has counted with it
	}
	s.process.Signal(unix.SIGKILL)
	s.process.Wait() // its pid namespace is empty then
	s.jail = nil     // what libcontainer keeps lies in a tmpfs of this mount namespace
	s.teardown()
	trace("supervisor: torn down")
	s.sink.flush()
	return s.conn.Send(msgEnded, nil)
}

// postureTime is how often the posture of the command's process is compared while it runs.
const postureTime = 10 * time.Second

// holds compares what the command's process is with what it is to be as long as it runs. Nothing that a command may do changes any of it, so
// that a difference ends the run. What cannot be read is not compared, such as that of a process that ends just then. It takes a hundredth
// of the time at most, however many threads there are.
func (s *supervisor) holds(over <-chan struct{}) {
	process, err := unix.PidfdOpen(s.command, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(process)
	for pause := postureTime; ; {
		select {
		case <-over:
			return
		case <-time.After(pause):
		}
		began := time.Now()
		got, err := posture.ReadRunning(s.command)
		pause = max(postureTime, 100*time.Since(began))
		if err != nil || ended(process, 0) {
			continue
		}
		if differences := posture.Compare(s.want, got); len(differences) > 0 {
			err := fmt.Errorf("the command does not run as planned any more: %v", differences)
			s.conn.Send(msgFailed, asFailure(setupError("posture", err)))
			s.process.Signal(unix.SIGKILL)
			return
		}
	}
}

// endLate ends the command when the launcher should have done so at its deadline, and could not: a command that stops itself on a
// terminal stops the launcher too, as Ctrl-Z does, and what it has in the background goes on.
func (s *supervisor) endLate() *time.Timer {
	ttl := s.order.Plan.Limits.TTL
	if ttl == 0 {
		return nil
	}
	return time.AfterFunc(ttl+graceTime+time.Second, func() { s.stage.Signal(unix.SIGKILL) })
}

// stopped tells the launcher of a command that was stopped.
func (s *supervisor) stopped(e stage.Event) {
	if e.Kind == stage.Stopped {
		s.conn.Send(msgStopped, int(e.Signal))
	}
}

// obey carries out what the launcher asks for while the command runs. It closes counted when the launcher has counted what hit a
// limit, or never will.
func (s *supervisor) obey(counted chan struct{}) {
	once := sync.OnceFunc(func() { close(counted) })
	defer once()
	for {
		m, err := s.conn.Recv()
		if err != nil {
			return
		}
		var number int
		var foreground bool
		switch {
		case m.Kind == msgCounted:
			once()
		case m.Kind == msgSignal && m.Decode(&number) == nil:
			s.stage.Signal(unix.Signal(number))
			if ending(unix.Signal(number)) {
				s.conn.Send(msgTaken, nil)
			}
		case m.Kind == msgContinue && m.Decode(&foreground) == nil:
			s.stage.Continue(foreground)
		default:
			m.Close()
			return
		}
	}
}

// teardown ends what is left. The pid namespace dies with pid 1.
func (s *supervisor) teardown() {
	if s.jail != nil {
		s.jail.Signal(unix.SIGKILL)
		s.jail.Destroy()
	}
	if s.stage != nil {
		s.stage.Close()
	}
	if s.guard != nil {
		s.guard.Close()
		for _, e := range s.order.Plan.unpublishedEvents(s.guard.Unvisited()) {
			s.sink.Emit(e)
		}
	}
	if s.gateway != nil {
		s.gateway.Close()
	}
	if s.network != nil {
		s.network.Close()
		s.sink.lost(audit.ClassNet, s.network.Lost)
	}
}
