// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// furnish makes the directories of the private home that are mounted, and those that the real home has under a name which
// the run may use: the command finds its own there, and a look at what the real one holds is on record. What is in the private
// home was written by earlier commands: nothing is made beyond a symbolic link that leads out of it.
func (h Home) furnish(real string) error {
	if err := os.MkdirAll(h.Private, 0o700); err != nil {
		return err
	}
	private, err := os.OpenRoot(h.Private)
	if err != nil {
		return fmt.Errorf("an earlier command may have changed its mode: %w", err)
	}
	defer private.Close()
	for _, name := range h.Dirs {
		if err := makeDir(private, name); err != nil {
			return fmt.Errorf("an earlier command put something in the place of a directory; remove %q: %w", filepath.Join(h.Private, name), err)
		}
	}
	for _, name := range h.Names {
		if info, err := os.Lstat(filepath.Join(real, name)); err == nil && info.IsDir() {
			private.MkdirAll(name, 0o700) // where it fails, an earlier command has put something there, for the next to find
		}
	}
	return nil
}

// makeDir makes a directory that is reached through directories alone, since no mount follows a link.
func makeDir(root *os.Root, name string) error {
	if err := root.MkdirAll(name, 0o700); err != nil {
		return err
	}
	for at := name; at != "."; at = filepath.Dir(at) {
		info, err := root.Lstat(at)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: at, Err: unix.ENOTDIR}
		}
	}
	return nil
}
