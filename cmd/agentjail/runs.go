// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// loggedRun is a run that has a log.
type loggedRun struct {
	ID   string
	Path string // of the log
}

// noRunError says that no run has a log here, or none of that name.
type noRunError struct{ name, dir string }

func (e *noRunError) Error() string {
	if e.name == "" {
		return "no run has a log below " + audit.Printable(e.dir)
	}
	return fmt.Sprintf("no run whose id starts with %q has a log below %s (agentjail log --list shows the runs)", e.name, audit.Printable(e.dir))
}

// ambiguousRunError says that a shortened run id means several runs.
type ambiguousRunError struct {
	name string
	runs []loggedRun
}

func (e *ambiguousRunError) Error() string {
	var shown []string
	for _, r := range e.runs[:min(len(e.runs), 5)] {
		shown = append(shown, r.ID)
	}
	return fmt.Sprintf("%q is the start of %d run ids: %s", e.name, len(e.runs), strings.Join(shown, ", "))
}

// stateDir is where the caller's runs keep their logs: of the user who called sudo, where one did.
func stateDir() string {
	home := os.Getenv("HOME")
	if uid, _, ok := sandbox.Sudo(); ok {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			home = u.HomeDir
		}
	}
	return sandbox.StateDir(home)
}

// listRuns returns the runs that have a log, oldest first: run ids are ULIDs, which sort by time.
func listRuns() ([]loggedRun, error) {
	dir := filepath.Join(stateDir(), "runs")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var runs []loggedRun
	for _, e := range entries {
		path := filepath.Join(dir, e.Name(), "events.jsonl")
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
			runs = append(runs, loggedRun{e.Name(), path})
		}
	}
	return runs, nil
}

// findRun finds a run by its id or the start of it; the newest where name is empty.
func findRun(name string) (loggedRun, error) {
	runs, err := listRuns()
	if err != nil {
		return loggedRun{}, err
	}
	missing := &noRunError{name, filepath.Join(stateDir(), "runs")}
	if name == "" {
		if len(runs) == 0 {
			return loggedRun{}, missing
		}
		return runs[len(runs)-1], nil
	}
	prefix := strings.ToUpper(name)
	found := slices.DeleteFunc(runs, func(r loggedRun) bool { return !strings.HasPrefix(r.ID, prefix) })
	switch len(found) {
	case 0:
		return loggedRun{}, missing
	case 1:
		return found[0], nil
	}
	return loggedRun{}, &ambiguousRunError{name, found}
}

// namesFile tells the name of a file from that of a run, which has neither a slash nor a dot.
func namesFile(name string) bool { return strings.ContainsAny(name, "/.") }

// openLog opens the log of a run, or a file.
func openLog(name string) (*audit.Reader, error) {
	if !namesFile(name) {
		run, err := findRun(name)
		if err != nil {
			return nil, err
		}
		name = run.Path
	}
	return audit.OpenReader(name)
}

// argumentsAround returns a verb's arguments, and sets the flags that stand after the first of them: "log RUN --denied".
func argumentsAround(c *cli.Context) ([]string, error) {
	set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range c.Command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	var args []string
	rest := c.Args().Slice()
	for len(rest) > 0 {
		args, rest = append(args, rest[0]), rest[1:]
		if err := set.Parse(rest); err != nil {
			return nil, err
		}
		rest = set.Args()
	}
	var errs []error
	set.Visit(func(f *flag.Flag) {
		if list, ok := f.Value.(*cli.StringSlice); ok {
			for _, value := range list.Value() {
				errs = append(errs, c.Set(f.Name, value))
			}
			return
		}
		errs = append(errs, c.Set(f.Name, f.Value.String()))
	})
	return args, errors.Join(errs...)
}

// emptyFlag refuses the empty text as a flag's value: it comes from a variable that is not set, and must not mean the default.
func emptyFlag(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		var name, usage string
		empty := false
		switch f := f.(type) {
		case *cli.StringFlag:
			name, usage, empty = f.Name, f.Usage, c.IsSet(f.Name) && c.String(f.Name) == ""
		case *cli.StringSliceFlag:
			name, usage, empty = f.Name, f.Usage, slices.Contains(c.StringSlice(f.Name), "")
		}
		if empty {
			_, usage, _ = strings.Cut(usage, "`")
			what, _, _ := strings.Cut(usage, "`") // as the help calls it
			article := "a"
			if strings.IndexAny(what, "AEIO") == 0 {
				article = "an"
			}
			return fmt.Errorf("--%s is empty: give it %s %s, or leave it out", name, article, what)
		}
	}
	return nil
}

// oneArgument is argumentsAround for a verb that takes one argument at most.
func oneArgument(c *cli.Context) (string, error) {
	args, err := argumentsAround(c)
	if err != nil {
		return "", err
	}
	switch len(args) {
	case 0:
		return "", nil
	case 1:
		if args[0] == "" {
			return "", errors.New("the name of the run is empty: give the start of its id (agentjail log --list shows the runs)")
		}
		return args[0], nil
	}
	return "", fmt.Errorf("%s takes one run at most, not %d arguments", c.Command.Name, len(args))
}
