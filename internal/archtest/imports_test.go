// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/agentjail/agentjail"

// listed is a package as go list -json describes it.
type listed struct {
	ImportPath   string
	Dir          string
	Doc          string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	GoFiles      []string
	CgoFiles     []string
	SFiles       []string
}

// packages lists the packages of the module.
func packages(t *testing.T) []listed {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// list asks the go command once. A package that does not build is for the compiler to report (-e).
var list = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,Standard,Imports,TestImports,XTestImports,Deps,GoFiles,CgoFiles,SFiles", module+"/...")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, errs.String())
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) < 3 {
		return nil, fmt.Errorf("only %d packages were found", len(all))
	}
	return all, nil
})

// rel is an import path inside the module, "" for one of others.
func rel(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// within tells whether a package is one or below it.
func within(parent, path string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

// A layer says what a part of the tree may import of the project. What it may not name, it cannot come to depend on.
type layer struct {
	part   string
	may    []string
	reason string
}

// layers go from the top down. The first whose part holds a package counts, so that the inner ones stand before the outer.
var layers = []layer{
	{"integration", []string{"integration"}, "black-box tests that could reach into the product would stop testing what users meet"},
	{"internal/audit", nil, "everything reports to the log, so the log depends on nothing"},
	{"internal/archtest", nil, "it looks at the others from outside"},
	{"internal/egress", []string{"internal/audit", "profiles", "internal"}, "the gateway knows nothing of namespaces: it is given its listeners"},
	{"profiles", nil, "a policy is a pure value; what it means on a host is for sandbox"},
	{"seccomp", []string{"internal/audit", "internal"}, "a filter is compiled without knowing who loads it"},
	{"sandbox/internal/wire", nil, "a transport that knew its messages could not be tested alone"},
	{"sandbox/internal", []string{"sandbox/internal", "internal", "seccomp"}, "the mechanisms know no policies"},
	{"sandbox", []string{"sandbox", "profiles", "seccomp", "internal"}, "an API for embedding programs does not depend on a command"},
	{"cmd", []string{"sandbox", "profiles", "seccomp", "internal"}, "a command wires the packages; it does not reach into sandbox/internal"},
	{"internal", []string{"internal"}, "helpers sit below everything"},
}

func layerOf(path string) (layer, bool) {
	for _, l := range layers {
		if within(l.part, path) {
			return l, true
		}
	}
	return layer{}, false
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		path := rel(p.ImportPath)
		l, known := layerOf(path)
		if !known {
			t.Errorf("%s: no layer holds it; give it one in this file, with a reason", path)
			continue
		}
		imports := p.Imports
		if l.part == "integration" {
			imports = slices.Concat(imports, p.TestImports, p.XTestImports)
		}
		for _, imported := range imports {
			target := rel(imported)
			if target == "" || within(l.part, target) || slices.ContainsFunc(l.may, func(m string) bool { return within(m, target) }) {
				continue
			}
			t.Errorf("%s imports %s: %s", path, target, l.reason)
		}
	}
}

// An owner is a package of others that only one part of the tree may use.
type owner struct {
	imported string
	parts    []string
	reason   string
}

var owners = []owner{
	{module + "/internal/egress", []string{"cmd", "internal/egress"}, "sandbox is handed a gateway through an interface, so that an embedding program can bring its own"},
	{"github.com/opencontainers/runc", []string{"sandbox"}, "sandbox is the only owner of namespaces and containers"},
	{"github.com/containerd/cgroups", []string{"sandbox/internal/limits"}, "one package owns cgroups"},
	{"github.com/hanwen/go-fuse", []string{"sandbox/internal/denyfs"}, "one package answers the kernel's file system questions"},
	{"github.com/google/nftables", []string{"sandbox/internal/netns"}, "one package makes the run's network namespace"},
	{"github.com/vishvananda/netlink", []string{"sandbox/internal/netns"}, "one package makes the run's network namespace"},
	{"github.com/urfave/cli", []string{"cmd"}, "flags are the command's affair"},
	{"github.com/goccy/go-yaml", []string{"profiles"}, "policies are read in one place, strictly"},
	{"github.com/miekg/dns", []string{"internal/egress", "integration"}, "one package speaks DNS"},
	{"github.com/rogpeppe/go-internal", []string{"integration", "cmd"}, "a test tool"},
	{"os/exec", []string{"sandbox", "cmd", "integration", "internal/archtest"}, "profiles, egress, seccomp and audit start no process"},
}

func TestOwners(t *testing.T) {
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for _, o := range owners {
				if within(o.imported, imported) && !slices.ContainsFunc(o.parts, func(part string) bool { return within(part, rel(p.ImportPath)) }) {
					t.Errorf("%s imports %s: %s", rel(p.ImportPath), imported, o.reason)
				}
			}
		}
	}
}

// TestCgo: the program needs a C compiler for libcontainer's nsenter and for nothing of its own.
func TestCgo(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo in %v: a second C library would end the one static binary", rel(p.ImportPath), p.CgoFiles)
		}
	}
}

// TestProductHasNoTestTools: what tests need is not linked into the program.
func TestProductHasNoTestTools(t *testing.T) {
	for _, p := range packages(t) {
		if !within("cmd", rel(p.ImportPath)) {
			continue
		}
		for _, dep := range p.Deps {
			if dep == "testing" || strings.HasPrefix(dep, "github.com/rogpeppe/") || strings.HasPrefix(dep, "github.com/creack/pty") {
				t.Errorf("%s links %s", rel(p.ImportPath), dep)
			}
		}
	}
}
