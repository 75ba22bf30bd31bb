// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/agentjail/agentjail/internal/audit"
)

// Verdict says what became of a try.
type Verdict string

// The verdicts. The zero Verdict is none, and means Silent.
const (
	Held       Verdict = "held"
	Leaked     Verdict = "leaked"
	Untestable Verdict = "not testable"
	Silent     Verdict = "no report" // what was to report it did not, or not as it must
)

// Result is one line of the table.
type Result struct {
	ID      string  `json:"id"`   // of the check, and what of it
	What    string  `json:"what"` // was tried
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

// Results is the table, in its own order, with each try once.
type Results []Result

// Count returns how many results have a verdict.
func (rs Results) Count(v Verdict) int {
	n := 0
	for _, r := range rs {
		if r.Verdict == v {
			n++
		}
	}
	return n
}

// Err says what leaked or was not reported; nil where neither was.
func (rs Results) Err() error {
	var errs []error
	for _, r := range rs {
		if r.Verdict != Held && r.Verdict != Untestable {
			errs = append(errs, fmt.Errorf("%s %s: %s (%s)", r.ID, r.Verdict, r.What, audit.Printable(r.Why)))
		}
	}
	if len(rs) == 0 {
		errs = append(errs, errors.New("nothing was tried"))
	}
	return errors.Join(errs...)
}

// Write prints the table and a line that counts it.
func (rs Results) Write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHECK\tTRIED\tVERDICT\tWHY")
	for _, r := range rs {
		fmt.Fprintln(table, strings.Join([]string{r.ID, r.What, string(r.Verdict), audit.Printable(r.Why)}, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	counts := fmt.Sprintf("%d held, %d leaked, %d not testable", rs.Count(Held), rs.Count(Leaked), rs.Count(Untestable))
	if n := len(rs) - rs.Count(Held) - rs.Count(Leaked) - rs.Count(Untestable); n > 0 {
		counts += fmt.Sprintf(", %d without a report", n)
	}
	_, err := fmt.Fprintln(w, counts)
	return err
}

// line is how the inside reports one try.
type line struct {
	ID      string  `json:"id"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

// Bounds of what is read of a report.
const (
	maxReport = 64 << 10
	maxWhy    = 200
)

// parse reads a report. What is not exactly one, such as a try twice, makes all of it void.
func parse(r io.Reader) (map[string]line, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxReport+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxReport {
		return nil, errors.New("the report is too long")
	}
	known := map[string]bool{}
	for _, t := range tries {
		known[t.id] = true
	}
	lines := map[string]line{}
	for text := range bytes.Lines(data) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, errors.New("the report is not JSON as it must be")
		}
		again, err := json.Marshal(l)
		_, twice := lines[l.ID]
		switch {
		case err != nil || string(again)+"\n" != string(text): // names twice, or others, or a line that is cut
			return nil, errors.New("the report is not written as it must be")
		case !known[l.ID]:
			return nil, errors.New("the report names a try that is none")
		case twice:
			return nil, fmt.Errorf("the report names %s twice", l.ID)
		case l.Verdict != Held && l.Verdict != Leaked && l.Verdict != Untestable:
			return nil, fmt.Errorf("the report has no verdict on %s", l.ID)
		case len(l.Why) > maxWhy:
			return nil, fmt.Errorf("the report says too much on %s", l.ID)
		}
		lines[l.ID] = l
	}
	return lines, nil
}
