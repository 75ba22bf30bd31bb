// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"embed"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
)

//go:embed toolchains/*.yaml
var toolchains embed.FS

// Toolchain is a named set of what a language's tools consist of where they are installed below the home: see Files.With. It never
// names what is written as the tools work, nor the credentials that lie beside them.
type Toolchain struct {
	Name        string
	Description string
	Digest      string // of the set's text, as "sha256:<hex>"
	// Pass lists variables whose value enters, as those of Environment: by them the tools find one another.
	Pass   []string
	Places []ToolPlace
}

// ToolPlace is a directory in which a manager of tools keeps them.
type ToolPlace struct {
	At       string // where the manager puts it, "~/..." or absolute; empty if only Variable says it
	Variable string // of the caller, that names other directories where it is set, as PATH does
	// Read lists what may be read, with all below, relative to the directory. Each name between slashes is a pattern of path.Match.
	// Without it At itself may be read.
	Read []string
	// Hide lists, in the same form, files in that which hold credentials.
	Hide []string
}

// ToolchainNames returns the names of the sets, sorted.
func ToolchainNames() []string {
	entries, err := toolchains.ReadDir("toolchains")
	if err != nil {
		panic("bug: the embedded sets of tools cannot be listed: " + err.Error())
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(names)
	return names
}

// ToolchainText returns the text of a set, as it is embedded.
func ToolchainText(name string) ([]byte, error) {
	if err := checkToolchain(name); err != nil {
		return nil, err
	}
	return toolchains.ReadFile("toolchains/" + name + ".yaml")
}

// knownToolchains holds the sets that were read, by name.
var knownToolchains sync.Map

// LookupToolchain returns a set. The error of an unknown name says which there are. What is returned must not be changed.
func LookupToolchain(name string) (Toolchain, error) {
	if t, ok := knownToolchains.Load(name); ok {
		return t.(Toolchain), nil
	}
	text, err := ToolchainText(name)
	if err != nil {
		return Toolchain{}, err
	}
	t, err := parseToolchain("with:"+name, text)
	if err != nil {
		return Toolchain{}, err
	}
	t.Name = name
	knownToolchains.Store(name, t)
	return t, nil
}

// checkToolchain accepts the name of a set.
func checkToolchain(name string) error {
	if names := ToolchainNames(); !slices.Contains(names, name) {
		return errorf("the set of tools %s is unknown: there are %s", show(name), strings.Join(names, ", "))
	}
	return nil
}

// parseToolchain reads the text of a set.
func parseToolchain(source string, text []byte) (Toolchain, error) {
	t := Toolchain{Digest: digest(text)}
	d := decoder{reader: reader{source: source}}
	root, err := parseDocument(source, text)
	if err != nil {
		return t, err
	}
	err = d.mapping(root, "a set of tools", []field{
		{"description", func(n ast.Node) (err error) { t.Description, err = d.text(n); return err }},
		{"pass", func(n ast.Node) error {
			return d.strings(n, "pass", &t.Pass, func(name string) error { return checkVariable(name, false) })
		}},
		{"places", func(n ast.Node) error {
			return d.list(n, "places", func(entry ast.Node) error {
				place, err := d.toolPlace(entry)
				t.Places = append(t.Places, place)
				return err
			})
		}},
	})
	return t, err
}

func (d *decoder) toolPlace(n ast.Node) (ToolPlace, error) {
	var p ToolPlace
	err := d.mapping(n, "a place of tools", []field{
		{"at", func(n ast.Node) (err error) {
			if p.At, err = d.text(n); err == nil && checkGrant(p.At) != nil {
				err = d.fail(n, checkGrant(p.At))
			}
			return err
		}},
		{"variable", func(n ast.Node) (err error) {
			if p.Variable, err = d.text(n); err == nil && checkVariable(p.Variable, false) != nil {
				err = d.fail(n, checkVariable(p.Variable, false))
			}
			return err
		}},
		{"read", func(n ast.Node) error { return d.strings(n, "read", &p.Read, checkToolPath) }},
		{"hide", func(n ast.Node) error { return d.strings(n, "hide", &p.Hide, checkToolPath) }},
	})
	if err == nil && (p.At == "" && p.Variable == "" || p.Variable != "" && len(p.Read) == 0) {
		err = d.fail(n, errorf("a place of tools needs at or variable, and with a variable read"))
	}
	return p, err
}

// checkToolPath accepts a pattern below a place: not the place itself, in which there may be anything.
func checkToolPath(p string) error {
	_, err := path.Match(p, "")
	switch {
	case err != nil:
		return errorf("pattern %s: %v", show(p), err)
	case p == "" || p[0] == '/' || p[0] == '~' || path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return errorf("pattern %s must name something below its place", show(p))
	case strings.HasPrefix(p, "*"):
		return errorf("pattern %s cannot begin with *: it would match everything", show(p))
	}
	return nil
}

// WithToolchains returns the policy with further sets of tools.
func (p Policy) WithToolchains(names ...string) (Policy, error) {
	return p.withPaths("with", names, checkToolchain, func(f *Files) { f.With = names })
}

// toolVariables are those that the sets of a policy pass.
func (f Files) toolVariables() (env Environment) {
	for _, name := range f.With {
		if t, err := LookupToolchain(name); err == nil { // no policy has the name of another
			env.Pass = unite(env.Pass, t.Pass)
		}
	}
	return env
}
