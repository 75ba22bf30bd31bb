// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultMaxSize is how large a segment of a log becomes, where Options do not say.
const DefaultMaxSize = 64 << 20

// segmentDetail is the body of log.next, the last line of a segment, and of log.segment, the first of the one that follows. Both are signed,
// and tell all that Verify knows by the lines before: so a segment can be checked without those.
type segmentDetail struct {
	Schema  int    `json:"schema"`
	Segment int    `json:"segment"` // number of the one that follows, or begins
	Dropped uint64 `json:"dropped"` // events that the lines before say are not in the log
	headDetail
}

// segmentPath is the file of a segment: events.jsonl is the first, events.2.jsonl the second.
func segmentPath(base string, number int) string {
	if number == 1 {
		return base
	}
	stem, ext := splitExt(base)
	return stem + "." + strconv.Itoa(number) + ext
}

// followingPath is the file of a segment that follows the one at path.
func followingPath(path string, number int) string {
	return segmentPath(basePath(path, number-1), number)
}

// basePath is the file of the first segment, where the one at path has that number.
func basePath(path string, number int) string {
	stem, ext := splitExt(path)
	own := "." + strconv.Itoa(number)
	switch {
	case number == 1: // the first has no number
	case ext == own:
		ext = ""
	default:
		stem = strings.TrimSuffix(stem, own)
	}
	return stem + ext
}

// numberedPath is the number in the path of a segment that is not the first; 0 where it is none.
func numberedPath(base, path string) int {
	stem, ext := splitExt(base)
	digits, _ := strings.CutPrefix(strings.TrimSuffix(path, ext), stem+".")
	if n, err := strconv.Atoi(digits); err == nil && n > 1 && segmentPath(base, n) == path {
		return n
	}
	return 0
}

// splitExt cuts the last extension off. A name that has nothing else is none.
func splitExt(path string) (stem, ext string) {
	ext = filepath.Ext(path)
	if ext == filepath.Base(path) {
		ext = ""
	}
	return strings.TrimSuffix(path, ext), ext
}

func (r *Recorder) maxSize() int64 {
	if r.options.MaxSize == 0 {
		return DefaultMaxSize
	}
	return r.options.MaxSize
}

// cut ends the segment that is written and begins another. Nothing is written meanwhile.
func (r *Recorder) cut() {
	if err := r.nextSegment(); err != nil {
		r.fail(err, true)
	}
}

func (r *Recorder) nextSegment() error {
	number := r.segment + 1
	next, err := createLog(segmentPath(r.options.Path, number))
	if err != nil {
		return err
	}
	err = r.log.sync()
	if err == nil {
		err = r.append(r.segmentEvent(ActionNext, number))
	}
	if err != nil {
		next.close()
		os.Remove(next.path) // made here a moment ago, and empty
		return err
	}
	if number > 2 {
		r.log.close() // what it has is with the disk
	} else {
		r.first = r.log
	}
	r.log, r.segment, r.headerDue = next, number, true
	syncDir(next.path)
	r.eachCopy(func(c *openedCopy) error { return c.sink.cut(number) })
	return r.header()
}

// header writes the first line of a segment, where it is due.
func (r *Recorder) header() error {
	if !r.headerDue {
		return nil
	}
	if err := r.append(r.segmentEvent(ActionSegment, r.segment)); err != nil {
		return err
	}
	r.headerDue = false
	return nil
}

func (r *Recorder) segmentEvent(action string, number int) Event {
	return r.own(action, segmentDetail{Schema, number, r.chain.told, r.chain.headDetail()})
}

// toldBy is how many events a line says are not in the log.
func toldBy(e Event) (n uint64) {
	if e.Class != ClassRun || e.Action != ActionDropped && e.Action != ActionFailed {
		return 0
	}
	var d droppedDetail
	if json.Unmarshal(e.Detail, &d) != nil {
		return 0
	}
	for _, count := range d.Dropped {
		n += count
	}
	return n
}

// atNext checks the last line of a segment.
func (v *verifier) atNext(e Event) error {
	d, err := segmentOf(e)
	if err != nil {
		return err
	}
	if d.Segment != v.report.Segment+v.report.Segments {
		return fmt.Errorf("log.next is that of segment %d", d.Segment-1)
	}
	v.report.Next = d.Segment
	return v.sums(e.Action, d)
}

// atSegment checks the first line of a segment that is not the first one. Where there is nothing before it, it says what that was.
func (v *verifier) atSegment(e Event) error {
	d, err := segmentOf(e)
	if err != nil {
		return err
	}
	if v.report.Events == 0 {
		if d.Counts == nil {
			d.Counts = make(Counts)
		}
		v.report.Segment, v.counts, v.dropped, v.policy = d.Segment, d.Counts, d.Dropped, d.Policy
	} else if d.Segment != v.report.Next {
		return fmt.Errorf("begins segment %d where %d is due", d.Segment, v.report.Next)
	}
	v.report.Next = 0
	v.report.Segments++
	return v.sums(e.Action, d)
}

func (v *verifier) sums(action string, d segmentDetail) error {
	if d.Dropped != v.dropped {
		return fmt.Errorf("%s counts %d dropped events, the lines say %d", action, d.Dropped, v.dropped)
	}
	return v.head(action, d.headDetail)
}

func segmentOf(e Event) (d segmentDetail, err error) {
	if json.Unmarshal(e.Detail, &d) != nil || d.Segment < 2 {
		return d, fmt.Errorf("%s names no segment", e.Action)
	}
	if d.Schema != Schema {
		return d, &SchemaError{d.Schema}
	}
	return d, nil
}
