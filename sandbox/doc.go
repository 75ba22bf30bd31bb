// SPDX-License-Identifier: Apache-2.0

// Package sandbox confines a command: it probes the host, compiles a policy to a plan, and runs the plan.
//
//	host, err := sandbox.Probe(sandbox.Request{Command: argv})
//	plan, err := sandbox.Compile(policy, host)   // pure; plan.String() is what --dry-run prints
//	run, err := sandbox.Start(plan, sandbox.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
//	status, err := run.Wait()
//
// A run is a chain of processes, all of the same binary. The launcher (the caller of Start) keeps the log, the terminal and
// the limits, and serves the file system that is the run's root. The supervisor is its child in a user and a mount namespace
// of its own: it builds the tree and the network namespace, runs the gateway and answers the seccomp listener. libcontainer
// starts the stage, pid 1 of the run, and the stage starts the command. The launcher's death kills the supervisor, and the
// supervisor's death kills everything inside. See docs/protocol.md.
//
// What it refuses: to start anything when a layer that the plan asks for cannot be built. Such an error is a *SetupError,
// which names the layer and what to do. There is no option that turns a layer off. Where the FUSE device cannot be opened, the plan is
// another one, with a root that is as empty and records by other means: see Plan.WithoutFUSE.
//
// Limits: Linux 5.14 or newer (mount_setattr(2) and recursive read-only binds, openat2(2), seccomp's notification with
// addfd), amd64 or arm64. A program that embeds this package must call Main before anything else in its main function, since
// the supervisor and the stage are the program itself, started again.
package sandbox
