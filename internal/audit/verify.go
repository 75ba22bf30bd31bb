// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
)

// Verification is what Verify found.
type Verification struct {
	Run      string // id of the run; of the first line
	First    uint64 // its number: 1, unless it begins with a later segment
	Segment  int    // number of the segment that it begins with
	Segments int    // how many it has
	Next     int    // number of the one that is to follow the last line; 0: none
	Events   uint64 // lines that are good
	Head     string // hash of the last good line; of a log that is whole, what the run printed at its end
	Complete bool   // run.end is there, and nothing after it
	Status   int    // exit code that run.end tells
	Dropped  uint64 // events that run.end says are not in the log
	Failed   int    // how often the log could not be written for a time; what it lacks is in Dropped
	CutOff   bool   // the last line has no end; it is not complete then

	Signer PublicKey // key that the signatures name; empty where there are none
	Signed uint64    // good lines up to the last that is signed

	// FirstBad is the first line that is not as it was written; nil if there is none. Nothing after it has been looked at.
	FirstBad *LineError
}

// SchemaError says that a log has a form that this version does not know.
type SchemaError struct{ Got int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the log has schema %d and this version of agentjail reads %d; use the version that wrote it", e.Got, Schema)
}

// Verify reads a log to its end or to the first bad line. It tells three cases apart: FirstBad is set (the log was changed),
// Complete is false (it ends too early: the run goes on, or was killed, or its end was cut away), or neither. An error means
// that it could not be read.
//
// Signatures must be those of key. Where key is empty, the one that the log names is taken: that tells lines that were changed
// after they were signed, and not who signed. A log without signatures has no Signer, and may be made anew by anybody.
func Verify(r io.Reader, key PublicKey) (Verification, error) {
	v := verifier{lines: newLineReader(r), key: key, prev: firstPrev, counts: make(Counts)}
	for {
		line, err := v.lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return v.report, nil
		case errors.Is(err, ErrCutOff):
			return v.cutOff(), nil
		case errors.Is(err, errTooLong):
			return v.bad(v.lines.number, err), nil
		case err != nil:
			return v.report, err
		}
		if number, err := v.check(line); err != nil {
			var schema *SchemaError
			if errors.As(err, &schema) {
				return v.report, schema
			}
			return v.bad(number, err), nil
		}
	}
}

type verifier struct {
	lines   *lineReader
	report  Verification
	key     PublicKey // that must have signed; empty: any
	policy  string    // digest in run.start
	prev    string    // hash of the last line
	counts  Counts
	dropped uint64 // that events.dropped told of
}

func (v *verifier) bad(number int, err error) Verification {
	v.report.FirstBad = &LineError{number, err.Error()}
	v.report.Complete = false
	return v.report
}

// cutOff is the end of a log whose last line has no end. After run.end there is no line that could have been cut.
func (v *verifier) cutOff() Verification {
	if v.report.Complete {
		return v.bad(v.lines.number, errAppended)
	}
	v.report.CutOff = true
	return v.report
}

var errAppended = errors.New("stands after run.end")

// check takes the next line. Its error is about line number, which is this line or the one before.
func (v *verifier) check(line []byte) (number int, err error) {
	number = v.lines.number
	if v.report.Complete {
		return number, errAppended
	}
	e, err := decode(line)
	if err != nil {
		return number, err
	}
	if err := v.place(e); err != nil {
		return number, err
	}
	hash := hashLine(line)
	if e.Prev != v.prev {
		return v.blame(number, e, hash)
	}
	if err := v.signature(e); err != nil {
		return number, err
	}
	if err := v.content(e); err != nil {
		return number, err
	}
	v.counts.add(e)
	v.prev = hash
	v.report.Head = hash
	v.report.Events++
	return number, nil
}

// place checks that an event is of this log and follows the one before.
func (v *verifier) place(e Event) error {
	first := v.report.Events == 0
	start, segment := e.Class == ClassRun && e.Action == ActionStart, e.Class == ClassRun && e.Action == ActionSegment
	if first {
		v.report.Run, v.report.First = e.Run, 1
	}
	if first && segment { // the lines before are elsewhere
		v.report.First, v.prev = e.Seq, e.Prev
	}
	if want := v.report.First + v.report.Events; e.Seq != want {
		return fmt.Errorf("has seq %d where %d is due: lines are missing, doubled or in another order", e.Seq, want)
	}
	if e.Run != v.report.Run {
		return fmt.Errorf("is of another run, %s", Printable(cut(e.Run, maxWord)))
	}
	switch {
	case first && !start && !segment, !first && start:
		return errors.New("run.start must be the first line and no other")
	case !first && segment != (v.report.Next != 0):
		return errors.New("log.segment must follow log.next, and nothing else may")
	}
	return nil
}

