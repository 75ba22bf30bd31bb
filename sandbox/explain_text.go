// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// flagOf are the flags that add to the lists of a policy.
var flagOf = map[string]string{
	"read": "--ro", "write": "--rw", "hide": "--hide", "protect": "--protect", "unprotect": "--unprotect", "allow": "--allow-net", "deny": "--deny-net",
	"publish": "--publish", "with": "--with",
}

// From says where an entry of the policy was written, for people.
func (p Plan) From(key, entry string) []string {
	var from []string
	for _, o := range p.policy.Origins(key, entry) {
		place := o.String()
		if place == "" {
			place = flagOf[key]
		}
		from = append(from, fmt.Sprintf("%s: %s (%s)", key, quotePath(entry), quotePath(place)))
	}
	return from
}

// from says where the policy lists what resolves to a path, in one of its lists.
func (p Plan) from(key, target string) (from []string) {
	for _, entry := range p.entries {
		if entry.key == key && within(entry.target, target) {
			from = append(from, p.From(key, entry.entry)...)
		}
	}
	return from
}

// originOf says what asked for a mount.
func (p Plan) originOf(m *Mount) []string {
	for m.Origin == originPin && m.Target != p.Workdir { // the same as above it
		m = p.innermost(filepath.Dir(m.Target))
	}
	if set, ok := strings.CutPrefix(m.Origin, originTools); ok {
		return p.From("with", set)
	}
	if m.Origin != originPolicy {
		if m.Target == p.Workdir {
			return append([]string{"the working directory"}, p.From("workdir", map[bool]string{true: "rw", false: "ro"}[m.Writable])...)
		}
		return []string{m.Origin}
	}
	key := listOf(m.Writable)
	var from []string
	for _, entry := range p.entries {
		if entry.key == key && entry.target == m.Target {
			from = append(from, p.From(key, entry.entry)...)
		}
	}
	return from
}

// entry is a path of the policy, and what it resolved to.
type entry struct {
	key, entry, target string
	embedded           bool // only embedded profiles name it
}

// String is the explanation for people.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", quotePath(e.Asked), e.Access)
	line := func(key, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", key, text)
		}
	}
	if len(e.Links) > 0 {
		line("leads to", quotePath(e.Path)+" through "+quoteAll(e.Links))
	}
	line("why", e.Reason)
	for _, from := range slices.Compact(e.From) {
		line("from", from)
	}
	line("read", e.Read.String())
	line("write", e.Write.String())
	for _, change := range e.Changes {
		line("change", change)
	}
	return b.String()
}

// String is "yes", or "no", with the event.
func (a Attempt) String() string {
	switch {
	case a.Allowed:
		return "yes"
	case a.Event == "":
		return "no, not recorded"
	}
	text := "no, recorded as " + a.Event
	if a.At != "" {
		text += " of " + quotePath(a.At)
	}
	if a.Severity != "" {
		text += ", severity " + a.Severity
	}
	return text
}
