// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
)

// exitLog is the exit code of log where it could not show a log, or not all of it.
const exitLog = 1

// logCommand shows the events of a run.
func logCommand() *cli.Command {
	return &cli.Command{
		Name:      "log",
		Usage:     "show what a run did and what it was denied",
		ArgsUsage: "[RUN | FILE]",
		Description: "Shows the newest run where none is named. RUN may be shortened as long as it is unique.\n" +
			"What could harm a terminal, or make a line look like another, is escaped.",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the run ends"},
			&cli.BoolFlag{Name: "json", Usage: "the lines of the log themselves"},
			&cli.BoolFlag{Name: "list", Usage: "list the runs instead"},
		),
		Action: func(c *cli.Context) error {
			name, err := oneArgument(c)
			if err == nil {
				err = emptyFlag(c)
			}
			if err == nil {
				err = logAction(c, name)
			}
			if err != nil {
				return cli.Exit(err, exitLog)
			}
			return nil
		},
	}
}

// logAction lists the runs, or shows the log of one.
func logAction(c *cli.Context, name string) error {
	filter, err := newFilter(c, time.Now())
	switch {
	case err != nil:
		return err
	case !c.Bool("list"):
		return showLog(c, name, filter)
	case name != "":
		return fmt.Errorf("--list lists all runs, and %q is one: leave one of the two out", name)
	case c.Bool("follow") || !filter.anything():
		return errors.New("--list lists runs, and the other flags choose events of one: --json alone goes with it")
	}
	return printRuns(c.App.Writer, c.Bool("json"))
}

