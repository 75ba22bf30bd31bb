// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// Exit codes of stop.
const (
	exitGoesOn = 1 // it was told to end, and has not
	exitNoRun  = 2 // no live run of that name can be told to
)

// killTime is how long a launcher may take after KillSignal; see teardownTime in package sandbox, which it can need three times.
const killTime = 20 * time.Second

// stopCommand ends a run.
func stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Usage:     "end a run",
		ArgsUsage: "RUN",
		Description: "Ends a run as SIGTERM to its launcher does: the command gets the signal. What has not ended after the timeout is\n" +
			"killed. Waits for the end and says what it was. RUN may be shortened as long as no other that goes on starts so.\n" +
			"Exit codes: 0 the run has ended; 1 it has not; 2 there is no such run that goes on, or it is not yours to end.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "kill the command after `DURATION`; 0 for at once"},
		},
		Action: func(c *cli.Context) error {
			run, err := runToStop(c)
			if err != nil {
				return cli.Exit(err, exitNoRun)
			}
			launcher, err := sandbox.FindLauncher(stateDir(), run.ID)
			if err != nil {
				return cli.Exit(notStopped(run, err), exitNoRun)
			}
			defer launcher.Close()
			how, err := end(launcher, c.Duration("timeout"))
			switch {
			case errors.Is(err, fs.ErrPermission):
				return cli.Exit(notStopped(run, err), exitNoRun)
			case err != nil:
				return cli.Exit(fmt.Errorf("run %s: %w", run.ID, err), exitGoesOn)
			}
			fmt.Fprintf(c.App.Writer, "run %s %s%s\n", run.ID, endOf(run), how)
			return nil
		},
	}
}

func runToStop(c *cli.Context) (loggedRun, error) {
	name, err := oneArgument(c)
	switch {
	case err != nil:
		return loggedRun{}, err
	case name == "":
		return loggedRun{}, errors.New("which run? agentjail stop RUN (agentjail ps lists those that go on)")
	case c.Duration("timeout") < 0:
		return loggedRun{}, errors.New("--timeout is less than nothing")
	}
	run, err := findRun(name)
	var several *ambiguousRunError
	if errors.As(err, &several) {
		return onlyLive(several)
	}
	return run, err
}

// onlyLive is the one of several runs that goes on.
func onlyLive(several *ambiguousRunError) (loggedRun, error) {
	live := slices.DeleteFunc(slices.Clone(several.runs), func(r loggedRun) bool {
		launcher, err := sandbox.FindLauncher(stateDir(), r.ID)
		if err == nil {
			launcher.Close()
		}
		return errors.Is(err, sandbox.ErrNotLive)
	})
	switch len(live) {
	case 0:
		return loggedRun{}, several
	case 1:
		return live[0], nil
	}
	return loggedRun{}, &ambiguousRunError{several.name, live}
}

// notStopped says why a run that has a log cannot be told to end.
func notStopped(run loggedRun, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("run %s is another user's: that user, or root, can stop it", run.ID)
	}
	if errors.Is(err, sandbox.ErrNotLive) {
		if line, err := describeRun(run); err == nil && line.State == "ended" {
			return fmt.Errorf("run %s has ended already, with status %d", run.ID, *line.Status)
		}
	}
	return fmt.Errorf("run %s: %w", run.ID, err)
}

// stoppable is a launcher.
type stoppable interface {
	Signal(unix.Signal) error
	Wait(time.Duration) bool
}

// end ends a run: first asked, then killed by its launcher, which writes the end of the log, and at last with its launcher. It tells
// what it took beyond asking. A launcher that was stopped does nothing before it goes on.
func end(l stoppable, timeout time.Duration) (how string, err error) {
	steps := []struct {
		sig  unix.Signal
		wait time.Duration
		how  string
	}{
		{unix.SIGTERM, timeout, ""},
		{sandbox.KillSignal, killTime, fmt.Sprintf(": it was killed, since it had not ended %v after SIGTERM", timeout)},
		{unix.SIGKILL, killTime, ": its launcher did not answer and was killed, and the kernel has killed the run with it"},
	}
	if timeout == 0 {
		steps = steps[1:]
		steps[0].how = ": it was killed"
	}
	for _, step := range steps {
		if err := errors.Join(l.Signal(step.sig), l.Signal(unix.SIGCONT)); err != nil {
			return "", err
		}
		if l.Wait(step.wait) {
			return step.how, nil
		}
	}
	return "", errors.New("its launcher was killed and has not ended: something in the kernel keeps it")
}

// endOf is how a run ended, as its log has it.
func endOf(run loggedRun) string {
	_, last, err := audit.Ends(run.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "has ended, and its log is gone"
	}
	var line runLine
	if line.end(last); err != nil || last.Action != audit.ActionEnd || line.Status == nil {
		return "has ended, and its log has no end"
	}
	text := fmt.Sprintf("ended with status %d", *line.Status)
	if last.Reason != "" {
		text += " (" + audit.Printable(last.Reason) + ")"
	}
	return text
}