// blame finds out which of two neighbours was changed, when this line does not hold the hash of the one before. If the next
// line holds this one's hash, this one is as it was written; run.end, which has no next line, holds the hash twice.
func (v *verifier) blame(number int, e Event, hash string) (int, error) {
	changed := errors.New("prev is not the hash of the line before")
	if number == 1 {
		return number, changed
	}
	if line, err := v.lines.next(); err == nil {
		if next, err := decode(line); err == nil && next.Prev != hash {
			return number, changed
		}
	}
	var d endDetail
	if json.Unmarshal(e.Detail, &d) == nil && d.Head == v.prev {
		return number, changed
	}
	return number - 1, fmt.Errorf("its hash is not the one that line %d holds: it was changed", number)
}

// content checks what the recorder's own events say of the log.
func (v *verifier) content(e Event) error {
	if e.Class != ClassRun {
		return nil
	}
	switch e.Action {
	case ActionStart:
		var d startDetail
		if err := json.Unmarshal(e.Detail, &d); err != nil || d.Schema == 0 {
			return errors.New("run.start has no schema")
		}
		if d.Schema != Schema {
			return &SchemaError{d.Schema}
		}
		v.policy = policyDigest(e.Detail)
		v.report.Segment, v.report.Segments = 1, 1
	case ActionDropped, ActionFailed:
		var d droppedDetail
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			return fmt.Errorf("%s has no counts", e.Action)
		}
		if e.Action == ActionFailed {
			v.report.Failed++
		}
		v.dropped += toldBy(e)
	case ActionHead:
		var d headDetail
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			return errors.New("log.head has no counts")
		}
		return v.head(e.Action, d)
	case ActionNext:
		return v.atNext(e)
	case ActionSegment:
		return v.atSegment(e)
	case ActionEnd:
		return v.end(e)
	}
	return nil
}

// head checks what log.head and run.end say of the lines before.
func (v *verifier) head(action string, d headDetail) error {
	if !maps.EqualFunc(d.Counts, v.counts, maps.Equal) {
		return fmt.Errorf("the counts of %s are not those of the lines before", action)
	}
	if d.Key != "" && d.Policy != v.policy {
		return fmt.Errorf("the policy of %s is not that of run.start", action)
	}
	return nil
}

// signature checks that an event is signed where it has to be: log.head always, and run.end and the ends of segments where a signature
// came before. Alone those may be unsigned, as where there is no key: then the log has no Signer.
func (v *verifier) signature(e Event) error {
	if !signable(e) {
		if e.Sig != "" {
			return errors.New("is signed, which only log.head, log.next, log.segment and run.end are")
		}
		return nil
	}
	var d headDetail
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		return nil // content says so
	}
	switch {
	case d.Key == "" && e.Sig == "" && e.Action != ActionHead && v.report.Signer == "":
		return nil
	case d.Key == "" || e.Sig == "":
		return fmt.Errorf("%s is not signed: the signature was removed", e.Action)
	case d.Key.bytes() == nil:
		return errors.New("its key is none")
	case v.key != "" && d.Key != v.key:
		return fmt.Errorf("is signed with another key, %s", d.Key)
	case v.report.Signer != "" && d.Key != v.report.Signer:
		return fmt.Errorf("is signed with another key than line %d", v.report.Signed)
	}
	sig := e.Sig
	if e.Sig = ""; !d.Key.signed(mustLine(e), sig) {
		return errors.New("its signature does not fit: this line or one before it was changed, and the chain made anew")
	}
	v.report.Signer, v.report.Signed = d.Key, v.report.Events+1
	return nil
}

func (v *verifier) end(e Event) error {
	var d endDetail
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		return errors.New("run.end has no counts")
	}
	if d.Head != e.Prev {
		return errors.New("head of run.end is not the hash of the line before")
	}
	if err := v.head(e.Action, d.headDetail); err != nil {
		return err
	}
	if d.Dropped != v.dropped {
		return fmt.Errorf("run.end counts %d dropped events, the lines say %d", d.Dropped, v.dropped)
	}
	v.report.Complete, v.report.Status, v.report.Dropped = true, d.Status, d.Dropped
	return nil
}
