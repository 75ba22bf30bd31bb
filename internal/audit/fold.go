// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"container/list"
	"maps"
	"slices"
	"time"
)

// Verbatim is how many events with the same class, action, decision, target, errno and exe are written one by one.
const Verbatim = 16

// Bounds of one share: what a class may use up.
const (
	maxKeys     = 1024      // distinct events to remember
	maxKeyBytes = 768 << 10 // of their fields
	lineRate    = 256 << 10 // bytes of lines per second, in the long run
	lineBurst   = 8 << 20   // bytes of lines at once
)

// ActionOverflow is the action of the event that counts what its class had no room to tell apart.
const ActionOverflow = "events.overflow"

// foldKey is what makes two events the same.
type foldKey struct {
	class         Class
	action        string
	decision      Decision
	target, errno string
	exe           string
}

// entry is one distinct event and how often it was not written.
type entry struct {
	key         foldKey
	sample      Event
	written     int
	count       uint64
	traffic     *Traffic // of those that are counted
	first, last time.Time
	share       *share
	size        int           // that it takes of share.bytes: the sample's may change
	clean       *list.Element // its place in share.clean; nil while count is not 0
}

// share is what the events of one class may use up.
type share struct {
	clean    *list.List // entries that can be forgotten, least recently seen first
	keys     int
	bytes    int
	budget   bucket
	overflow map[overflowKey]*entry
}

type overflowKey struct {
	class    Class
	decision Decision
}

// folder decides which events are written one by one and counts the others. It is not safe for concurrent use.
type folder struct {
	entries map[foldKey]*entry
	shares  map[Class]*share
	dirty   []*entry // entries with a count, first come first
}

func newFolder() *folder {
	return &folder{entries: make(map[foldKey]*entry), shares: make(map[Class]*share)}
}

// foldable tells whether an event can be counted instead of written: it has no body that would be lost.
func foldable(e Event) bool { return e.Class != ClassRun && len(e.Detail) == 0 }

// admit tells whether an event is to be written now; otherwise it has been counted. room says that a place to wait is free.
func (f *folder) admit(e Event, now time.Time, room bool) bool {
	sh := f.share(e, now)
	key := foldKey{e.Class, e.Action, e.Decision, e.Target, e.Errno, e.Exe}
	en, known := f.entries[key]
	if !known {
		en = f.insert(sh, key, e)
	}
	if room && (en == nil || en.written < Verbatim) && sh.budget.take(lineCost(e), now) {
		if en != nil {
			en.written++
			en.touch()
		}
		return true
	}
	if en == nil {
		sh.overflowed(e)
		return false
	}
	if en.count == 0 {
		f.dirty = append(f.dirty, en)
	}
	en.fold(e)
	return false
}

// shareTraffic is the share of what tells how connections ended, which must not take the place of what was denied.
const shareTraffic Class = "traffic"

// share finds the share of an event. Credentials have their own, whatever their class.
func (f *folder) share(e Event, now time.Time) *share {
	name := e.Class
	if e.Severity == SeverityCredential {
		name = ClassCredential
	}
	if !slices.Contains(classes, name) {
		name = "" // there are as many shares as classes
	}
	if e.Traffic != nil {
		name = shareTraffic
	}
	sh := f.shares[name]
	if sh == nil {
		budget := bucket{rate: lineRate, burst: lineBurst, level: lineBurst, last: now}
		sh = &share{clean: list.New(), budget: budget, overflow: make(map[overflowKey]*entry)}
		f.shares[name] = sh
	}
	return sh
}

// insert remembers a new event, in the place of old ones where there is no other; nil if all of those have counts to keep.
func (f *folder) insert(sh *share, key foldKey, e Event) *entry {
	size := entrySize(e)
	for sh.keys >= maxKeys || sh.bytes+size > maxKeyBytes {
		oldest := sh.clean.Front()
		if oldest == nil {
			return nil
		}
		old := sh.clean.Remove(oldest).(*entry)
		delete(f.entries, old.key)
		sh.keys--
		sh.bytes -= old.size
	}
	e.Argv = nil
	en := &entry{key: key, sample: e, share: sh, size: size}
	en.clean = sh.clean.PushBack(en)
	f.entries[key] = en
	sh.keys++
	sh.bytes += size
	return en
}

