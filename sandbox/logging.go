// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// LogOptions say where the lines of a run's log go beside its file in the state directory. What is named here must be out of the
// command's reach: see Plan.Shows. A place that cannot be written ends the start, or the run,
// unless the policy has profiles.LogContinue.
type LogOptions struct {
	Files []string // regular files, made, or overwritten when the command starts
	// Stream is open for writing, and closed at the end of the run. A reader that is slow or stands still holds nothing up: lines
	// that it does not take are counted.
	Stream *os.File
	// Shared gets the lines as well, and may be a standard file of the command, but no terminal. It stays open. The command can write
	// lines there that look like the log's: a reader that must tell them apart follows prev.
	Shared *os.File
	Syslog string // the socket of a syslog daemon, such as /dev/log
	// OTLP is where an OpenTelemetry collector takes logs over HTTP, such as http://localhost:4318/v1/logs, and Header what the requests
	// have, such as an Authorization. See Plan.WithoutCollector.
	OTLP   *url.URL
	Header http.Header
}

// copies are the places as package audit knows them. published are the ports of this machine's loopback that lead into the run.
func (o LogOptions) copies(published []uint16) []audit.Copy {
	var copies []audit.Copy
	for _, path := range o.Files {
		copies = append(copies, audit.Copy{File: path})
	}
	if o.Stream != nil {
		copies = append(copies, audit.Copy{Stream: o.Stream})
	}
	if o.Shared != nil {
		copies = append(copies, audit.Copy{Shared: o.Shared})
	}
	if o.Syslog != "" {
		copies = append(copies, audit.Copy{Syslog: o.Syslog})
	}
	if o.OTLP != nil {
		copies = append(copies, audit.Copy{OTLP: &audit.Collector{URL: o.OTLP, Header: o.Header, Refuse: dialsCollector(o.OTLP.Scheme, published)}})
	}
	return copies
}

// checkStream refuses a stream that cannot be written, and one that the command has as a standard file, or may have by another name: it
// could write lines there as well.
func (o Options) checkStream() error {
	if o.Log.Stream == nil {
		return nil
	}
	name := audit.Printable(o.Log.Stream.Name())
	var log unix.Stat_t
	flags, err := unix.FcntlInt(o.Log.Stream.Fd(), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(int(o.Log.Stream.Fd()), &log)
	}
	switch {
	case err != nil:
		return requestErrorf("%s, for the log: %v", name, err)
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		return requestErrorf("%s, for the log, is open for reading alone", name)
	case (log.Mode&unix.S_IFMT == unix.S_IFREG || log.Mode&unix.S_IFMT == unix.S_IFIFO) && log.Nlink > 1:
		return requestErrorf("%s, for the log, has another name as well (a hard link), by which the command may write lines there; give the log a file of its own", name)
	}
	if o.isStandard(log) {
		return requestErrorf("%s, for the log, is a standard file of the command as well, which could write lines there; give the log a pipe or a file of its own", name)
	}
	return nil
}

// checkShared refuses a terminal, on which the command draws: lines in between would tear what it shows.
func (o Options) checkShared() error {
	f := o.Log.Shared
	if f == nil {
		return nil
	}
	name := audit.Printable(f.Name())
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	switch {
	case err != nil:
		return requestErrorf("%s, for the log: %v", name, err)
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		return requestErrorf("%s, for the log, is open for reading alone", name)
	case isTerminal(f):
		return requestErrorf("%s, for the log, is a terminal, on which the command draws, too; send it elsewhere (2>FILE), or look at the log from another terminal: agentjail log --follow", name)
	}
	return nil
}

// checkFiles refuses a file that the command has as a standard file, before it is emptied.
func (o Options) checkFiles() error {
	for _, path := range o.Log.Files {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && o.isStandard(st) {
			return requestErrorf("%s, for the log, is a standard file of the command as well, which could write lines there; give the log a file of its own",
				audit.Printable(path))
		}
	}
	return nil
}

// isStandard tells whether one of the command's standard files is the same file.
func (o Options) isStandard(file unix.Stat_t) bool {
	for _, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		var st unix.Stat_t
		if f != nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Dev == file.Dev && st.Ino == file.Ino {
			return true
		}
	}
	return false
}

// Troubles is what of the summary is about lines that the log or a copy of it lacks. It is empty where none does.
func (r Result) Troubles() string {
	var b strings.Builder
	for _, t := range r.Summary.Troubles {
		switch {
		case t.Copy == "":
			fmt.Fprintf(&b, "agentjail: the log is incomplete, %d accesses are not in it: %s\n", r.Summary.Dropped, audit.Printable(t.Error))
		case t.Error != "":
			fmt.Fprintf(&b, "agentjail: a copy of the log could not be written: %s\n", audit.Printable(t.Error))
		}
		if t.Lines > 0 {
			fmt.Fprintf(&b, "agentjail: lines of the log that did not get to %s: %d (agentjail log %s)\n", audit.Printable(t.Copy), t.Lines, r.ID)
		}
	}
	return b.String()
}
