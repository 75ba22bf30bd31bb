// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A workload is timed by itself, inside as outside: what starting a jail costs is the other benchmark.
type workload struct {
	name   string
	rounds int
	limit  string
	where  string // the directory for it, the bench's own if empty
	run    func() error
}

var workloads = []workload{
	{"git status", 15, "at most 1.03", "", repeat(5, "git", "status", "--short")},
	{"grep -r", 15, "at most 1.03", "", repeat(2, "grep", "-rc", "needle", "tree")},
	{"go build, cold", 5, "at most 1.03", "", coldBuild},
	// In memory: ext4 looks for an inode that was not used in the last minutes, 0.5 ms long after so many were.
	{"create and delete 50,000 files", 5, "no limit is set", "/dev/shm", manyFiles},
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
	c.Env = append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=-mod=mod", "GOPROXY=off", "CGO_ENABLED=0", "GOTOOLCHAIN=local")
	c.Dir = "module"
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
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

func benchWork([]string) error {
	dir, err := os.MkdirTemp(".", "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeTree(dir); err != nil {
		return err
	}
	fmt.Println("work inside against bare, medians of interleaved rounds")
	for i := range workloads {
		if err := compare(dir, i); err != nil {
			return fmt.Errorf("%s: %w", workloads[i].name, err)
		}
	}
	return nil
}

// compare times one workload outside and inside.
func compare(dir string, n int) error {
	w := workloads[n]
	if w.where != "" {
		var err error
		if dir, err = os.MkdirTemp(w.where, "agentjail-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/bench", program, 0o755); err != nil {
		return err
	}
	work := []string{"./bench", "inner", strconv.Itoa(n)}
	jail := append([]string{"agentjail", "run", "--quiet", "--"}, work...)
	var bare, alone, inside, plain []time.Duration
	for round := range w.rounds + 1 {
		b, err1 := timed(dir, work...)
		k, err2 := timed(dir, append([]string{"./bench", "kernel"}, work...)...)
		in, err3 := timed(dir, jail...)
		p, err4 := timed(dir, append([]string{"probe", "cover", "/dev/fuse", "--"}, jail...)...)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		if round > 0 { // the first warms the page cache
			bare, alone, inside, plain = append(bare, b), append(alone, k), append(inside, in), append(plain, p)
		}
	}
	fmt.Printf("  %-32s bare %s  inside %s  %.3f (%s; seccomp and Landlock alone %.3f; without FUSE %.3f)\n", w.name, milliseconds(median(bare)),
		milliseconds(median(inside)), ratio(median(inside), median(bare)), w.limit, ratio(median(alone), median(bare)),
		ratio(median(plain), median(bare)))
	return nil
}

func timed(dir string, command ...string) (time.Duration, error) {
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
		return 0, fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(ns), err
}

// makeTree makes a repository of 3,000 files in 100 directories, and a module that needs a good part of the standard library.
func makeTree(dir string) error {
	for i := range 3000 {
		path := fmt.Sprintf("%s/tree/%d/%d.txt", dir, i%100, i)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		text := strings.Repeat(fmt.Sprintf("line %d of hay\n", i), 200)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir+"/module", 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"module/go.mod":  "module example.com/built\n\ngo 1.22\n",
		"module/main.go": "package main\n\nimport (\n\t\"encoding/json\"\n\t\"os\"\n)\n\nfunc main() { json.NewEncoder(os.Stdout).Encode(1) }\n",
		".gitignore":     "/gocache/\n/module/built\n/bench\n/many/\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	script := "git init -q && git config user.name b && git config user.email b@example.com && git add . && git commit -qm tree"
	c := exec.Command("sh", "-c", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("git: %w: %s", err, out)
	}
	return nil
}
