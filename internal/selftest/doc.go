// SPDX-License-Identifier: Apache-2.0

// Package selftest tries what a jail must not let happen, from inside of one, and says of each try whether the jail held.
//
// It has two halves. Run is the one inside: it makes the tries of a table and reports each in a line. It needs no program or file of the
// place where it runs. Bait is the one on the host: it puts out what the tries go for (a file, listening sockets, a
// variable), notes what was reached, and reads the report.
//
// A try asks for what cannot succeed wherever the kernel's answer tells enough, such as a system call with a descriptor that is none:
// EBADF says that the call reached the kernel, EPERM that it did not. Where nothing holds it back, a try that does succeed leaves
// nothing behind that outlives its process.
//
// The report comes from inside, so it is bounded and read strictly: a try that is not reported, or not as it must be, is not taken for one
// that held. It is no proof against a program inside that lies, since the tries run before any other program has. What the
// tries go for is public; a jail that holds against them can still have other gaps.
package selftest
