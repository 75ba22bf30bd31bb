// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A workload is timed by itself, inside as outside, and in a run of its own: what starting a jail costs is the other benchmark, and what the
// work itself starts, such as git, is part of it.
type workload struct {
	name   string
	rounds int
	limit  string
	where  string // the directory for it, the bench's own if empty
	needs  string // a program or file without which it is left out
	run    func() error
}

const (
	reading  = "at most 1.02"
	building = "at most 1.03"
	noLimit  = "no limit is set"
)

var workloads = []workload{
	{"git status", 11, reading, "", "git", repeat(2, "git", "status", "--short")},
	{"git log", 7, reading, "", "git", repeat(2, "git", "log", "--stat", "-n", "500")},
	{"grep -r", 7, reading, "", "grep", repeat(1, "grep", "-rc", "needle", "tree")},
	{"rg", 7, reading, "", "rg", repeat(1, "rg", "-c", "needle", "tree")},
	{"find", 7, reading, "", "find", repeat(3, "find", "tree", "-type", "f", "-newermt", "2100-01-01")},
	{"go build, cold", 3, building, "", "go", coldBuild},
	{"npm ci, offline", 3, "at most 1.08", "", "npm/package-lock.json", npmInstall},
	// In memory: ext4 looks for an inode that was not used in the last minutes, 0.5 ms long after so many were.
	{"create and delete 50,000 files", 3, noLimit, "/dev/shm", "", manyFiles},
	{"look 20,000 times at what is denied", 3, noLimit, "", "", func() error { return lookAt(denied, deniedLooks) }},
	{"read beside the same in another thread", 5, "beside it, not alone", "", "", readBeside},
}

