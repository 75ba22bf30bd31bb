// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Environment says which variables enter a run. All others are withheld.
type Environment struct {
	// Pass lists the names whose value is the caller's; one that ends in *
	// stands for all names that begin so. Sorted.
	Pass []string
	// Set gives variables a value of their own, over what Pass says.
	Set map[string]string
}

// Select parts the caller's environment, in the form of os.Environ: kept is
// what the run gets, including the variables that are set, sorted by name;
// withheld is the names of the rest, sorted. Of a name that appears twice the
// first counts, as for getenv(3); an entry without a name is dropped.
func (e Environment) Select(environ []string) (kept, withheld []string) {
	seen := make(map[string]bool, len(environ))
	for _, entry := range environ {
		name, _, ok := strings.Cut(entry, "=")
		if !ok || name == "" || seen[name] {
			continue
		}
		seen[name] = true
		if _, set := e.Set[name]; set {
			continue
		}
		if e.passes(name) {
			kept = append(kept, entry)
		} else {
			withheld = append(withheld, name)
		}
	}
	for name, value := range e.Set {
		kept = append(kept, name+"="+value)
	}
	slices.Sort(kept)
	slices.Sort(withheld)
	return kept, withheld
}

// passes reports whether the caller's value of a variable may enter.
func (e Environment) passes(name string) bool {
	return slices.ContainsFunc(e.Pass, func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return pattern == name || wild && strings.HasPrefix(name, prefix)
	})
}

// with merges two layers; for a name that one of them passes and the other
// sets, the later decides.
func (e Environment) with(over Environment) Environment {
	out := Environment{Pass: unite(e.Pass, over.Pass)}
	passed := setOf(over.Pass)
	for name, value := range e.Set {
		if !passed[name] {
			out.set(name, value)
		}
	}
	for name, value := range over.Set {
		out.set(name, value)
	}
	out.Pass = without(out.Pass, func(name string) bool {
		_, set := out.Set[name]
		return set
	})
	return out
}

func (e *Environment) set(name, value string) {
	if e.Set == nil {
		e.Set = map[string]string{}
	}
	e.Set[name] = value
}

// names returns the variables that are set, sorted.
func (e Environment) names() []string {
	return slices.Sorted(maps.Keys(e.Set))
}

// maxValue bounds a variable; MAX_ARG_STRLEN of execve(2) is 128 KiB with the
// name.
const maxValue = 64 << 10

// parseVariable reads NAME or NAME=VALUE.
func parseVariable(s string) (Environment, error) {
	name, value, set := strings.Cut(s, "=")
	if !set {
		if err := checkVariable(name, true); err != nil {
			return Environment{}, err
		}
		return Environment{Pass: []string{name}}, nil
	}
	if err := checkVariable(name, false); err != nil {
		return Environment{}, err
	}
	if err := checkValue(name, value); err != nil {
		return Environment{}, err
	}
	return Environment{Set: map[string]string{name: value}}, nil
}

// checkVariable accepts the name of a variable, in the form that POSIX gives
// it (Base Definitions, 8.1), in either case; with a * at the end if a pattern
// may stand there.
func checkVariable(name string, pattern bool) error {
	bare := name
	if pattern {
		bare = strings.TrimSuffix(name, "*")
	}
	if bare == "" && name != "" {
		return errorf("variable * would pass the whole environment: name what is needed")
	}
	valid := bare != "" && (bare[0] < '0' || bare[0] > '9')
	for i := range len(bare) {
		c := bare[i]
		valid = valid && (c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if !valid {
		return errorf("%s is not the name of a variable: letters, digits and underscores%s",
			show(name), map[bool]string{true: ", with a * at most at the end"}[pattern])
	}
	return nil
}

// checkValue accepts the value of a variable. The value may be a credential,
// so no error shows it.
func checkValue(name, value string) error {
	if !utf8.ValidString(value) || strings.Contains(value, "\x00") {
		return errorf("the value of %s has a NUL byte or is not UTF-8", name)
	}
	if len(value) > maxValue {
		return errorf("the value of %s is longer than %d bytes", name, maxValue)
	}
	return nil
}
