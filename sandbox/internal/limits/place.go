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
	"time"

	"golang.org/x/sys/unix"
)

// place is one directory of a group. It keeps the files through which it acts open: the caller may give up, in between, the
// rights that it takes to open them, as it does after sudo.
type place struct {
	path        string
	controllers []string
	dir         *os.File // with a lock, which says that the group's owner lives
	procs       *os.File
	killer      *os.File // nil before Linux 5.14 and in version 1
}

// newPlace makes a directory for a run.
func newPlace(h host, parent, run string) (*place, error) {
	path := filepath.Join(parent, prefix+run)
	for {
		if err := h.mkdir(path, 0o755); err != nil {
			return nil, err
		}
		p, err := openPlace(path)
		if err == nil {
			return p, nil
		}
		h.rmdir(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Another run took the directory for a stale one before it was locked.
	}
}

func openPlace(path string) (*place, error) {
	p := &place{path: path}
	var err error
	if p.dir, err = os.Open(path); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(p.dir.Fd()), unix.LOCK_SH); err != nil {
		p.dir.Close()
		return nil, fmt.Errorf("flock: %w", err)
	}
	if p.procs, err = os.OpenFile(filepath.Join(path, "cgroup.procs"), os.O_WRONLY, 0); err != nil {
		p.dir.Close()
		return nil, err
	}
	if killer, err := os.OpenFile(filepath.Join(path, "cgroup.kill"), os.O_WRONLY, 0); err == nil {
		p.killer = killer
	}
	return p, nil
}

func (p *place) has(controller string) bool { return slices.Contains(p.controllers, controller) }

// set writes the settings of this place's controllers.
func (p *place) set(all []setting) error {
	for _, s := range all {
		if !p.has(s.controller) {
			continue
		}
		err := writeFile(filepath.Join(p.path, s.file), s.value)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes to a file that the kernel has made; it never makes one.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// verify tells whether somebody else's settings are those that were asked for. The kernel rounds memory down to pages.
func (p *place) verify(want []setting) error {
	for _, s := range want {
		data, err := os.ReadFile(filepath.Join(p.path, s.file))
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(data)); !sameValue(s, got) {
			return fmt.Errorf("%s is %q, not %q", s.file, got, s.value)
		}
	}
	return nil
}

func sameValue(s setting, got string) bool {
	if s.controller != "memory" {
		return got == s.value
	}
	a, err1 := strconv.ParseInt(s.value, 10, 64)
	b, err2 := strconv.ParseInt(got, 10, 64)
	return err1 == nil && err2 == nil && b <= a && a-b < 1<<16
}

func (p *place) add(pid int) error {
	_, err := p.procs.WriteString(strconv.Itoa(pid))
	return err
}

func (p *place) count(c counter) uint64 {
	data, err := os.ReadFile(filepath.Join(p.path, c.file))
	if err != nil {
		return 0
	}
	return parseCount(string(data), c.key)
}

// events are the files that the kernel changes when a limit of this place is hit.
func (p *place) events(v version) []string {
	var out []string
	for _, c := range counters(v) {
		if p.has(c.controller) {
			out = append(out, filepath.Join(p.path, c.file))
		}
	}
	return out
}

// kill ends all processes. Without cgroup.kill that takes rounds, since they may fork meanwhile.
func (p *place) kill() error {
	if p.killer != nil {
		_, err := p.killer.WriteString("1")
		if errors.Is(err, unix.ENODEV) {
			return nil // the group is gone
		}
		return err
	}
	for range maxKillRound {
		pids := p.processes()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("%s: processes are left", p.path)
}

// processes are those that are alive, as numbers of this process's pid namespace. A zombie is in no group any more.
func (p *place) processes() []int {
	data, err := os.ReadFile(filepath.Join(p.path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removalTime bounds the wait for the last processes of a group, and maxKillRound the attempts to end them.
const (
	removalTime  = 3 * time.Second
	maxKillRound = 100
)

// remove removes the directory, once it is empty.
func (p *place) remove(rmdir func(string) error) error {
	pause := time.Millisecond
	for deadline := time.Now().Add(removalTime); ; pause = min(2*pause, 50*time.Millisecond) {
		err := rmdir(p.path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove %s: %w", p.path, err)
		}
		time.Sleep(pause)
	}
}

func (p *place) close() {
	p.dir.Close()
	p.procs.Close()
	if p.killer != nil {
		p.killer.Close()
	}
}

// parseCount finds a number in a file of lines of names and numbers.
func parseCount(text, key string) uint64 {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && name == key {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}
