// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/profiles"
)

// runProfiles runs the verb alone and returns what it prints.
func runProfiles(args ...string) (string, error) {
	var out bytes.Buffer
	app := &cli.App{
		Writer: &out, Commands: []*cli.Command{profilesCommand()},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	err := app.Run(append([]string{"agentjail", "profiles"}, args...))
	return out.String(), err
}

func TestProfilesLists(t *testing.T) {
	out, err := runProfiles()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(profiles.Names())+len(profiles.ToolchainNames())+3 {
		t.Fatalf("%d lines for %d profiles:\n%s", len(lines), len(profiles.Names()), out)
	}
	for i, name := range profiles.Names() {
		p, err := profiles.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(lines[i+1])
		if words[0] != name || !strings.HasSuffix(lines[i+1], p.Description) {
			t.Errorf("got %q for %s", lines[i+1], name)
		}
		if len(p.Commands) > 0 && words[1] != p.Commands[0] {
			t.Errorf("%s: the command is not in %q", name, lines[i+1])
		}
		if len(lines[i+1]) > 110 {
			t.Errorf("%s: the line is %d characters long", name, len(lines[i+1]))
		}
	}
}

// What is printed is a policy that grants the same, and the digest is the one
// that a reader of the text can compute.
func TestProfilesShowsPolicy(t *testing.T) {
	for _, name := range profiles.Names() {
		out, err := runProfiles(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := profiles.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := profiles.Parse(name, []byte(out))
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, out)
		}
		if got.Digest() != want.Digest() {
			t.Errorf("%s: the text is another policy:\n%s", name, out)
		}
		_, body, ok := strings.Cut(out, "# digest "+want.Digest()+"\n")
		if sum := sha256.Sum256([]byte(body)); !ok || fmt.Sprintf("sha256:%x", sum) != want.Digest() {
			t.Errorf("%s: the digest is not that of the text below it:\n%s", name, out)
		}
		if !strings.HasPrefix(out, "# "+name+": ") || !strings.Contains(out, "# from profile:base sha256:") {
			t.Errorf("%s: the heading is missing:\n%s", name, out)
		}
	}
}

func TestProfilesRefuses(t *testing.T) {
	out, err := runProfiles("nosuch")
	var typed *profiles.Error
	if !errors.As(err, &typed) || out != "" {
		t.Errorf("unknown name: %v, printed %q", err, out)
	}
	if out, err := runProfiles("base", "ci"); err == nil || out != "" {
		t.Errorf("two names: %v, printed %q", err, out)
	}
}