func repeat(n int, name string, args ...string) func() error {
	return func() error {
		for range n {
			var status *exec.ExitError
			if err := exec.Command(name, args...).Run(); err != nil && !(errors.As(err, &status) && status.ExitCode() == 1) {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
}

// coldBuild compiles a program and all of the standard library that it needs.
func coldBuild() error {
	cache, err := filepath.Abs("gocache")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(cache); err != nil {
		return err
	}
	c := exec.Command("go", "build", "-o", "built", ".")
	// What it makes on the way lies on the same file system in every place: one has no other directory that it may write, one has /tmp in memory.
	c.Env = append(os.Environ(), "GOCACHE="+cache, "TMPDIR="+filepath.Dir(cache), "GOFLAGS=-mod=mod", "GOPROXY=off", "CGO_ENABLED=0", "GOTOOLCHAIN=local")
	c.Dir = "module"
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// npmInstall installs what a lock file says from npm's cache alone, as the second install of a project does.
func npmInstall() error {
	c := exec.Command("npm", "ci", "--offline", "--cache", "./cache", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
	c.Dir = "npm"
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, out)
	}
	return nil
}

const (
	// denied is there on every host, for everybody to look at, and granted to no run.
	denied      = "/etc/shadow"
	deniedLooks = 20_000
)

// lookAt looks at a path. Whether it is there does not matter.
func lookAt(path string, times int) error {
	for range times {
		if _, err := os.Stat(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readBeside reads files while another thread looks at what is denied as fast as it can.
func readBeside() error {
	var done atomic.Bool
	var beside sync.WaitGroup
	defer beside.Wait()
	defer done.Store(true)
	beside.Go(func() {
		for !done.Load() {
			lookAt(denied, 1)
		}
	})
	return readTree()
}

// readTree reads what git has of the tree, from one thread.
func readTree() error {
	return filepath.WalkDir("tree", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
}

const manyFilesCount = 50_000

func manyFiles() error {
	if err := os.Mkdir("many", 0o755); err != nil {
		return err
	}
	for i := range manyFilesCount {
		f, err := os.Create("many/" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	for i := range manyFilesCount {
		if err := os.Remove("many/" + strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return os.Remove("many")
}

// inner runs one workload and prints how long it took.
func inner(args []string) error {
	n, err := strconv.Atoi(strings.Join(args, ""))
	if err != nil || n < 0 || n >= len(workloads) {
		return errors.New("no such workload")
	}
	begin := time.Now()
	if err := workloads[n].run(); err != nil {
		return err
	}
	fmt.Println(int64(time.Since(begin)))
	return nil
}

func benchWork(names []string) error {
	dir, err := os.MkdirTemp(".", "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeTree(dir); err != nil {
		return err
	}
	if err := copyPackages(dir); err != nil {
		return err
	}
	fmt.Println("work inside against bare, medians of interleaved rounds")
	for i, w := range workloads {
		if len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(w.name, name) }) {
			continue
		}
		if why := w.missing(dir); why != "" {
			fmt.Printf("  %-40s left out: %s\n", w.name, why)
			continue
		}
		if err := compare(dir, i); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// missing says what a workload lacks.
func (w workload) missing(dir string) string {
	var err error
	switch {
	case w.needs == "":
	case strings.Contains(w.needs, "/"):
		_, err = os.Stat(filepath.Join(dir, w.needs))
	default:
		_, err = exec.LookPath(w.needs)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// place is a way to run work in, by what stands before its command.
type place struct {
	name   string
	before []string
	rounds int // at most, if not 0
	times  []time.Duration
}

// places are those that are compared with the first. In dir the work is done.
func places(dir string) []*place {
	jail := []string{"agentjail", "run", "--quiet", "--"}
	all := []*place{
		{name: "bare"},
		{name: "inside", before: jail},
		{name: "without FUSE", rounds: 3, before: append([]string{"probe", "cover", "/dev/fuse", "--"}, jail...)},
		{name: "seccomp and Landlock alone", before: []string{"./bench", "kernel"}},
	}
	if _, err := exec.LookPath("bwrap"); err == nil {
		all = append(all, &place{name: "bwrap", before: []string{
			"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind", dir, dir,
		}})
	}
	return all
}

// compare times one workload in each place.
func compare(dir string, n int) error {
	w := workloads[n]
	if w.where != "" {
		var err error
		if dir, err = os.MkdirTemp(w.where, "agentjail-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := copySelf(dir); err != nil {
		return err
	}
	all := places(dir)
	for round := range rounds(w.rounds) + 1 {
		for _, i := range rand.Perm(len(all)) { // what was before shows in a time
			p := all[i]
			if p.rounds > 0 && round > p.rounds {
				continue
			}
			took, err := timed(dir, append(slices.Clone(p.before), "./bench", "inner", strconv.Itoa(n))...)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if round > 0 { // the first warms the page cache
				p.times = append(p.times, took)
			}
		}
	}
	bare, inside, alone := median(all[0].times), median(all[1].times), median(all[3].times)
	fmt.Printf("  %-40s bare %s", w.name, milliseconds(bare))
	for _, p := range all[1:] {
		limit := ""
		if p.name == "inside" {
			limit = " (" + w.limit + ")"
		}
		fmt.Printf("; %s %.3f%s", p.name, ratio(median(p.times), bare), limit)
	}
	fmt.Printf("; inside against those two alone %.3f\n", ratio(inside, alone))
	return nil
}

// rounds are how often each place is measured: BENCH_ROUNDS, or else as the workload says.
func rounds(n int) int {
	if asked, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil && asked > 0 {
		return asked
	}
	return n
}

// copySelf puts this program into a directory, where a run sees it.
func copySelf(dir string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/bench", program, 0o755)
}

func timed(dir string, command ...string) (time.Duration, error) {
	out, err := output(dir, command...)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Duration(ns), err
}

// output runs a command in a directory, and returns what it prints.
func output(dir string, command ...string) (string, error) {
	name := command[0]
	c := exec.Command(name, command[1:]...)
	c.Dir = dir
	if strings.HasPrefix(name, "./") {
		c.Path = filepath.Join(dir, name)
		if abs, err := filepath.Abs(c.Path); err == nil {
			c.Path = abs
		}
		c.Err = nil
	}
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	return string(out), nil
}
