// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// event is a line of the log, as docs/events.md describes it. It is written down here again: the log is an interface, and a
// change of it must turn a test red.
type event struct {
	Seq      uint64          `json:"seq"`
	Run      string          `json:"run"`
	Class    string          `json:"class"`
	Action   string          `json:"action"`
	Decision string          `json:"decision"`
	Target   string          `json:"target"`
	Rule     string          `json:"rule"`
	Reason   string          `json:"reason"`
	Fix      string          `json:"fix"`
	Severity string          `json:"severity"`
	Errno    string          `json:"errno"`
	PID      int             `json:"pid"`
	Exe      string          `json:"exe"`
	Ended    bool            `json:"ended"`
	Unread   bool            `json:"unread"`
	Argv     []string        `json:"argv"`
	Count    uint64          `json:"count"`
	Prov     string          `json:"provenance"`
	Detail   json.RawMessage `json:"detail"`
	Prev     string          `json:"prev"`

	hash string // of the line, which the next one must name
}

func (e event) String() string {
	return fmt.Sprintf("%d %s %s %s %q errno=%s severity=%s exe=%s count=%d %s", e.Seq, e.Decision, e.Class, e.Action,
		e.Target, e.Errno, e.Severity, e.Exe, e.Count, e.Reason)
}

// attempts is how many accesses the line stands for.
func (e event) attempts() int { return max(int(e.Count), 1) }

var errNoRun = errors.New("no run has a log")

// newestLog finds the log of the newest run below a state directory: run ids are ULIDs, which sort by time.
func newestLog(state string) (path, run string, err error) {
	entries, err := os.ReadDir(filepath.Join(state, "agentjail/runs"))
	if err != nil {
		return "", "", fmt.Errorf("%w: %v", errNoRun, err)
	}
	for _, e := range slices.Backward(entries) {
		path := filepath.Join(state, "agentjail/runs", e.Name(), "events.jsonl")
		if _, err := os.Stat(path); err == nil {
			return path, e.Name(), nil
		}
	}
	return "", "", errNoRun
}

func readLog(path string) ([]event, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for n := 2; ; n++ { // its further segments
		more, err := os.ReadFile(fmt.Sprintf("%s.%d.jsonl", strings.TrimSuffix(path, ".jsonl"), n))
		if err != nil {
			break
		}
		data = append(data, more...)
	}
	events, err := parseLog(data)
	if err == nil {
		err = linked(events)
	}
	return events, err
}

// parseLog reads the lines of a log. Each must be whole, printable ASCII, and as the published schema says.
func parseLog(data []byte) ([]event, error) {
	var events []event
	for line := range bytes.Lines(data) {
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		number := len(events) + 1
		if i := slices.IndexFunc(text, func(b byte) bool { return b < ' ' || b > '~' }); i >= 0 {
			return nil, fmt.Errorf("line %d holds byte %#x", number, text[i])
		}
		var e event
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, fmt.Errorf("line %d: %w: %q", number, err, text)
		}
		if err := checkSchema(text); err != nil {
			return nil, fmt.Errorf("line %d: %w: %s", number, err, text)
		}
		if !whole {
			return nil, fmt.Errorf("line %d has no end", number)
		}
		e.hash = fmt.Sprintf("%x", sha256.Sum256(text))
		events = append(events, e)
	}
	return events, nil
}

// newestEvents are the events of the newest run.
func newestEvents(state string) ([]event, error) {
	path, _, err := newestLog(state)
	if err != nil {
		return nil, err
	}
	return readLog(path)
}

// commandPID is the number that the newest log gives for the command of a run that goes on.
func (p place) commandPID(t *testing.T) (pid int) {
	t.Helper()
	eventually(t, "the log names the command", func() bool {
		events, _ := newestEvents(p.state) // none where the last line is half written
		for _, e := range events {
			if e.Action == "run.posture" { // a log.head can come before it
				pid = e.PID
			}
		}
		return pid != 0
	})
	return pid
}

// linked checks what every log must be, ended or not: numbered without a gap, of one run, chained, with a first event, and
// with a process for every denial that one process made.
func linked(events []event) error {
	prev := strings.Repeat("0", 2*sha256.Size)
	for i, e := range events {
		switch {
		case (i == 0) != (e.Class == "run" && e.Action == "run.start"):
			return fmt.Errorf("line %d is %v", i+1, e)
		case e.Seq != uint64(i)+1:
			return fmt.Errorf("line %d has sequence %d", i+1, e.Seq)
		case e.Run != events[0].Run:
			return fmt.Errorf("line %d is of run %s", i+1, e.Run)
		case e.Prev != prev:
			return fmt.Errorf("line %d names %s as the hash of the line before, which is %s", i+1, e.Prev, prev)
		case unattributed(e):
			return fmt.Errorf("line %d does not say who: %v", i+1, e)
		}
		prev = e.hash
	}
	return nil
}