func showLog(c *cli.Context, name string, filter eventFilter) error {
	f, err := openLog(name)
	if err != nil {
		return err
	}
	defer f.Close()
	view := logView{
		out: bufio.NewWriter(c.App.Writer), notes: c.App.ErrWriter, later: f.Later,
		filter: filter, json: c.Bool("json"), follow: c.Bool("follow"),
	}
	if !view.follow {
		return view.show(f, f.Writing)
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	r := &followReader{log: f, ctx: ctx}
	return view.show(r, func() bool { return ctx.Err() != nil })
}

// logView prints the events of one log.
type logView struct {
	out          *bufio.Writer
	notes        io.Writer           // for what is not an event
	later        func() (int, error) // see audit.Reader
	filter       eventFilter
	json, follow bool
}

// show prints events until run.end or the end of r. goesOn tells whether a log without run.end may get one.
func (v *logView) show(r io.Reader, goesOn func() bool) error {
	shown, bad, ended := 0, false, false
	var start time.Time
	var last audit.Event
	for e, err := range audit.Scan(r) {
		var line *audit.LineError
		switch {
		case errors.As(err, &line):
			bad = true
			fmt.Fprintln(v.notes, "agentjail:", err)
			continue
		case errors.Is(err, audit.ErrCutOff):
			fmt.Fprintln(v.notes, "agentjail:", err)
			continue
		case err != nil:
			return errors.Join(err, v.out.Flush())
		}
		if last = e; start.IsZero() {
			start = e.Time
		}
		if v.filter.match(e, start) {
			v.print(e, shown == 0)
			shown++
		}
		if ended = e.Class == audit.ClassRun && e.Action == audit.ActionEnd; ended && v.follow {
			break
		}
	}
	if shown == 0 && !v.json && !v.filter.anything() {
		fmt.Fprintln(v.out, v.filter.nothing())
	}
	err := v.out.Flush()
	switch {
	case bad:
		return errors.Join(err, errors.New("the log holds lines that no run wrote; agentjail verify names the first"))
	case !ended && !goesOn():
		later, lerr := v.later()
		fmt.Fprintln(v.notes, "agentjail:", whyNoEnd(last, later))
		return errors.Join(err, lerr)
	}
	return err
}

// whyNoEnd says what is missing of a log that ends with an event other than run.end. later is a segment to which nothing leads; 0: none.
func whyNoEnd(last audit.Event, later int) string {
	text := "the log has no run.end: the run was killed, or the end of the log is missing"
	switch next := audit.NextSegment(last); {
	case next > 0:
		text = fmt.Sprintf("the log goes on in segment %d, of which there is no line: it is missing or empty, or the run was killed before it wrote there", next)
		if later > next {
			text = fmt.Sprintf("segment %d of the log is missing or empty", next)
		}
	case later > 0:
		text = "the log has no log.next here: the end of this segment is missing"
	}
	if later > 0 {
		text += fmt.Sprintf("; segment %d is there, and neither it nor what follows it is shown", later)
	}
	return text
}

func (v *logView) print(e audit.Event, first bool) {
	switch {
	case v.json:
		if line, err := e.MarshalJSON(); err == nil { // it was read from such a line
			v.out.Write(append(line, '\n'))
		}
	default:
		if first {
			fmt.Fprintf(v.out, "run %s, %s\n", audit.Printable(e.Run), e.Time.Local().Format("Monday, 2 January 2006 (MST)"))
		}
		fmt.Fprintln(v.out, logLine(e, time.Local))
	}
	if v.follow {
		v.out.Flush()
	}
}

// logLine renders an event for people. Everything in it that agentjail did not write itself is made printable.
func logLine(e audit.Event, zone *time.Location) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-6s %-23s", e.Time.In(zone).Format("15:04:05.000"), audit.Printable(string(e.Decision)), audit.Printable(actionText(e)))
	for _, part := range []string{e.Target, logProcess(e.Process), logReason(e), logMarks(e)} {
		if part != "" {
			b.WriteString("  " + audit.Printable(part))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// actionText is class and action, without the class where the action says it again.
func actionText(e audit.Event) string {
	if strings.HasPrefix(e.Action, string(e.Class)+".") {
		return e.Action
	}
	return string(e.Class) + "/" + e.Action
}

func logProcess(p audit.Process) string {
	name := filepath.Base(p.Exe)
	if p.Exe == "" {
		name = "pid"
		if len(p.Argv) > 0 {
			name = p.Argv[0]
		}
	}
	switch {
	case p.PID != 0:
		return fmt.Sprintf("%s[%d]", name, p.PID)
	case p.Exe != "":
		return name
	}
	return ""
}

// logReason is an event's reason, or what its detail says where the recorder wrote it.
func logReason(e audit.Event) string {
	if e.Traffic != nil {
		return strings.TrimSuffix(trafficText(*e.Traffic)+": "+e.Reason, ": ")
	}
	if e.Via != "" && e.Decision == audit.Allow {
		return e.Reason + " (by the proxy " + e.Via + ")"
	}
	if e.Fix != "" {
		return e.Reason + "; to allow it: " + e.Fix
	}
	if e.Class != audit.ClassRun {
		return e.Reason
	}
	var d struct {
		Command []string
		Status  int
		Counts  audit.Counts
		Dropped json.RawMessage
		Segment int
	}
	if json.Unmarshal(e.Detail, &d) != nil {
		return e.Reason
	}
	switch e.Action {
	case audit.ActionStart:
		return strings.Join(d.Command, " ")
	case audit.ActionDropped, audit.ActionFailed:
		return e.Reason + " " + string(d.Dropped)
	case audit.ActionNext:
		return fmt.Sprintf("goes on in segment %d", d.Segment)
	case audit.ActionSegment:
		return fmt.Sprintf("segment %d", d.Segment)
	case audit.ActionEnd:
		var denied, allowed uint64
		for _, counts := range d.Counts {
			denied += counts[audit.Deny]
			allowed += counts[audit.Allow]
		}
		text := fmt.Sprintf("status %d, %d denied, %d allowed, %s dropped", d.Status, denied, allowed, d.Dropped)
		if e.Reason != "" {
			text += ": " + e.Reason
		}
		return text
	}
	return e.Reason
}

// logMarks are what else a reader must know of a line.
func logMarks(e audit.Event) string {
	var marks []string
	if e.Severity != "" {
		marks = append(marks, e.Severity)
	}
	if e.Count > 1 {
		marks = append(marks, fmt.Sprintf("%d times", e.Count))
	}
	if e.Provenance == audit.FromClaimed {
		marks = append(marks, "as the process claims")
	}
	if e.Ended {
		marks = append(marks, "killed while it waited for the answer")
	}
	if e.Unread {
		marks = append(marks, "arguments not read in time")
	}
	if e.Redacted > 0 {
		marks = append(marks, "arguments without what looks like a secret")
	}
	if len(e.Truncated) > 0 {
		marks = append(marks, "cut: "+strings.Join(e.Truncated, " "))
	}
	if len(marks) == 0 {
		return ""
	}
	return "(" + strings.Join(marks, ", ") + ")"
}

// followPause is how long followReader waits between two looks at the end of the file.
const followPause = 100 * time.Millisecond

// followReader reads a log that is being written, up to the end of its writer or of ctx.
type followReader struct {
	log followed
	ctx context.Context
}

// followed is an audit.Reader, or what a test has in the place of one.
type followed interface {
	io.Reader
	Name() string
	Writing() bool
}

func (r *followReader) Read(p []byte) (int, error) {
	for {
		// Asked before reading: what was written last is read after the writer is gone. And it is gone from the segments before the last.
		alive, segment := r.log.Writing(), r.log.Name()
		n, err := r.log.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) || !alive && segment == r.log.Name() {
			return n, err
		}
		select {
		case <-r.ctx.Done():
			return 0, io.EOF
		case <-time.After(followPause):
		}
	}
}

// runLine is a run in the list of runs.
type runLine struct {
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
	State   string    `json:"state"` // running, ended, or killed
	Status  *int      `json:"status,omitempty"`
	Denied  *uint64   `json:"denied,omitempty"`
	Command string    `json:"command,omitempty"`
	Log     string    `json:"log"`
}

// printRuns lists the runs, newest last.
func printRuns(w io.Writer, asJSON bool) error {
	runs, err := listRuns()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "RUN\tSTARTED\tSTATE\tDENIED\tCOMMAND")
	}
	for _, run := range runs {
		line, err := describeRun(run)
		if err != nil {
			line.State = "unreadable"
		}
		if asJSON {
			if err := json.NewEncoder(w).Encode(line); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(table, line.columns())
	}
	return table.Flush()
}

func (l runLine) columns() string {
	state, denied, started := l.State, "-", "-"
	if l.Status != nil {
		state = fmt.Sprintf("%s %d", l.State, *l.Status)
	}
	if l.Denied != nil {
		denied = fmt.Sprint(*l.Denied)
	}
	if !l.Started.IsZero() {
		started = l.Started.Local().Format(time.DateTime)
	}
	return strings.Join([]string{l.Run, started, state, denied, l.Command}, "\t")
}

// describeRun reads the two ends of a log.
func describeRun(run loggedRun) (runLine, error) {
	line := runLine{Run: run.ID, Log: run.Path}
	f, err := os.Open(run.Path)
	if err != nil {
		return line, err
	}
	writing := audit.Writing(f)
	f.Close()
	first, last, err := audit.Ends(run.Path)
	if err != nil {
		return line, err
	}
	line.Started, line.Command = first.Time, audit.Printable(logReason(first))
	switch {
	case last.Action == audit.ActionEnd:
		line.State = "ended"
		line.end(last)
	case writing:
		line.State = "running"
	default:
		line.State = "killed"
	}
	return line, nil
}

func (l *runLine) end(last audit.Event) {
	var d struct {
		Status int
		Counts audit.Counts
	}
	if json.Unmarshal(last.Detail, &d) != nil {
		return
	}
	var denied uint64
	for _, counts := range d.Counts {
		denied += counts[audit.Deny]
	}
	l.Status, l.Denied = &d.Status, &denied
}
