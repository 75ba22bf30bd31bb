// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"embed"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// baseProfile is what every other embedded profile extends, and the profile of
// a command that has none of its own.
const baseProfile = "base"

// Profile is an embedded profile: a policy, and what chooses it.
type Profile struct {
	Name        string
	Description string
	// Commands lists the base names of commands that choose the profile.
	Commands []string
	Policy   Policy
}

// Names returns the names of the embedded profiles, sorted.
func Names() []string {
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		panic("bug: the embedded profiles cannot be listed: " + err.Error())
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(names)
	return names
}

// loaded holds the embedded profiles that were read, by name: reading one takes
// a millisecond, and most extend base.
var loaded sync.Map

// Lookup returns an embedded profile. The error of an unknown name says which
// there are.
func Lookup(name string) (Profile, error) {
	p, err := load(name, 0)
	p.Commands = slices.Clone(p.Commands)
	return p, err
}

// Named returns the policy of an embedded profile.
func Named(name string) (Policy, error) {
	p, err := load(name, 0)
	return p.Policy, err
}

// ForCommand returns the name of the profile that a command chooses by the
// base name of its first word; "base" if it chooses none. It reads only the
// profiles whose line of commands has the word in it, to start fast.
func ForCommand(argv0 string) string {
	command := path.Base(argv0)
	for _, name := range Names() {
		if !mentions(name, command) {
			continue
		}
		if p, err := load(name, 0); err == nil && slices.Contains(p.Commands, command) {
			return name
		}
	}
	return baseProfile
}

// mentions reports whether the line of an embedded profile that lists its
// commands has the word in it.
func mentions(name, word string) bool {
	text, err := builtin.ReadFile(builtinPath(name))
	if err != nil {
		return false
	}
	_, line, _ := strings.Cut("\n"+string(text), "\ncommands:")
	line, _, _ = strings.Cut(line, "\n")
	return strings.Contains(line, word)
}

func builtinPath(name string) string { return "builtin/" + name + ".yaml" }

// maxExtends bounds how deep embedded profiles extend one another.
const maxExtends = 8

// load reads an embedded profile and what it extends.
func load(name string, depth int) (Profile, error) {
	if p, ok := loaded.Load(name); ok {
		return p.(Profile), nil
	}
	if !slices.Contains(Names(), name) {
		return Profile{}, errorf("profile %s is unknown: there are %s", show(name), strings.Join(Names(), ", "))
	}
	if depth > maxExtends {
		return Profile{}, errorf("bug: profile %s is extended more than %d deep", name, maxExtends)
	}
	text, err := builtin.ReadFile(builtinPath(name))
	if err != nil {
		return Profile{}, errorf("bug: profile %s: %v", name, err)
	}
	source := "profile:" + name
	d := decoder{reader: reader{source: source}, embedded: true, depth: depth}
	d.layer.name = name
	if err := d.document(text); err != nil {
		return Profile{}, err
	}
	p := Profile{
		Name:        name,
		Description: d.description,
		Commands:    d.commands,
		Policy:      d.result(Source{Name: source, Digest: digest(text)}),
	}
	loaded.Store(name, p)
	return p, nil
}
