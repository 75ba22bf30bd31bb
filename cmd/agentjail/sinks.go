// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox"
)

// logFlags say where the log goes beside its file. There are no keys of a policy for them: a repository must not choose where the
// record of what is done to it goes.
func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log", Usage: "also write the events to `FILE`"},
		&cli.IntFlag{Name: "log-fd", Usage: "also write the events to the open file `N` (3 or more)"},
		&cli.BoolFlag{Name: "log-stderr", Usage: "also write the events to standard error, between what the command writes there"},
		&cli.StringFlag{Name: "log-syslog", Usage: "also send the events to the syslog daemon at `SOCKET`, such as /dev/log"},
		&cli.StringFlag{Name: "log-otlp", Usage: "also send the events to the OpenTelemetry collector at `URL`, such as http://localhost:4318"},
	}
}

// logOptions are what those flags ask for. What they name must lie where the command cannot write.
func logOptions(c *cli.Context, plan sandbox.Plan) (o sandbox.LogOptions, err error) {
	if file := c.String("log"); file != "" {
		path, err := outside("--log", file, plan)
		if err != nil {
			return o, err
		}
		o.Files = []string{path}
	}
	if c.IsSet("log-fd") {
		if o.Stream, err = logStream(c.Int("log-fd"), plan); err != nil {
			return o, err
		}
	}
	if c.Bool("log-stderr") {
		o.Shared = os.Stderr
	}
	if socket := c.String("log-syslog"); socket != "" {
		if o.Syslog, err = outside("--log-syslog", socket, plan); err != nil {
			return o, err
		}
		if granted := sameSocket(o.Syslog, plan.Sockets()); granted != "" {
			return o, fmt.Errorf("--log-syslog %s is the socket %s, which the policy lets the command connect to: it could send lines there as well; leave one of the two out",
				strconv.Quote(socket), strconv.Quote(granted))
		}
	}
	if text := c.String("log-otlp"); text != "" {
		if o.OTLP, err = collectorURL(text); err != nil {
			return o, err
		}
		o.Header, err = collectorHeader(os.LookupEnv)
	}
	return o, err
}

// sameSocket is the one of the sockets that path leads to, whatever it is called, or "".
func sameSocket(path string, sockets []string) string {
	own, err := os.Stat(path)
	if err != nil {
		return "" // what is not there fails when it is opened
	}
	for _, socket := range sockets {
		if other, err := os.Stat(socket); err == nil && os.SameFile(own, other) {
			return socket
		}
	}
	return ""
}

// outside is the path that a flag names, which must lie where the command cannot write.
func outside(name, file string, plan sandbox.Plan) (string, error) {
	full, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if link := plan.OwnLink(filepath.Dir(full)); link != "" {
		return "", fmt.Errorf("%s %s leads through %s, a symbolic link where the command may write; name where it leads", name, strconv.Quote(file), strconv.Quote(link))
	}
	if plan.Shows(dir) {
		return "", fmt.Errorf("%s %s lies inside what the command may see; name a file outside of it", name, strconv.Quote(file))
	}
	if plan.Keeps(dir) {
		return "", fmt.Errorf("%s %s lies in agentjail's own state, where every run has its log; name a file outside of it", name, strconv.Quote(file))
	}
	return filepath.Join(dir, filepath.Base(full)), nil
}

// logStream takes over a file that the caller has opened, and keeps it from every process that is started from here on.
func logStream(fd int, plan sandbox.Plan) (*os.File, error) {
	name := "fd " + strconv.Itoa(fd)
	if fd <= unix.Stderr {
		return nil, fmt.Errorf("--log-fd %d is a standard file, which the command has as well; open another: --log-fd 3 3>FILE", fd)
	}
	// What the caller gave is open across execve(2); what this process has opened itself is not.
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if errors.Is(err, unix.EBADF) || err == nil && flags&unix.FD_CLOEXEC != 0 {
		return nil, fmt.Errorf("--log-fd %d: the caller has opened no such file; in a shell: agentjail run --log-fd %d ... %d>FILE (sudo closes it: use its -C)", fd, fd, fd)
	}
	if err != nil {
		return nil, fmt.Errorf("--log-fd %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	// Pipes and sockets have no path but a name like pipe:[7].
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err == nil && filepath.IsAbs(path) && (plan.Shows(path) || plan.Keeps(filepath.Dir(path))) {
		return nil, fmt.Errorf("--log-fd %d is %s, which lies inside what the command may see, or in agentjail's own state; open a file outside of it",
			fd, strconv.Quote(strings.TrimSuffix(path, " (deleted)")))
	}
	return os.NewFile(uintptr(fd), name), nil
}
