// SPDX-License-Identifier: Apache-2.0

// Package seccomp decides which system calls a run may make, compiles the decision to a filter, and answers the calls that
// the filter asks about.
//
// A Policy is an allow-list: a call that is on no list is refused. It is a pure value; Verdict says what becomes of one call,
// and Compile makes the program that the kernel runs (seccomp(2)), whose verdicts are the same.
//
// Nothing is refused silently, but for a clone3(2) that asks for no namespace: the C library falls back to clone(2), which has
// the same effect and is allowed. A refused call is a notification: the Supervisor records it and answers with the errno that
// the table says. Three kinds of calls are asked about though they may be allowed: those that want to write to a path, since a
// read-only mount refuses them with EROFS that nothing records; connect(2), since a read-only mount does not stop a
// connection to a host's socket that lies in it; and listen(2), by which the Supervisor learns the files of the run's own
// sockets. Of the first and the last it lets the kernel carry out what the mounts allow anyway; a connect it carries out
// itself, with arguments copied once. Where the policy has the group nested, making a namespace and a socket are asked about, too: see
// Namespace and Socket. Where the run's root does not report for itself, calls that look at a path are asked about
// as well, and only recorded: see Tree.
//
// What it refuses beyond the names: the argument filters are on the low 32 bits of arguments that the kernel truncates, so
// that high bits change nothing. clone3(2) and openat2(2), whose flags lie behind a pointer, are answered ENOSYS: callers
// fall back to calls that can be judged. Unix datagram sockets cannot be made: one could send to the path of a host's socket
// without connect(2).
//
// An attempt is one event, also where signals take its caller away while it is decided and it is made again.
//
// The process that answers is held by a filter, too: see Own.
//
// Limits: a call of a foreign architecture, or of x32, kills the process and is not recorded. The kernel asks no filter about
// uretprobe (since Linux 6.14) and uprobe (6.18), which do nothing for a process that root has not probed. A socket that the Supervisor
// connects shows its peer the Supervisor as the other end (SO_PEERCRED), which inside a run is pid 0 and the command's uid.
package seccomp
