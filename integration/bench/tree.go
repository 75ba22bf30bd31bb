// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	treeFiles = 20_000
	treeDirs  = 400
	commits   = 1_000
)

// makeTree makes a large repository, and a module that needs a good part of the standard library.
func makeTree(dir string) error {
	for name, text := range map[string]string{
		"module/go.mod":  "module example.com/built\n\ngo 1.22\n",
		"module/main.go": "package main\n\nimport (\n\t\"encoding/json\"\n\t\"os\"\n)\n\nfunc main() { json.NewEncoder(os.Stdout).Encode(1) }\n",
		".gitignore":     "/gocache/\n/module/built\n/bench\n/npm/\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	const script = "git init -q -b tree && git config user.name b && git config user.email b@example.com && git fast-import --quiet && " +
		"git reset -q --hard && git add . && git commit -qm module && git status --short"
	c := exec.Command("sh", "-c", script)
	c.Dir = dir
	history, err := c.StdinPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return err
	}
	w := bufio.NewWriter(history)
	writeHistory(w)
	w.Flush()
	history.Close()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("git: %w: %s", err, said.String())
	}
	return nil
}

// writeHistory writes the tree, and the commits in which it grew, as git-fast-import(1) takes them.
func writeHistory(w *bufio.Writer) {
	for commit := range commits {
		fmt.Fprintf(w, "commit refs/heads/tree\ncommitter b <b@example.com> %d +0000\ndata 4\ntree\n", 1_700_000_000+commit)
		for i := commit * treeFiles / commits; i < (commit+1)*treeFiles/commits; i++ {
			text := strings.Repeat(fmt.Sprintf("line %d of hay\n", i), 20+i%200)
			fmt.Fprintf(w, "M 100644 inline tree/%d/%d/%d.txt\ndata %d\n%s\n", i%20, i%treeDirs, i, len(text), text)
		}
	}
}

// copyPackages puts the lock file of a project of npm's, and the cache that it is installed from, where the work is done.
func copyPackages(dir string) error {
	from := os.Getenv("BENCH_PACKAGES")
	if from == "" {
		return nil
	}
	if err := os.MkdirAll(dir+"/npm", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json", "cache"} {
		if out, err := exec.Command("cp", "-r", filepath.Join(from, name), dir+"/npm").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}
