// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// psCommand lists the runs that go on.
func psCommand() *cli.Command {
	return &cli.Command{
		Name:  "ps",
		Usage: "list the runs that go on",
		Description: "Lists the runs of the user who calls it, oldest first; under sudo those of the user who called sudo.\n" +
			"PID is the process that the run ends with. What a run was denied so far: agentjail log RUN --denied.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each run"}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("ps takes no arguments, but got %q", c.Args().First())
			}
			runs, err := liveRuns(c.App.ErrWriter)
			if err != nil {
				return err
			}
			return printLive(c.App.Writer, runs, time.Now(), c.Bool("json"))
		},
	}
}

// liveRun is a run that goes on. What the caller of the run chose is printable, and no more than that.
type liveRun struct {
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
	Seconds int64     `json:"seconds"` // since then
	PID     int       `json:"pid"`     // of its launcher
	Profile string    `json:"profile"`
	Workdir string    `json:"workdir"`
	Command []string  `json:"command"`
}

// liveRuns returns the runs of the state directory that go on, oldest first. Of one that cannot be told it notes why.
func liveRuns(notes io.Writer) ([]liveRun, error) {
	logged, err := listRuns()
	if err != nil {
		return nil, err
	}
	var live []liveRun
	for _, run := range logged {
		launcher, err := sandbox.FindLauncher(stateDir(), run.ID)
		if errors.Is(err, sandbox.ErrNotLive) {
			continue
		}
		if err != nil {
			fmt.Fprintf(notes, "agentjail: not listed: run %s: %s\n", run.ID, errorText(err.Error()))
			continue
		}
		launcher.Close()
		live = append(live, describeLive(run, launcher.PID))
	}
	return live, nil
}

// describeLive reads the first event of a run's log. What cannot be read is left out: the run is there all the same.
func describeLive(run loggedRun, pid int) liveRun {
	live := liveRun{Run: run.ID, PID: pid}
	first, _, err := audit.Ends(run.Path)
	var d struct {
		Policy  struct{ Name string }
		Workdir string
		Command []string
	}
	if err != nil || json.Unmarshal(first.Detail, &d) != nil {
		return live
	}
	live.Started, live.Profile, live.Workdir = first.Time, audit.Printable(d.Policy.Name), audit.Printable(d.Workdir)
	for _, arg := range d.Command {
		live.Command = append(live.Command, audit.Printable(arg))
	}
	return live
}

// printLive prints runs as a table, or one JSON object a line.
func printLive(w io.Writer, runs []liveRun, now time.Time, asJSON bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "RUN\tSTARTED\tAGE\tPID\tPROFILE\tDIRECTORY\tCOMMAND")
	}
	for _, run := range runs {
		age := max(0, now.Sub(run.Started).Truncate(time.Second))
		run.Seconds = int64(age / time.Second)
		if !asJSON {
			fmt.Fprintln(table, run.columns(age))
			continue
		}
		if err := json.NewEncoder(w).Encode(run); err != nil {
			return err
		}
	}
	return table.Flush()
}

func (r liveRun) columns(age time.Duration) string {
	words := []string{r.Run, "-", "-", strconv.Itoa(r.PID), "-", "-", "-"}
	if !r.Started.IsZero() {
		words[1], words[2] = r.Started.Local().Format(time.DateTime), age.String()
		words[4], words[5], words[6] = r.Profile, quoteWords(r.Workdir), quoteWords(r.Command...)
	}
	return strings.Join(words, "\t")
}

// quoteWords joins printable words so that each can be told from the next.
func quoteWords(words ...string) string {
	out := make([]string, len(words))
	for i, word := range words {
		if out[i] = word; word == "" || strings.ContainsAny(word, ` "`) {
			out[i] = `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
		}
	}
	return strings.Join(out, " ")
}
