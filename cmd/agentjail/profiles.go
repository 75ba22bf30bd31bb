// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/profiles"
)

// profilesCommand lists the embedded profiles, or shows what one of them grants.
func profilesCommand() *cli.Command {
	return &cli.Command{
		Name:      "profiles",
		Usage:     "list the embedded profiles and sets of tools, or print what one grants",
		ArgsUsage: "[NAME]",
		Description: "Without NAME, prints a line for each profile: name, the commands that choose it, what it is for.\n" +
			"With NAME, prints the effective policy as YAML, with its digest. A file of one's own extends it: extends: [NAME].\n" +
			"Below the profiles are the sets of tools of --with (with: [NAME]); with NAME, prints where one looks.",
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				return listProfiles(c.App.Writer)
			case 1:
				return showProfile(c.App.Writer, c.Args().First())
			}
			return fmt.Errorf("profiles takes one name at most, not %d", c.NArg())
		},
	}
}

// listProfiles prints a table.
func listProfiles(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROFILE\tCOMMANDS\tWHAT FOR")
	for _, name := range profiles.Names() {
		p, err := profiles.Lookup(name)
		if err != nil {
			return err
		}
		commands := strings.Join(p.Commands, ", ")
		if commands == "" {
			commands = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p.Name, commands, p.Description)
	}
	fmt.Fprintln(table, "\nTOOLS\t\tWHAT FOR")
	for _, name := range profiles.ToolchainNames() {
		t, err := profiles.LookupToolchain(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t-\t%s\n", name, t.Description)
	}
	return table.Flush()
}

// showProfile prints the canonical form of a profile under comments that say
// what it is. The digest is that of the lines below the comments.
func showProfile(w io.Writer, name string) error {
	if slices.Contains(profiles.ToolchainNames(), name) {
		text, err := profiles.ToolchainText(name)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	p, err := profiles.Lookup(name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: %s\n", p.Name, p.Description)
	if len(p.Commands) > 0 {
		fmt.Fprintf(&b, "# chosen by: %s\n", strings.Join(p.Commands, ", "))
	}
	for _, s := range p.Policy.Sources() {
		fmt.Fprintf(&b, "# from %s %s\n", s.Name, s.Digest)
	}
	fmt.Fprintf(&b, "# What is not on a system is skipped. A policy of one's own keeps that by extends: [%s], and not by a copy of this.\n", p.Name)
	fmt.Fprintf(&b, "# digest %s\n", p.Policy.Digest())
	b.Write(p.Policy.YAML())
	_, err = w.Write(b.Bytes())
	return err
}
