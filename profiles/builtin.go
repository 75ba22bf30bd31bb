// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"embed"
	"path"
	"slices"
	"strings"
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

// Lookup returns an embedded profile. The error of an unknown name says which
// there are.
func Lookup(name string) (Profile, error) { return load(name, 0) }

// Named returns the policy of an embedded profile.
func Named(name string) (Policy, error) {
	p, err := Lookup(name)
	return p.Policy, err
}

// ForCommand returns the name of the profile that a command chooses by the
// base name of its first word; "base" if it chooses none.
func ForCommand(argv0 string) string {
	command := path.Base(argv0)
	for _, name := range Names() {
		if p, err := Lookup(name); err == nil && slices.Contains(p.Commands, command) {
			return name
		}
	}
	return baseProfile
}
