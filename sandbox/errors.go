// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SetupError says which layer of the sandbox could not be built. Nothing was started.
type SetupError struct {
	Layer string // such as "user namespace", "mounts", "network namespace", "gateway", "filters", "log"
	Err   error
	Fix   string // what the user can do; may be empty
}

func (e *SetupError) Error() string {
	s := fmt.Sprintf("%s: %v", e.Layer, e.Err)
	if e.Fix != "" {
		s += " (" + e.Fix + ")"
	}
	return s
}

func (e *SetupError) Unwrap() error { return e.Err }

// CancelledError says that Options.Cancel ended the start.
type CancelledError struct{ Signal os.Signal }

// signal is what ended the start. KillSignal asks for what SIGKILL does.
func (e *CancelledError) signal() os.Signal {
	if e.Signal == KillSignal {
		return unix.SIGKILL
	}
	return e.Signal
}

// Code is the exit code of a start that was ended, as of a command that the signal ended.
func (e *CancelledError) Code() int {
	if s, ok := e.signal().(unix.Signal); ok {
		return 128 + int(s)
	}
	return CodeNotStarted
}

func (e *CancelledError) Error() string { return fmt.Sprintf("ended by a signal: %v", e.signal()) }

// RequestError says that what was asked for cannot be done, whatever the host.
type RequestError struct{ Msg string }

func (e *RequestError) Error() string { return e.Msg }

func requestErrorf(format string, args ...any) error {
	return &RequestError{Msg: fmt.Sprintf(format, args...)}
}
