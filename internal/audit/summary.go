// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"encoding/json"
	"slices"
)

// How many denials a summary tells apart. Credentials have places of their own, that noise cannot take.
const (
	maxDenials     = 256
	maxCredentials = 64
)

// maxFailures is how many hosts a summary names that were not reached, and whose certificate was not accepted; and how many ports.
const maxFailures = 32

// ActionDialFailed is the action of an event about a host that was allowed and not reached.
const ActionDialFailed = "dial.failed"

// ActionHandshakeFailed is the action of an event about a client that did not go on with the certificate by which TLS is inspected.
const ActionHandshakeFailed = "tls.handshake_failed"

// ActionListen is the action of an event about a port at which the run listened, and that nobody connected to.
const ActionListen = "tcp.listen"

// Counts says how many accesses a log records, by class and decision.
type Counts map[Class]map[Decision]uint64

func (c Counts) add(e Event) {
	if c[e.Class] == nil {
		c[e.Class] = make(map[Decision]uint64)
	}
	c[e.Class][e.Decision] += weight(e)
}

// remove takes an event back that add has counted.
func (c Counts) remove(e Event) {
	if c[e.Class][e.Decision] -= weight(e); c[e.Class][e.Decision] == 0 {
		delete(c[e.Class], e.Decision)
	}
	if len(c[e.Class]) == 0 {
		delete(c, e.Class)
	}
}

// Summary is what a run's log holds, for the person who ran it.
type Summary struct {
	Run     string   `json:"run"`
	Status  int      `json:"status"`
	Reason  string   `json:"reason,omitempty"`
	Lines   uint64   `json:"lines"`   // of the log
	Counts  Counts   `json:"counts"`  // what they record
	Denied  uint64   `json:"denied"`  // accesses denied, without noise
	Noise   uint64   `json:"noise"`   // accesses denied that mean nothing
	Dropped uint64   `json:"dropped"` // events that are not in the log
	Top     []Denial `json:"top,omitempty"`
	More    uint64   `json:"more,omitempty"` // accesses denied that Top has no place for
	// Unreached are hosts that were allowed and not reached, in the order of the first failure; the first few of them.
	Unreached []Failure `json:"unreached,omitempty"`
	// Unaccepted are hosts whose TLS is inspected, and for which a client did not accept the certificate; as Unreached.
	Unaccepted []Failure `json:"unaccepted,omitempty"`
	// Unpublished are ports at which the run listened, and that nobody could reach but the run itself, which did not; as Unreached.
	Unpublished []Failure `json:"unpublished,omitempty"`
	Head        string    `json:"head"` // hash of the last line; what Verify finds must be the same
	// Troubles are the copies of the log that lack lines, and the log itself where it does although the run went on.
	Troubles []Trouble `json:"troubles,omitempty"`
}

// Trouble is a place where the log, or a part of it, could not be written.
type Trouble struct {
	Copy  string `json:"copy,omitempty"`  // empty: the log itself
	Error string `json:"error,omitempty"` // why it takes no more lines
	Lines uint64 `json:"lines,omitempty"` // that a copy does not have; of the log itself, Summary.Dropped says it
}

// MarshalJSON writes any bytes as Event does.
func (t Trouble) MarshalJSON() ([]byte, error) {
	type plain Trouble
	t.Copy, t.Error = quote(t.Copy), quote(t.Error)
	data, err := json.Marshal(plain(t))
	return asciiJSON(nil, data), err
}

// Denial is what was denied, each once: credentials first, then limits, then what was denied most often.
type Denial struct {
	Class    Class  `json:"class"`
	Action   string `json:"action"`
	Target   string `json:"target,omitempty"`
	Severity string `json:"severity,omitempty"`
	Reason   string `json:"reason,omitempty"` // of the first
	Fix      string `json:"fix,omitempty"`    // of the first: the flag that would allow it
	Exe      string `json:"exe,omitempty"`    // of the first
	Count    uint64 `json:"count"`

	order int
}

