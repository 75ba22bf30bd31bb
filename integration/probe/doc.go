// SPDX-License-Identifier: Apache-2.0

// Command probe is what the black-box tests run inside the jail, and around it. It does one thing that no ordinary tool
// does, and prints what the kernel answered; the script decides whether that was right.
//
//	probe calls NAME[:ARG,...]...   invoke system calls with arguments that cannot succeed, print "NAME ERRNO"
//	probe sweep                     try every socket family, type and protocol, print those that open
//	probe matrix                    enter every number of a system call of amd64, print "NUMBER ERRNO"
//	probe x32 | int80               enter the kernel by the other ABIs of amd64
//	probe tiocsti                   push a byte into each terminal that it can reach
//	probe fds | ns | sockets        list its own files, its namespaces, the sockets it sees
//	probe dial NETWORK ADDR [TEXT]  connect, send TEXT, print the first line of the answer
//	probe get URL                   print what a web server answers, as a Go program finds its certificates
//	probe grpc URL MESSAGE...       send each message after the answer to the one before, print the answers and the status
//	probe dgram PATH                send a datagram to a Unix socket without connecting
//	probe listen NETWORK ADDR       accept one connection, print what it sends
//	probe storm PATH N              open a file to write N times, in four threads of a Go program under signals, print "N ERRNO"
//	probe fork N                    make N children that wait, print how many the kernel allowed
//	probe filter NAME=ERRNO,... -- COMMAND   run a command under a seccomp filter that refuses the named calls;
//	                                         with SUCCESS for an errno they are not made and say that they were
//	probe hold -- COMMAND           run a command that inherits the files 3 to 200
//	probe children PID              list the processes whose parent is PID
//	probe reap [-kill WHO -after D] -- COMMAND   run a command, see that no process outlives it
//	probe capture -- COMMAND        run a command on a network of its own, print what was sent there instead of its output
//	probe userns0 -- COMMAND        run a command in a user namespace that allows no further one
//	probe chromium PATH             do what Chromium's sandbox does, print what such a process reaches: a socket at PATH among it
//	probe cover FILE -- COMMAND     run a command for which FILE is an empty one that cannot be opened
//	probe layers DIR -- COMMAND     run a command that has an overlayfs of DIR and a tmpfs at DIR
//	probe disk [-free BYTES] DIR -- COMMAND   run a command that has a file system at DIR with so much room left
//
// Calls are probed with invalid arguments, never with an exploit: unfiltered, the kernel answers EBADF, EFAULT or EINVAL.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

var verbs = map[string]func(args []string) error{
	"calls": calls, "sweep": sweep, "x32": x32, "int80": int80, "matrix": matrix, "tiocsti": tiocsti,
	"fds": fds, "ns": namespaces, "sockets": sockets,
	"dial": dial, "get": get, "grpc": grpc, "dgram": dgram, "listen": listen,
	"storm": storm, "fork": forks, "filter": filter, "hold": hold, "children": printChildren, "reap": reap, "userns0": userns0, "capture": capture, "chromium": chromium, "cover": cover, "layers": layers, "disk": disk,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		names := make([]string, 0, len(verbs))
		for name := range verbs {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: probe %s\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// afterDashes splits arguments at "--".
func afterDashes(args []string) (before, command []string, err error) {
	for i, a := range args {
		if a == "--" && i+1 < len(args) {
			return args[:i], args[i+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("no command after --")
}
