// SPDX-License-Identifier: Apache-2.0

// Package integration tests the built binary as a black box, once as an ordinary user and once as root: make test runs it.
// It imports no package of the product; what it knows is the command line, the log and the kernel.
//
// testdata holds one script (testscript) for each group of checks, named by the codes of the checks: "B01-credentials". Every
// script has its own home, state, configuration and working directory, so that runs touch nothing of the user's, and every
// denial stands beside the same action where it is allowed: a denial that passes because a tool was missing proves nothing.
// The helper of the scripts that speaks to the kernel is integration/probe.
//
// Every line of every log that a test looks at is compared with docs/events.schema.json, and with the lines around it.
//
// The names and public addresses of network tests exist in a network namespace that test.sh makes; see lib.sh. Run by hand
// with go test, the package skips: it needs that set-up.
//
// Conditions for scripts: [root], [user] (who runs the suite), [testnet] (the names are there), [fuse], [limits] (a cgroup
// can be made), [tmpfs] (the script runs again without FUSE: TestWithoutFUSE), [redirect] and [ports] (without TPROXY, and
// without nftables: TestWithoutTProxy, TestWithoutNftables). Under AGENTJAIL_MUST_WORK=1 a condition that stands for a missing tool fails the test.
//
// Commands for scripts, besides those of testscript:
//
//	exits CODE COMMAND...          run a command that must end with exactly this code
//	denied [-n N] [-errno E] [-severity S] [-exe PATTERN] [-reason PATTERN] [-detail PATTERN] CLASS ACTION TARGET
//	                               the newest run's log holds such an event; each word is an anchored regular expression.
//	                               -n asks for exactly N attempts
//	allowed ..., event ...         the same for allowed accesses, and for any decision
//	log                            set $LOG to the newest run's log, $RUN to its id
//	sound                          the newest run's log is complete: its last event fits those before it
//	snapshot DIR, unchanged DIR    remember a tree of the host, compare it with what was remembered
//	seen TEXT, resolved NAME       a server of the test got this text, was asked for this name
//	trust                          write the test's certificate authority to ca.pem
//	unixserver PATH                serve a stream and a datagram (PATH.dgram) socket until the script ends
//	probe                          copy the probe into the current directory
package integration
