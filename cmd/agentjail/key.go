// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// keyCommand prints the key by which others check the caller's logs.
func keyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "print the public key of your logs, for agentjail verify --key",
		Description: "The key that signs is made by the first run, and stays in " + sandbox.KeyFile + " of agentjail's state directory.\n" +
			"Exit code 1: there is none yet, or it cannot be used.",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cli.Exit(fmt.Sprintf("key takes no arguments, but got %q", c.Args().First()), 1)
			}
			key, err := ownKey()
			if err == nil && key == "" {
				err = errors.New("there is no key yet: the first run makes it (agentjail run -- true)")
			}
			if err != nil {
				return cli.Exit(err, 1)
			}
			fmt.Fprintln(c.App.Writer, key)
			return nil
		},
	}
}

// ownKey is the key of the caller's logs; empty where no run has made it yet.
func ownKey() (audit.PublicKey, error) {
	uid := os.Geteuid()
	if caller, _, ok := sandbox.Sudo(); ok {
		uid = caller
	}
	key, err := audit.ReadKey(filepath.Join(stateDir(), sandbox.KeyFile), uid)
	var refused *audit.KeyError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.As(err, &refused):
		return "", fmt.Errorf("%w (%s)", err, refused.Fix())
	case err != nil:
		return "", err
	}
	return key.Public(), nil
}
