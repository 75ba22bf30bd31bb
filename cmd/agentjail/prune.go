// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/sandbox"
)

// pruneAge is the age of what prune removes, where it is not told.
const pruneAge = "30d"

// pruneCommand removes what earlier runs have left in the state directory.
func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "remove old logs, and caches of projects that were not used for long",
		Description: "Removes logs of runs that have ended, and caches of the private homes, unless a run has used them since; and whatever its\n" +
			"age what agentjail has left where it was killed. Live runs, private homes and the key stay. Exit code 1: something\n" +
			"could not be removed.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "older-than", Value: pruneAge, Usage: "what was not used for `AGE`: 12h, 30d, 8w; 0s for all"},
			&cli.BoolFlag{Name: "dry-run", Usage: "list it, and remove nothing"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cli.Exit(fmt.Sprintf("prune takes no arguments, but got %q", c.Args().First()), 1)
			}
			err := emptyFlag(c)
			if err == nil {
				err = prune(c)
			}
			if err != nil {
				return cli.Exit(err, 1)
			}
			return nil
		},
	}
}

func prune(c *cli.Context) error {
	age, err := parseAge(c.String("older-than"))
	if err != nil {
		return fmt.Errorf("--older-than: %w", err)
	}
	state := stateDir()
	verb := "removed"
	if c.Bool("dry-run") {
		verb = "would remove"
	}
	nothing := true
	o := sandbox.PruneOptions{Before: time.Now().Add(-age), Keep: c.Bool("dry-run"), Found: func(p sandbox.Pruned) {
		nothing = false
		line := fmt.Sprintf("%s %s %s", verb, p.Kind, errorText(p.Name))
		if !p.Last.IsZero() {
			line += ", last used " + p.Last.Local().Format(time.DateTime)
		}
		fmt.Fprintln(c.App.Writer, line)
	}}
	sandbox.PruneGroups(o)
	if err := sandbox.BecomeSudoUser(); err != nil {
		return err
	}
	err = sandbox.Prune(state, o)
	if nothing && err == nil {
		fmt.Fprintln(c.App.Writer, "nothing to remove")
	}
	return err
}

// parseAge reads a duration, which may be in days or weeks. It has a unit, also where it is 0, by which everything is old.
func parseAge(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		digits, ok := strings.CutSuffix(text, unit)
		n, err := strconv.ParseUint(digits, 10, 16)
		if ok && err == nil {
			return time.Duration(n) * length, nil
		}
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 || !strings.ContainsAny(text, "smh") {
		return 0, fmt.Errorf("%q is no age: write it as 12h, 30d or 8w", text)
	}
	return age, nil
}
