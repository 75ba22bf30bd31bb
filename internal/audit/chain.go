// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"encoding/json"
	"slices"
)

// Schema is the version of the log's form. It stands in the detail of run.start.
const Schema = 1

// The actions of the events that the recorder itself writes.
const (
	ActionStart   = "run.start"
	ActionHead    = "log.head"
	ActionEnd     = "run.end"
	ActionDropped = "events.dropped"
	ActionFailed  = "log.failed"
	ActionNext    = "log.next"    // the last line of a segment
	ActionSegment = "log.segment" // the first line of another one

	ActionSinkFailed    = "sink.failed"
	ActionSinkDropped   = "sink.dropped"
	ActionSinkReopened  = "sink.reopened"
	ActionSinkTruncated = "sink.truncated"
)

// chain turns events into the lines of one log.
type chain struct {
	run    string
	seq    uint64
	prev   string
	counts Counts
	told   uint64 // events that lines say are not in the log
	policy string // digest that run.start tells
	key    *Key   // nil: nothing is signed

	redact func([]string) ([]string, int) // of Options
	last   commandLine                    // that redact was asked about: a program has many events, as a rule
}

type commandLine struct {
	argv, clean []string
	secrets     int
}

func newChain(run string) *chain { return &chain{run: run, prev: firstPrev, counts: make(Counts)} }

// append appends the next line to buf. The event has been capped and stamped: then it can be encoded.
func (c *chain) append(buf []byte, e Event) []byte {
	e.Seq, e.Run, e.Prev, e.Sig = c.seq+1, c.run, c.prev, ""
	if c.redact != nil && len(e.Argv) > 0 {
		e = c.redacted(e)
	}
	line := mustLine(e)
	if c.key != nil && signable(e) {
		e.Sig = c.key.sign(line)
		line = mustLine(e)
	}
	c.seq++
	c.prev = hashLine(line)
	c.counts.add(e)
	c.told += toldBy(e)
	return append(append(buf, line...), '\n')
}

// redacted takes secrets out of an event's command line. What stands in their place can be longer, where there are very many.
func (c *chain) redacted(e Event) Event {
	if !slices.Equal(e.Argv, c.last.argv) {
		clean, secrets := c.redact(e.Argv)
		c.last = commandLine{e.Argv, clean, secrets}
	}
	if e.Redacted = c.last.secrets; e.Redacted == 0 {
		return e
	}
	argv, whole := capList(c.last.clean, MaxArgs, MaxArgv)
	if !whole && !slices.Contains(e.Truncated, "argv") {
		e.Truncated = append(slices.Clip(e.Truncated), "argv")
	}
	e.Argv = argv
	return e
}

// back takes the last lines back, whose events these are.
func (c *chain) back(seq uint64, prev string, events []Event) {
	c.seq, c.prev = seq, prev
	for _, e := range events {
		c.counts.remove(e)
		c.told -= toldBy(e)
	}
}

func mustLine(e Event) []byte {
	line, err := e.MarshalJSON()
	if err != nil {
		panic("bug: audit: " + err.Error())
	}
	return line
}

// signable tells whether an event closes what stands before it: it counts that, and is signed where there is a key.
func signable(e Event) bool {
	return e.Class == ClassRun && (e.Action == ActionHead || e.Action == ActionEnd || e.Action == ActionNext || e.Action == ActionSegment)
}

func (c *chain) public() PublicKey {
	if c.key == nil {
		return ""
	}
	return c.key.Public()
}

func (c *chain) headDetail() headDetail { return headDetail{c.counts, c.policy, c.public()} }

func (c *chain) endDetail(status int, dropped uint64) endDetail {
	return endDetail{status, dropped, c.prev, c.headDetail()}
}

// startDetail is the body of run.start.
type startDetail struct {
	Schema int `json:"schema"`
}

// endDetail is the body of run.end.
type endDetail struct {
	Status  int    `json:"status"`
	Dropped uint64 `json:"dropped"`
	Head    string `json:"head"` // hash of the line before, again
	headDetail
}

// headDetail is the body of log.head, and of run.end too: what a signature vouches for, beside the line that it stands in.
type headDetail struct {
	Counts Counts    `json:"counts"`           // of the lines before
	Policy string    `json:"policy,omitempty"` // digest, as in run.start
	Key    PublicKey `json:"key,omitempty"`    // of the signature
}

// policyDigest is what a run.start says of its policy; empty where it says nothing.
func policyDigest(start json.RawMessage) string {
	var d struct{ Policy struct{ Digest string } }
	if json.Unmarshal(start, &d) != nil {
		return ""
	}
	return d.Policy.Digest
}

// droppedDetail is the body of events.dropped and log.failed: events that are not in the log, by class.
type droppedDetail struct {
	Dropped map[Class]uint64 `json:"dropped"`
}

// sinkDetail is the body of sink.failed and sink.dropped: how many lines a copy of the log does not have.
type sinkDetail struct {
	Lines uint64 `json:"lines"` // since it was last said
	Total uint64 `json:"total"`
}

func mustDetail(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic("bug: audit: " + err.Error()) // structs of numbers and strings always encode
	}
	return data
}

// startBody makes the detail of run.start fit into a line: strings and lists are cut, then the largest entries left out.
// What is missing is named.
func startBody(detail map[string]any) (body json.RawMessage, missing []string) {
	parts := make(map[string]json.RawMessage, len(detail)+1)
	size := 0
	for key, value := range detail {
		short, whole := shorten(value)
		part, err := json.Marshal(short)
		if err == nil {
			part, err = canonical(part)
		}
		if err != nil || !whole {
			missing = append(missing, "detail."+key)
		}
		if err == nil {
			parts[key] = part
			size += len(part) + 6*len(key) + 4
		}
	}
	parts["schema"] = mustDetail(Schema)
	for _, key := range bySize(parts) {
		if size <= MaxDetail-maxWord {
			break
		}
		size -= len(parts[key])
		delete(parts, key)
		missing = append(missing, "detail."+key)
	}
	slices.Sort(missing)
	return mustDetail(parts), slices.Compact(missing)
}

// bySize returns the keys, largest part first; never the schema's.
func bySize(parts map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(parts))
	for key := range parts {
		if key != "schema" {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(parts[b]), len(parts[a])), cmp.Compare(a, b))
	})
	return keys
}

// shorten bounds the strings and lists of strings of a detail, and quotes their bytes. Other values stay as they are.
func shorten(v any) (short any, whole bool) {
	switch v := v.(type) {
	case string:
		return quote(cut(v, MaxTarget)), len(v) <= MaxTarget
	case []string:
		list, whole := capList(v, len(v), maxArgList)
		quoted := make([]string, len(list))
		for i, s := range list {
			quoted[i] = quote(s)
		}
		return quoted, whole
	}
	return v, true
}
