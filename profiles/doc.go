// SPDX-License-Identifier: Apache-2.0

// Package profiles says what a run may do. It holds the Policy type, its YAML
// form, the way in which layers of it are merged, and the profile of each
// agent that is embedded in the program.
//
// A Policy is an immutable value: its fields are not exported, and every
// modifier returns a changed copy. The zero Policy grants nothing: no path, no
// host, no variable. A policy is built from layers, the later over the earlier:
//
//	p, err := profiles.Named(profiles.ForCommand(argv[0]))   // embedded profile
//	user, err := profiles.Parse("policy.yaml", text)         // a file
//	p = p.With(user)
//	p, err = p.WithRead("/srv/data")                         // a flag
//
// Lists add up, scalars of the later layer win where they are set, and of what
// the lists say the most specific path counts, in whatever order the layers come
// (see Policy.With).
//
// # What it refuses
//
// A rule that cannot mean anything is an error, not a rule that never matches:
// unknown and repeated keys, wrong types, a document without content or
// version, names of groups and profiles that do not exist, relative paths,
// paths with a trailing slash or "..", addresses in a host rule, a wildcard
// over a public suffix, port 0. Errors are of type *Error and carry line and
// column. Input is hostile until it is parsed: its size, nesting and number of
// keys are bounded, and anchors, aliases, tags and merge keys are refused.
//
// # Limits
//
// The package is pure: it never looks at the host. Whether a path exists, what
// "~/" means and which symbolic links lead where is for package sandbox, which
// must apply the same precedence again to what the paths resolve to. Nor does
// it judge who wrote a policy: whether a file found in a repository may widen
// one is for the caller.
package profiles