// flush returns the counts since the last flush as events, as far as each share's budget allows, or all of them.
func (f *folder) flush(now time.Time, all bool) []Event {
	var events []Event
	kept := f.dirty[:0]
	for _, en := range f.dirty {
		if !all && !en.share.budget.take(lineCost(en.sample), now) {
			kept = append(kept, en)
			continue
		}
		events = append(events, en.flush(now))
		en.clean = en.share.clean.PushBack(en)
	}
	clear(f.dirty[len(kept):])
	f.dirty = kept
	for _, name := range slices.Sorted(maps.Keys(f.shares)) {
		sh := f.shares[name]
		for _, key := range slices.SortedFunc(maps.Keys(sh.overflow), compareOverflow) {
			if en := sh.overflow[key]; en.count > 0 {
				events = append(events, en.flush(now))
			}
		}
	}
	return events
}

// overflowed counts an event that there is no entry for.
func (sh *share) overflowed(e Event) {
	key := overflowKey{e.Class, e.Decision}
	en := sh.overflow[key]
	if en == nil {
		en = &entry{share: sh, sample: Event{
			Class: e.Class, Action: ActionOverflow, Decision: e.Decision, Reason: "too many different events to tell apart",
		}}
		if e.Severity == SeverityCredential {
			en.sample.Severity = e.Severity
		}
		sh.overflow[key] = en
	}
	en.fold(e)
}

func compareOverflow(a, b overflowKey) int {
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.decision, b.decision))
}

// touch makes a clean entry the last to be forgotten.
func (en *entry) touch() {
	if en.clean != nil {
		en.share.clean.MoveToBack(en.clean)
	}
}

// fold counts an event. The entry keeps what all of its events have in common.
func (en *entry) fold(e Event) {
	if en.clean != nil {
		en.share.clean.Remove(en.clean)
		en.clean = nil
	}
	if en.count == 0 {
		en.first, en.last = e.Time, e.Time
		if e.Traffic != nil && en.sample.Action != ActionOverflow {
			en.sample.Reason = e.Reason // of those that are counted, not of those that have lines
		}
	}
	if e.Time.Before(en.first) {
		en.first = e.Time
	}
	if e.Time.After(en.last) {
		en.last = e.Time
	}
	en.count += weight(e)
	en.traffic = en.traffic.plus(e.Traffic)
	if e.Traffic != nil && en.sample.Reason != e.Reason && en.sample.Action != ActionOverflow {
		en.sample.Reason = "" // how each ended
	}
	if en.sample.PID != e.PID {
		en.sample.PID, en.sample.PPID = 0, 0
	}
}

// flush makes the event that stands for those that were counted.
func (en *entry) flush(now time.Time) Event {
	e, first, last := en.sample, en.first, en.last
	e.Time, e.Count, e.First, e.Last, e.Traffic = now, en.count, &first, &last, en.traffic
	en.count, en.traffic = 0, nil
	return e
}

// weight is how many accesses an event stands for.
func weight(e Event) uint64 { return max(e.Count, 1) }

// entrySize is about what an entry costs in memory.
func entrySize(e Event) int {
	return 512 + len(e.Target) + len(e.Exe) + len(e.Rule) + len(e.Reason) + len(e.Fix) + len(e.Via)
}

// lineCost is about the length of an event's line.
func lineCost(e Event) int {
	n := 420 + len(e.Detail) // the fixed keys, hash and times
	if e.Traffic != nil {
		n += 160
	}
	for _, f := range e.texts() {
		n += escapedLen(*f.text)
	}
	for _, arg := range e.Argv {
		n += 3 + escapedLen(arg)
	}
	return n
}

func escapedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			n += 5
		}
	}
	return n
}

// bucket holds what may be spent: level now, and rate more for each second, up to burst.
type bucket struct {
	rate, burst, level float64
	last               time.Time
}

func (b *bucket) take(n int, now time.Time) bool {
	if passed := now.Sub(b.last).Seconds(); passed > 0 {
		b.level = min(b.burst, b.level+passed*b.rate)
		b.last = now
	}
	if b.level < float64(n) {
		return false
	}
	b.level -= float64(n)
	return true
}