// sound checks the last event of a run that ended against those before it.
func sound(events []event) error {
	if len(events) == 0 {
		return errors.New("the log is empty")
	}
	before, last := events[:len(events)-1], events[len(events)-1]
	if last.Class != "run" || last.Action != "run.end" {
		return fmt.Errorf("the last event is not run end: %v", last)
	}
	var end struct {
		Counts map[string]map[string]int
		Head   string
	}
	if err := json.Unmarshal(last.Detail, &end); err != nil {
		return err
	}
	counts := map[string]map[string]int{}
	for _, e := range before {
		if counts[e.Class] == nil {
			counts[e.Class] = map[string]int{}
		}
		counts[e.Class][e.Decision] += e.attempts()
	}
	if !reflect.DeepEqual(end.Counts, counts) || end.Head != last.Prev {
		return fmt.Errorf("run end says %v and head %s; the lines before it are %v with head %s", end.Counts, end.Head, counts, last.Prev)
	}
	return nil
}

// unattributed tells whether an event lacks the process that it must name. A line that stands for many accesses may be of
// several processes; what the gateway sees may come from one that is gone; what may not be read has no program, and arguments that
// could not be read in time are said to be missing.
func unattributed(e event) bool {
	ofProcess := e.Class == "file" || e.Class == "exec" || e.Class == "unix" || e.Class == "syscall"
	exe := e.Exe != "" || strings.Contains(e.Reason, "may not be read")
	return ofProcess && e.Count == 0 && !e.Ended && (e.PID == 0 || !exe || len(e.Argv) == 0 && !e.Unread)
}

// ended returns the events of the newest run at a place, which must be sound.
func (p place) ended(t *testing.T) []event {
	t.Helper()
	events, err := newestEvents(p.state)
	if err == nil {
		err = sound(events)
	}
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// wantEvent checks that the events hold one as a script line would ask for.
func wantEvent(t *testing.T, events []event, decision string, words ...string) {
	t.Helper()
	q, err := parseQuery(decision, words)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.check(events, false); err != nil {
		t.Errorf("%s %v: %v", decision, words, err)
	}
}

// query is a pattern of events, made of the words of a script line.
type query struct {
	attempts                                                         int // -1: any number but none
	decision                                                         string
	class, action, target, errno, severity, exe, reason, fix, detail *regexp.Regexp
}

func parseQuery(decision string, args []string) (query, error) {
	q := query{decision: decision}
	flags := flag.NewFlagSet("query", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&q.attempts, "n", -1, "")
	patterns := map[string]**regexp.Regexp{"errno": &q.errno, "severity": &q.severity, "exe": &q.exe, "reason": &q.reason, "fix": &q.fix, "detail": &q.detail}
	words := map[string]*string{}
	for name := range patterns {
		words[name] = flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return q, err
	}
	if flags.NArg() < 1 || flags.NArg() > 3 {
		return q, errors.New("usage: [-n N] [-errno E] [-severity S] [-exe PATTERN] [-reason PATTERN] [-fix PATTERN] [-detail PATTERN] CLASS [ACTION [TARGET]]")
	}
	for i, to := range []**regexp.Regexp{&q.class, &q.action, &q.target} {
		patterns[[]string{"class", "action", "target"}[i]] = to
		word := flags.Arg(i)
		words[[]string{"class", "action", "target"}[i]] = &word
	}
	for name, to := range patterns {
		if *words[name] == "" {
			continue
		}
		re, err := regexp.Compile("^(?:" + *words[name] + ")$")
		if err != nil {
			return q, err
		}
		*to = re
	}
	return q, nil
}

func (q query) matches(e event) bool {
	if q.decision != "" && e.Decision != q.decision {
		return false
	}
	for _, p := range []struct {
		re   *regexp.Regexp
		text string
	}{
		{q.class, e.Class}, {q.action, e.Action}, {q.target, e.Target}, {q.errno, e.Errno},
		{q.severity, e.Severity}, {q.exe, e.Exe}, {q.reason, e.Reason}, {q.fix, e.Fix}, {q.detail, string(e.Detail)},
	} {
		if p.re != nil && !p.re.MatchString(p.text) {
			return false
		}
	}
	return true
}

// check tells what is wrong with the events, nil if they are as asked for. neg asks that there is none.
func (q query) check(events []event, neg bool) error {
	found, attempts := []string{}, 0
	for _, e := range events {
		if q.matches(e) {
			found = append(found, e.String())
			attempts += e.attempts()
		}
	}
	switch {
	case neg && attempts > 0:
		return fmt.Errorf("there is such an event:\n%s", strings.Join(found, "\n"))
	case !neg && attempts == 0:
		return fmt.Errorf("no such event; the log has:\n%s", listing(events))
	case !neg && q.attempts >= 0 && attempts != q.attempts:
		return fmt.Errorf("%d attempts, not %d:\n%s", attempts, q.attempts, listing(events))
	}
	return nil
}

func listing(events []event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
