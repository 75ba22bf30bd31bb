// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// dump writes a tree with a line for each entry.
func dump(e *entry) []string {
	kind := map[entryKind]string{entryAncestor: "dir", entryGrantDir: "GRANT", entryGrantFile: "grant", entrySymlink: "link"}[e.kind]
	if e.union {
		kind += "+home"
	}
	line := kind + " " + e.path
	if e.target != "" {
		line += " -> " + e.target
	}
	lines := []string{line}
	for _, name := range e.names {
		lines = append(lines, dump(e.children[name])...)
	}
	return lines
}

func TestNewTree(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want []string
	}{
		{"zero", Config{}, []string{"dir /"}},
		{"ancestors and links", Config{
			Grants:   []Grant{{"/usr", true}, {"/etc/passwd", false}, {"/etc/ssl/certs", true}},
			Symlinks: map[string]string{"/bin": "usr/bin", "/var/run": "/run"},
		}, []string{
			"dir /", "link /bin -> usr/bin", "dir /etc", "grant /etc/passwd", "dir /etc/ssl", "GRANT /etc/ssl/certs",
			"GRANT /usr", "dir /var", "link /var/run -> /run",
		}},
		{"inside a grant nothing is laid out", Config{
			Grants:   []Grant{{"/usr/local/lib", true}, {"/usr", true}, {"/usr/share/x", false}, {"/usr", true}},
			Symlinks: map[string]string{"/usr/tmp": "/tmp"},
		}, []string{"dir /", "GRANT /usr"}},
		{"home", Config{
			Grants: []Grant{{"/home/u/src/p", true}, {"/home/v/x", false}},
			Home:   HomeConfig{Path: "/home/u", Private: "/p", Dirs: []string{".cache", ".local/share"}},
		}, []string{
			"dir /", "dir /home", "dir+home /home/u", "GRANT /home/u/.cache", "dir+home /home/u/.local",
			"GRANT /home/u/.local/share", "dir+home /home/u/src", "GRANT /home/u/src/p", "dir /home/v", "grant /home/v/x",
		}},
		{"home inside home", Config{
			Grants: []Grant{{"/home/user2/x", true}},
			Home:   HomeConfig{Path: "/home/user", Private: "/p"},
		}, []string{"dir /", "dir /home", "dir+home /home/user", "dir /home/user2", "GRANT /home/user2/x"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree, err := NewTree(test.c)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(tree.root); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestNewTreeRefuses(t *testing.T) {
	long := "/" + strings.Repeat("x", maxPath)
	tests := map[string]Config{
		"a relative grant":           {Grants: []Grant{{"usr", true}}},
		"an unclean grant":           {Grants: []Grant{{"/usr/../etc", true}}},
		"a trailing slash":           {Grants: []Grant{{"/usr/", true}}},
		"an empty path":              {Grants: []Grant{{"", true}}},
		"the root":                   {Grants: []Grant{{"/", true}}},
		"a long path":                {Grants: []Grant{{long, true}}},
		"a NUL":                      {Grants: []Grant{{"/a\x00b", true}}},
		"a place below a file":       {Grants: []Grant{{"/a", false}, {"/a/b", true}}},
		"file and directory":         {Grants: []Grant{{"/a", false}, {"/a", true}}},
		"a grant with grants in it":  {Grants: []Grant{{"/a/b", true}}, Symlinks: map[string]string{"/a": "/b"}},
		"a place below a link":       {Symlinks: map[string]string{"/a": "/c", "/a/b": "/d"}},
		"an empty link":              {Symlinks: map[string]string{"/a": ""}},
		"a long link":                {Symlinks: map[string]string{"/a": long}},
		"a relative link":            {Symlinks: map[string]string{"a": "/b"}},
		"a relative hidden place":    {Hidden: []Hide{{Path: "a", Dir: true}}},
		"a place shown beside":       {Hidden: []Hide{{Path: "/a", Dir: true, Shown: []Grant{{"/b/c", true}}}}},
		"a hidden place shown":       {Hidden: []Hide{{Path: "/a", Dir: true, Shown: []Grant{{"/a", true}}}}},
		"a place in a hidden file":   {Hidden: []Hide{{Path: "/a", Shown: []Grant{{"/a/b", true}}}}},
		"a place shown below a file": {Hidden: []Hide{{Path: "/a", Dir: true, Shown: []Grant{{"/a/b", false}, {"/a/b/c", true}}}}},
		"a relative home":            {Home: HomeConfig{Path: "home"}},
		"the root as home":           {Home: HomeConfig{Path: "/"}},
		"a granted home":             {Grants: []Grant{{"/home/u", true}}, Home: HomeConfig{Path: "/home/u"}},
		"a home in a grant":          {Grants: []Grant{{"/home", true}}, Home: HomeConfig{Path: "/home/u"}},
		"a name out of the home":     {Home: HomeConfig{Path: "/home/u", Dirs: []string{"../v"}}},
		"an absolute name":           {Home: HomeConfig{Path: "/home/u", Names: []string{"/etc"}}},
		"an empty name":              {Home: HomeConfig{Path: "/home/u", Names: []string{""}}},
	}
	for name, c := range tests {
		_, err := NewTree(c)
		var refused *ConfigError
		if !errors.As(err, &refused) || refused.Problem == "" {
			t.Errorf("%s: got %v, want a ConfigError", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Grants: []Grant{{"usr", true}}}); err == nil {
		t.Error("a bad grant was accepted")
	}
	none := t.TempDir() + "/none"
	if _, err := New(Config{Home: HomeConfig{Path: "/home/u", Private: none}}); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("a private home that is not there: %v", err)
	}
}

func TestPathRelations(t *testing.T) {
	for _, test := range []struct {
		p, dir string
		want   bool
	}{
		{"/a/b", "/a", true},
		{"/a/b/c", "/a", true},
		{"/a", "/a", false},
		{"/ab", "/a", false},
		{"/a/", "/a", false},
		{"", "/a", false},
	} {
		if got := below(test.p, test.dir); got != test.want {
			t.Errorf("below(%q, %q) = %v", test.p, test.dir, got)
		}
	}
	tree, err := NewTree(Config{Home: HomeConfig{Path: "/home/u", Names: []string{"own", "a/b"}}})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"/home/u": " true", "/home/u/x/y": "x/y true", "/home": " false", "/home/u2": " false"} {
		rel, ok := tree.relative(p)
		if got := fmt.Sprint(rel, " ", ok); got != want {
			t.Errorf("relative(%q) = %s, want %s", p, got, want)
		}
	}
	for p, want := range map[string]bool{
		"/home/u/own": true, "/home/u/own/x": true, "/home/u/owner": false, "/home/u": false, "/home/u/a": false, "/home/u/a/b": true, "/own": false,
	} {
		if got := tree.owns(p); got != want {
			t.Errorf("owns(%q) = %v", p, got)
		}
	}
}
