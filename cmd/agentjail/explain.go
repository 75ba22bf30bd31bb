// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/egress"
	"github.com/agentjail/agentjail/sandbox"
)

// netWord is the first word of a question about the network; a file of that name is ./net.
const netWord = "net"

// explainCommand says what a run may do, and why, without starting one.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say why a run can, or cannot, read a path or reach a host",
		ArgsUsage: "PATH... | net HOST[:PORT]...",
		Description: "Takes the policy flags of run, and starts nothing. A file that is called net is ./net.\n" +
			"What a run does with a path or a host depends on its policy, and a little on its command: see --for.",
		HideHelpCommand: true, // "help" and "h" may be files
		Flags: append(policyFlags(byCommand),
			&cli.StringFlag{Name: "for", Usage: "explain a run of `COMMAND`, whose name may choose a profile", Value: "sh"},
			&cli.BoolFlag{Name: "resolve", Usage: "ask this machine's resolver for the addresses of allowed hosts"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, one object for each line"},
		),
		Action: explainAction,
	}
}

func explainAction(c *cli.Context) error {
	if err := emptyFlag(c); err != nil {
		return err
	}
	words := c.Args().Slice()
	switch {
	case len(words) == 0 || slices.Contains(words, ""):
		return errors.New("which path? agentjail explain [flags] PATH... or net HOST[:PORT]")
	case words[0] == netWord && len(words) == 1:
		return errors.New("which host? agentjail explain [flags] net HOST[:PORT]; a file of that name is ./net")
	case words[0] != netWord && c.Bool("resolve"):
		return errors.New("--resolve is for hosts: agentjail explain --resolve net HOST[:PORT]")
	}
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }); i > 0 {
		return fmt.Errorf("flags come first: agentjail explain %s ...; a file of that name is ./%[1]s", audit.Printable(words[i]))
	}
	host, err := sandbox.Probe(sandbox.Request{Workdir: c.String("workdir")})
	if err != nil {
		return err
	}
	plan, _, err := planFor(c, host, []string{c.String("for")})
	if err != nil {
		return err
	}
	show := printAnswer(c.App.Writer, c.Bool("json"))
	if words[0] == netWord {
		return explainNet(c, plan, words[1:], show)
	}
	for _, path := range words {
		e, err := plan.Explain(host.Files, askedPath(host, path))
		if err != nil {
			return err
		}
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// askedPath is a path of the command line, absolute. It is not cleaned: what .. means depends on the links before it.
func askedPath(host sandbox.Host, path string) string {
	switch {
	case filepath.IsAbs(path):
		return path
	case path == "~" || strings.HasPrefix(path, "~/"):
		return host.Identity.Home + path[1:]
	}
	return host.Current + "/" + path
}

func explainNet(c *cli.Context, plan sandbox.Plan, targets []string, show func(fmt.Stringer) error) error {
	proxies, err := upstreamOf(plan)
	if err != nil {
		return err
	}
	for i, text := range targets {
		if err := egress.CheckTarget(text); err != nil {
			return fmt.Errorf("net, host %d: %w", i+1, err)
		}
		e := egress.Explain(accessOf(plan), proxies, text)
		key, entry := "loopback", strings.TrimPrefix(e.Rule, "loopback:")
		for _, r := range plan.Rules {
			if r.String() == e.Rule {
				key, entry = "allow", r.Target()
			}
		}
		for _, d := range plan.Denials {
			if d.String() == e.Rule {
				key, entry = "deny", d.Target()
			}
		}
		e.From = plan.From(key, entry)
		if c.Bool("resolve") {
			var err error
			if e, err = egress.Resolve(c.Context, accessOf(plan), e); err != nil {
				return err
			}
		}
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// printAnswer prints answers, for people or as JSON.
func printAnswer(w io.Writer, asJSON bool) func(fmt.Stringer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return func(answer fmt.Stringer) error {
		if asJSON {
			return encoder.Encode(answer)
		}
		_, err := io.WriteString(w, answer.String())
		return err
	}
}
