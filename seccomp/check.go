// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// list gives one verdict to calls.
type list struct {
	Name  string // for errors
	Calls string
	Then  Verdict
}

var lists = []list{
	{"allowList", allowList, allowed},
	{"denyList", denyList, refused},
	{"absentList", absentList, unknown},
	{"writeList", writeList, Verdict{Kind: Write}},
	{"connectList", connectList, Verdict{Kind: Connect}},
	{"listenList", listenList, Verdict{Kind: Listen}},
}

// An Error is a fault of a policy that would make a rule mean something else than it says, or nothing. It does not start a run.
type Error struct {
	Place  string // a word of a list, or a clause of a call's rule, counted from 1
	Reason string
}

func (e *Error) Error() string { return "seccomp: " + e.Place + ": " + e.Reason }

func wrong(place, reason string, args ...any) error {
	return &Error{place, fmt.Sprintf(reason, args...)}
}

// known are the names of all tables.
var known = sync.OnceValue(func() map[string]bool {
	names := make(map[string]bool, 512)
	for _, t := range tables {
		for _, n := range t {
			names[n.Name] = true
		}
	}
	return names
})

// add gives the calls of a list its verdict. No other list may have said anything of them.
func (p *Policy) add(l list) error {
	for i, name := range strings.Fields(l.Calls) {
		place := func() string { return fmt.Sprintf("%s, word %d", l.Name, i+1) }
		if !known()[name] {
			return wrong(place(), "%s is a system call of no architecture", name)
		}
		if _, ok := p.rules[name]; ok {
			return wrong(place(), "%s is on a list already", name)
		}
		p.rules[name] = rule{Otherwise: l.Then}
	}
	return nil
}

// set replaces what a list says of a call.
func (p *Policy) set(name string, r rule) error {
	if _, ok := p.rules[name]; !ok {
		return wrong("rule of "+name, "it is on no list")
	}
	if err := r.check(name); err != nil {
		return err
	}
	p.rules[name] = r
	return nil
}

// check refuses clauses that no call can reach: what they say would not hold.
func (r rule) check(name string) error {
	for i, c := range r.Clauses {
		place := fmt.Sprintf("rule of %s, clause %d", name, i+1)
		if reason := c.impossible(); reason != "" {
			return wrong(place, "can never match: %s", reason)
		}
		for j, earlier := range r.Clauses[:i] {
			switch {
			case !earlier.covers(c):
			case earlier.Then == c.Then:
				return wrong(place, "can never match: clause %d has said the same", j+1)
			default:
				return wrong(place, "contradicts clause %d, which is asked first", j+1)
			}
		}
	}
	if n := len(r.Clauses); n > 0 && r.Clauses[n-1].Then == r.Otherwise {
		return wrong(fmt.Sprintf("rule of %s, clause %d", name, n), "changes nothing: all else is answered the same")
	}
	return nil
}

// impossible says why no call can meet all tests of a clause, "" if one can.
func (c clause) impossible() string {
	for i, t := range c.Tests {
		for _, v := range t.In {
			if v&^t.Mask != 0 {
				return fmt.Sprintf("argument %d is compared with %#x, which has bits that the mask %#x takes away", t.Arg+1, v, t.Mask)
			}
		}
		if t.Mask == 0 || len(t.In) == 0 {
			return fmt.Sprintf("argument %d is compared with nothing", t.Arg+1)
		}
		for _, other := range c.Tests[:i] {
			if other.Arg == t.Arg && other.High == t.High && other.Mask == t.Mask && disjoint(other, t) {
				return fmt.Sprintf("argument %d cannot be both", t.Arg+1)
			}
		}
	}
	return ""
}

// disjoint tells of two tests of the same bits that none of their values meets both.
func disjoint(a, b test) bool {
	if a.Not && b.Not {
		return false
	}
	if a.Not {
		a, b = b, a
	}
	return !slices.ContainsFunc(a.In, func(v uint32) bool { return slices.Contains(b.In, v) != b.Not })
}

// covers tells whether every call that meets the other clause meets this one: each of its tests follows from one of the other's.
func (c clause) covers(other clause) bool {
	for _, t := range c.Tests {
		if !slices.ContainsFunc(other.Tests, func(o test) bool { return o.implies(t) }) {
			return false
		}
	}
	return true
}

func (t test) implies(other test) bool {
	if t.Arg != other.Arg || t.High != other.High {
		return false
	}
	if reflect.DeepEqual(t, other) {
		return true
	}
	if !t.Not { // each of the values is tried
		return other.Mask&^t.Mask == 0 && !slices.ContainsFunc(t.In, func(v uint32) bool { return slices.Contains(other.In, v&other.Mask) == other.Not })
	}
	return other.Not && t.Mask == other.Mask && !slices.ContainsFunc(other.In, func(v uint32) bool { return !slices.Contains(t.In, v) })
}
