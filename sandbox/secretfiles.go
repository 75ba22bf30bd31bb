// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/agentjail/agentjail/profiles"
)

// originSecrets is the origin of mounts that hide files of the project which hold secrets by their names.
const originSecrets = "secrets"

// Bounds of the look for them: what is not looked at is not hidden, so that more is an error.
const (
	maxSecretNames = 200_000
	maxSecretFiles = 1_000
)

// secretFiles hides what the working directory has of such files, where the policy says so. One that the policy grants by its own path
// is shown.
func (c *compiler) secretFiles() error {
	if c.policy.Files().Secrets != profiles.SecretsHide {
		return nil
	}
	names, found := 0, 0
	for dirs := []string{c.dir}; len(dirs) > 0; dirs = dirs[1:] {
		inside, err := c.host.Files.ReadDir(dirs[0])
		if err != nil {
			return requestErrorf("secrets in %q: %v", dirs[0], reason(err))
		}
		if names += len(inside); names > maxSecretNames {
			return requestErrorf("secrets: %q holds more than %d names, which are too many to look at; leave --hide-secrets out and name them with --hide",
				c.dir, maxSecretNames)
		}
		for _, entry := range inside {
			name := entry.Name()
			path := filepath.Join(dirs[0], name)
			switch info, err := c.host.Files.Lstat(path); {
			case errors.Is(err, fs.ErrNotExist) && (profiles.SkipsSecrets(name) || !entry.IsDir() && !profiles.IsSecretFile(name)): // by now
			case err != nil: // the command may be able to make it readable, and who took it away, or what holds it, to put it back
				return requestErrorf("secrets: %q cannot be looked at: %v", path, reason(err))
			case info.IsDir() && !profiles.SkipsSecrets(name):
				dirs = append(dirs, path)
			case !info.IsDir() && profiles.IsSecretFile(name):
				if found++; found > maxSecretFiles {
					return requestErrorf("secrets: %q holds more than %d of them; hide the directories that they lie in", c.dir, maxSecretFiles)
				}
				if err := c.secretFile(path, info); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// secretFile hides a file, or what a link leads to, where the run shows it.
func (c *compiler) secretFile(path string, named fs.FileInfo) error {
	target, info, err := c.canonical(path)
	leadsNowhere := errors.Is(err, fs.ErrNotExist) && named.Mode()&fs.ModeSymlink != 0
	if err != nil && !leadsNowhere {
		return requestErrorf("secrets: where %q leads cannot be looked at: %v", path, reason(err))
	}
	if err != nil || info.Mode()&fs.ModeType != 0 || c.covering(target) == nil || c.names(target) {
		return nil
	}
	if err := c.oneName("secrets", path, target, info); err != nil {
		return err
	}
	return c.add(Mount{Kind: Hidden, Target: target, Origin: originSecrets})
}
