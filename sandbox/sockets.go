// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io/fs"
	"slices"
)

// sockets mounts the Unix sockets of the host that the policy lists. A mount alone lets nobody connect: the seccomp supervisor does
// so for the command where the file is one of these mounts.
func (c *compiler) sockets() error {
	for _, path := range c.policy.Sockets() {
		target, info, err := c.resolve(c.expand(path))
		if err != nil {
			return requestErrorf("socket %q: %v", path, reason(err))
		}
		if link := c.ownLink(); link != "" {
			return planted("socket", path, link, target)
		}
		if info.Mode()&fs.ModeSocket == 0 {
			return requestErrorf("socket %q is none", path)
		}
		if c.hidesItself(target) {
			return requestErrorf("socket %q is hidden by the policy; leave out one", path)
		}
		if err := c.add(Mount{Kind: Socket, Target: target, Source: target, Origin: originPolicy}); err != nil {
			return err
		}
	}
	return nil
}

// hidesItself tells whether the policy hides the very path: a socket in a hidden directory is more specific than that.
func (c *compiler) hidesItself(path string) bool {
	return slices.ContainsFunc(c.policy.Files().Hide, func(hide string) bool {
		target, _, err := c.canonical(c.expand(hide))
		return err == nil && target == path
	})
}

// hidesPath tells whether the policy hides a path, whether or not it lies in a grant.
func (c *compiler) hidesPath(path string) bool {
	return slices.ContainsFunc(c.policy.Files().Hide, func(hide string) bool {
		target, _, err := c.canonical(c.expand(hide))
		return err == nil && within(target, path)
	})
}

// Sockets are the paths of the host's Unix sockets that the command may connect to.
func (p Plan) Sockets() (paths []string) {
	for _, m := range p.Mounts {
		if m.Kind == Socket {
			paths = append(paths, m.Target)
		}
	}
	return paths
}
