// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of an event's fields, in bytes before they are escaped. Escaping makes a byte six at most.
const (
	MaxTarget  = 4096 // as PATH_MAX
	MaxExe     = 4096
	MaxText    = 512  // rule, reason, fix and via
	MaxArgs    = 64   // entries of argv
	MaxArgv    = 4096 // all of them together
	MaxDetail  = 128 << 10
	maxWord    = 64 // class, action, decision, errno, severity, provenance
	MaxLine    = 256 << 10
	maxArgList = 16 << 10 // of a list in run.start
)

// firstPrev stands for the hash of the line before the first.
var firstPrev = strings.Repeat("0", 2*sha256.Size)

// hashLine is what prev of the next line says of a line, which comes without its newline.
func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// encoded is an Event as encoding/json handles it, without Event's own methods.
type encoded Event

// MarshalJSON writes the event as one ASCII line, in which any bytes of its fields can be told; see the package comment.
func (e Event) MarshalJSON() ([]byte, error) {
	e.mapText(quote)
	data, err := json.Marshal(encoded(e))
	if err != nil {
		return nil, err
	}
	return asciiJSON(make([]byte, 0, len(data)+len(data)/8), data), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Event) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*encoded)(e)); err != nil {
		return err
	}
	e.mapText(unquote)
	return nil
}

// mapText applies f to every field that can hold text of others. Argv is copied, since events share it.
func (e *Event) mapText(f func(string) string) {
	for _, p := range e.texts() {
		*p.text = f(*p.text)
	}
	if e.Argv != nil {
		argv := make([]string, len(e.Argv))
		for i, arg := range e.Argv {
			argv[i] = f(arg)
		}
		e.Argv = argv
	}
}

type textField struct {
	name string
	text *string
	max  int
}

func (e *Event) texts() [12]textField {
	return [...]textField{
		{"class", (*string)(&e.Class), maxWord}, {"action", &e.Action, maxWord}, {"decision", (*string)(&e.Decision), maxWord},
		{"target", &e.Target, MaxTarget}, {"rule", &e.Rule, MaxText}, {"reason", &e.Reason, MaxText},
		{"fix", &e.Fix, MaxText}, {"via", &e.Via, MaxText},
		{"severity", &e.Severity, maxWord}, {"errno", &e.Errno, maxWord}, {"exe", &e.Exe, MaxExe},
		{"provenance", (*string)(&e.Provenance), maxWord},
	}
}

// capped bounds an event's fields and names those that were cut. What only the recorder may say is removed.
func capped(e Event) Event {
	e.Seq, e.Mono, e.Run, e.Prev, e.Sig, e.Truncated, e.Redacted = 0, 0, "", "", "", nil, 0
	for _, f := range e.texts() {
		if len(*f.text) > f.max {
			*f.text = strings.Clone(cut(*f.text, f.max)) // a clone, so that a queued event does not hold the whole
			e.Truncated = append(e.Truncated, f.name)
		}
	}
	if argv, whole := capList(e.Argv, MaxArgs, MaxArgv); !whole {
		e.Argv = argv
		e.Truncated = append(e.Truncated, "argv")
	}
	if len(e.Detail) > 0 {
		detail, err := canonical(e.Detail)
		e.Detail = detail
		if err != nil {
			e.Truncated = append(e.Truncated, "detail")
		}
	}
	return e
}

// cut shortens s to at most max bytes, between two characters where s is text.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for i := max; i > max-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:max]
}

// capList bounds a list's entries and their bytes together. It returns list itself where nothing has to go.
func capList(list []string, entries, size int) (capped []string, whole bool) {
	total := 0
	for i, s := range list {
		if i == entries || total+len(s) > size {
			capped = make([]string, 0, i+1)
			for _, kept := range list[:i] {
				capped = append(capped, strings.Clone(kept))
			}
			if rest := cut(s, size-total); i < entries && rest != "" {
				capped = append(capped, strings.Clone(rest))
			}
			return capped, false
		}
		total += len(s)
	}
	return list, true
}

var errDetail = errors.New("not JSON, or too long")

// canonical brings the JSON of a detail into the form that a line holds.
func canonical(detail json.RawMessage) (json.RawMessage, error) {
	if len(detail) > MaxDetail || !json.Valid(detail) {
		return nil, errDetail
	}
	data, err := json.Marshal(detail) // compact, with <, > and & escaped
	if err != nil {
		return nil, err
	}
	data = asciiJSON(nil, data)
	if len(data) > MaxDetail {
		return nil, errDetail
	}
	return data, nil
}

// decode reads one line. It must be what encoding its event gives, byte for byte: no other key, order, spelling or space.
func decode(line []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, errors.New("not an event in JSON")
	}
	again, err := json.Marshal(e)
	if err != nil || !bytes.Equal(again, line) {
		return Event{}, errors.New("not in the form in which events are written")
	}
	return e, nil
}