// MarshalJSON writes any bytes as Event does.
func (d Denial) MarshalJSON() ([]byte, error) {
	type plain Denial
	for _, text := range []*string{&d.Target, &d.Reason, &d.Fix, &d.Exe} {
		*text = quote(*text)
	}
	data, err := json.Marshal(plain(d))
	return asciiJSON(nil, data), err
}

// Failure is what was allowed and did not succeed.
type Failure struct {
	Target string `json:"target"`
	Reason string `json:"reason,omitempty"` // of the last
	Count  uint64 `json:"count"`
}

// MarshalJSON writes any bytes as Event does.
func (f Failure) MarshalJSON() ([]byte, error) {
	type plain Failure
	f.Target, f.Reason = quote(f.Target), quote(f.Reason)
	data, err := json.Marshal(plain(f))
	return asciiJSON(nil, data), err
}

// Finding is what a run left that a program of the host would later run or follow: an event of class workspace.
type Finding struct {
	Action string `json:"action"`
	Target string `json:"target,omitempty"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count,omitempty"` // of files, if more than one
}

// MarshalJSON writes any bytes as Event does.
func (f Finding) MarshalJSON() ([]byte, error) {
	type plain Finding
	f.Target, f.Reason = quote(f.Target), quote(f.Reason)
	data, err := json.Marshal(plain(f))
	return asciiJSON(nil, data), err
}

// tally collects the denials of a summary, and what was not reached. It is not safe for concurrent use.
type tally struct {
	failures            []Failure // hosts not reached
	unaccepted          []Failure // whose certificate of inspected TLS a client did not accept
	unpublished         []Failure // ports at which the run listened for nobody
	denials             map[denialKey]*Denial
	ordinary            int // entries of denials that are not credentials
	denied, noise, more uint64
}

type denialKey struct {
	class          Class
	action, target string
}

func (t *tally) add(e Event) {
	switch {
	case e.Class != ClassNet:
	case e.Action == ActionDialFailed:
		t.failures = fail(t.failures, e)
	case e.Action == ActionHandshakeFailed:
		t.unaccepted = fail(t.unaccepted, e)
	case e.Action == ActionListen:
		t.unpublished = fail(t.unpublished, e)
	}
	if e.Decision != Deny {
		return
	}
	if e.Severity == SeverityNoise {
		t.noise += weight(e)
		return
	}
	t.denied += weight(e)
	key := denialKey{e.Class, e.Action, e.Target}
	d := t.denials[key]
	if d == nil {
		if !t.place(e) {
			t.more += weight(e)
			return
		}
		if t.denials == nil {
			t.denials = make(map[denialKey]*Denial)
		}
		d = &Denial{
			Class: e.Class, Action: e.Action, Target: e.Target, Severity: e.Severity, Reason: e.Reason, Fix: e.Fix, Exe: e.Exe,
			order: len(t.denials),
		}
		t.denials[key] = d
	}
	d.Count += weight(e)
}

// fail counts a failure by its host or port.
func fail(failures []Failure, e Event) []Failure {
	i := slices.IndexFunc(failures, func(f Failure) bool { return f.Target == e.Target })
	if i < 0 {
		if len(failures) == maxFailures {
			return failures
		}
		i = len(failures)
		failures = append(failures, Failure{Target: e.Target})
	}
	failures[i].Reason = e.Reason
	failures[i].Count += weight(e)
	return failures
}

// place takes a place for a new denial.
func (t *tally) place(e Event) bool {
	if e.Severity == SeverityCredential {
		return len(t.denials)-t.ordinary < maxCredentials
	}
	if t.ordinary == maxDenials {
		return false
	}
	t.ordinary++
	return true
}

func (t *tally) top() []Denial {
	top := make([]Denial, 0, len(t.denials))
	for _, d := range t.denials {
		top = append(top, *d)
	}
	slices.SortFunc(top, func(a, b Denial) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.Count, a.Count), cmp.Compare(a.order, b.order))
	})
	return top
}

func (d Denial) rank() int {
	switch {
	case d.Severity == SeverityCredential:
		return 0
	case d.Class == ClassLimit: // why what came after it was denied
		return 1
	}
	return 2
}
