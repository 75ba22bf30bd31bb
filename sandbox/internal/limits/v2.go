// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// createV2 has systemd make the group where it runs, and makes it itself elsewhere. A directory of systemd's hands down what
// the units below it need: when the last of them stops that has a limit on processors, the controller goes, and with it that
// limit of every group that systemd does not know (systemd.io/CGROUP_DELEGATION, "single-writer rule").
func createV2(h host, s Spec, reaper int) (*Group, error) {
	g, refused := createScope(h, s)
	switch {
	case refused == nil && s.Leaving:
		if err := g.enterScope(reaper); err != nil {
			g.Close()
			return nil, err
		}
		return g, nil
	case refused == nil:
		return g, nil
	}
	g, unavailable := createDirectly(h, s)
	var lacking *UnavailableError
	switch {
	case unavailable == nil:
		return g, nil
	case errors.As(refused, &lacking):
		return nil, lacking
	case unavailable.fix != fixQuota:
		unavailable.Err = fmt.Errorf("%w, and %w", unavailable.Err, refused)
	}
	return nil, unavailable
}

// createScope checks that systemd can make the group; it does so for the first process. The error is an *UnavailableError
// where there is a systemd that was not given the controllers.
func createScope(h host, s Spec) (*Group, error) {
	m, err := h.connect()
	if err != nil {
		return nil, fmt.Errorf("%s cannot make a group: %w", h.managerName(), err)
	}
	if err := handedDown(m, controllers(s)); err != nil {
		m.close()
		err = fmt.Errorf("%s: %w", h.managerName(), err)
		if h.root {
			return nil, err // the kernel has none to give
		}
		return nil, &UnavailableError{"cgroup v2", err, fixHand}
	}
	g := newGroup(h, v2, s)
	g.scope = &scope{manager: m, slice: h.slice()}
	return g, nil
}

// enterScope makes the group in a scope that systemd makes for the reaper, which is there as long as the group. systemd is not asked
// later, for the run's first process: a connection of root's keeps root's rights, whoever the caller is by then. The reaper goes
// aside, since what has processes hands no controllers down (cgroup-v2.rst, "No Internal Process Constraint").
func (g *Group) enterScope(reaper int) error {
	s, wanted := g.scope, controllers(g.spec)
	g.scope = nil
	defer s.close()
	dir, err := s.start(reaper, g.spec, delegated(g.spec, wanted))
	if err != nil {
		return err
	}
	aside := filepath.Join(dir, "reaper")
	err = g.host.mkdir(aside, 0o755)
	if err == nil {
		err = writeFile(filepath.Join(aside, "cgroup.procs"), strconv.Itoa(reaper))
	}
	if err == nil {
		err = writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+"+strings.Join(wanted, " +"))
	}
	if err == nil {
		err = g.make(dir, wanted)
	}
	if err != nil {
		return &UnavailableError{"cgroup v2", err, fixFor(err, fixRoot)}
	}
	return nil
}

func createDirectly(h host, s Spec) (*Group, *UnavailableError) {
	parent, err := findParent(*h.v2, controllers(s))
	if err != nil {
		return nil, &UnavailableError{"cgroup v2", err, fixNobody(h, controllers(s))}
	}
	g := newGroup(h, v2, s)
	if err := g.make(parent, controllers(s)); err != nil {
		g.Close()
		return nil, &UnavailableError{"cgroup v2", err, fixFor(err, fixNobody(h, controllers(s)))}
	}
	return g, nil
}

// fixNobody is the fix where no directory hands the controllers down. Root can have the root of all groups do it, which alone may
// have processes besides groups; it is told by a file that it lacks (cgroup-v2.rst, "Core Interface Files"). It is not done
// for the user, since it stays when the run has ended.
func fixNobody(h host, controllers []string) string {
	available, err := os.ReadFile(filepath.Join(h.v2.mount, "cgroup.controllers"))
	_, typed := os.Lstat(filepath.Join(h.v2.mount, "cgroup.type"))
	if !h.root || err != nil || !errors.Is(typed, fs.ErrNotExist) || missing(controllers, string(available)) != "" {
		return fixV2
	}
	return fmt.Sprintf("echo '+%s' > %s/cgroup.subtree_control", strings.Join(controllers, " +"), h.v2.mount)
}

// findParent finds the nearest directory above the caller that hands the controllers down and takes new groups. The caller's
// own cannot, as it has processes (cgroup-v2.rst, "No Internal Process Constraint"), unless it is the root of all.
//
// A process can be moved there only by who may write the nearest directory above both places ("Delegation Containment").
func findParent(h hierarchy, controllers []string) (string, error) {
	for dir := h.own; ; dir = filepath.Dir(dir) {
		enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return "", err
		}
		if missing(controllers, string(enabled)) == "" {
			for _, path := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
				if err := unix.Access(path, unix.W_OK); err != nil {
					return "", fmt.Errorf("%s: %w", path, err)
				}
			}
			return dir, nil
		}
		if dir == h.mount || len(dir) <= len(h.mount) {
			return "", fmt.Errorf("no group above %s hands controller %s down", h.own, missing(controllers, string(enabled)))
		}
	}
}

// missing is the first of the controllers that a list of the kernel does not have.
func missing(controllers []string, list string) string {
	have := strings.Fields(list)
	for _, c := range controllers {
		if !slices.Contains(have, c) {
			return c
		}
	}
	return ""
}

// handedDown tells whether systemd has the controllers to give.
func handedDown(m manager, controllers []string) error {
	path, err := m.group()
	if err != nil {
		return err
	}
	enabled, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if c := missing(controllers, string(enabled)); c != "" {
		return errors.New("it was not given controller " + c)
	}
	return nil
}
