// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"cmp"
	"fmt"
	"slices"
)

// Finding is one thing that a run left. Path and Reason may hold any bytes that a name can.
type Finding struct {
	Kind   Kind
	Path   string
	Reason string
	Count  uint64 // of files it stands for, if more than one
	Before bool   // it was there before the run

	key string // those with the same are counted together
}

// maxFindings is how many of a kind are told apart.
const maxFindings = 64

// findings collects them.
type findings struct {
	list []Finding
	keys map[string]int // places in list
	kept map[Kind]int
	more map[Kind]uint64
}

// add takes one finding. Those with the same key, if not "", are one.
func (fs *findings) add(f Finding) {
	if fs.kept == nil {
		fs.keys, fs.kept, fs.more = map[string]int{}, map[Kind]int{}, map[Kind]uint64{}
	}
	if i, ok := fs.keys[f.key]; ok && f.key != "" {
		fs.list[i].Count = max(fs.list[i].Count, 1) + 1
		return
	}
	if fs.kept[f.Kind] == maxFindings {
		fs.more[f.Kind]++
		return
	}
	fs.kept[f.Kind]++
	if f.key != "" {
		fs.keys[f.key] = len(fs.list)
	}
	fs.list = append(fs.list, f)
}

// only are those of some kinds, with what there was no place for.
func (fs *findings) only(wanted ...Kind) []Finding {
	return slices.DeleteFunc(fs.sorted(), func(f Finding) bool { return !slices.Contains(wanted, f.Kind) && f.Kind != Truncated })
}

// sorted are all of them, most dangerous first, and after them how many there was no place for.
func (fs *findings) sorted() []Finding {
	list := slices.Clone(fs.list)
	for _, kind := range kinds {
		if n := fs.more[kind]; n > 0 {
			list = append(list, Finding{Kind: Truncated, Reason: fmt.Sprintf("more %s than are listed", kind), Count: n})
		}
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// rank is the place of a finding among others: what the run left before what was there.
func rank(f Finding) int {
	i := slices.Index(kinds, f.Kind)
	if f.Before {
		i += len(kinds)
	}
	return i
}
