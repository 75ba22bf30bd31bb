// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const docs = "../../docs"

// actionClose is that of package egress.
const actionClose = "tcp.close"

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	schema, err := c.Compile(filepath.Join(docs, "events.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, line []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

// TestLogFollowsSchema writes every kind of line there is and checks it against the published schema.
func TestLogFollowsSchema(t *testing.T) {
	schema := compileSchema(t)
	path := filepath.Join(t.TempDir(), "log")
	r, err := Open(Options{Path: path, Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	for class, actions := range vocabulary(t) {
		if class == ClassRun {
			continue // they have bodies; the recorder writes its own
		}
		for _, action := range actions {
			if action == actionClose {
				r.Emit(closedConn("x", "192.0.2.1:443", 1))
			} else if action != ActionOverflow {
				r.Emit(Event{Class: class, Action: action, Decision: Deny, Target: "x"})
			}
		}
	}
	for _, s := range hostile {
		r.Emit(Event{
			Class: ClassFile, Action: "open-read", Decision: Deny, Target: s, Rule: "not-granted", Reason: s, Errno: "ENOENT",
			Severity: SeverityCredential, Provenance: FromKernel, Process: Process{PID: 2, PPID: 1, Exe: s, Argv: []string{s, ""}},
		})
	}
	for range Verbatim + 1 {
		r.Emit(denied(ClassFile, "/counted"))
	}
	for i := range maxKeys { // before Start nothing makes room: the queue fills, then the counts overflow
		r.Emit(denied(ClassFile, fmt.Sprint(i, strings.Repeat("x", MaxTarget))))
	}
	r.Dropped(map[Class]uint64{ClassNet: 1})
	err = r.Start(map[string]any{"command": []string{"sh\xff"}, "policy": "d", "coverage": map[string]string{"a": strings.Repeat("x", MaxDetail)}})
	if err != nil {
		t.Fatal(err)
	}
	_, events := closed(t, r, path)
	seen := make(map[string]bool)
	for _, e := range events {
		seen[e.Action] = true
		line, _ := e.MarshalJSON()
		if err := validate(t, schema, line); err != nil {
			t.Fatalf("%.300s: %v", line, err)
		}
	}
	for _, action := range []string{ActionStart, ActionDropped, ActionOverflow, ActionEnd, "open-read", "tcp.connect", actionClose} {
		if !seen[action] {
			t.Errorf("no %s was written", action)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	good, err := fullEvent().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, schema, good); err != nil {
		t.Fatal(err)
	}
	tests := map[string][2]string{
		"unknown key":         {`"run"`, `"x":1,"run"`},
		"no prev":             {`,"prev":"` + firstPrev + `"`, ``},
		"short prev":          {firstPrev, "00"},
		"seq 0":               {`"seq":7`, `"seq":0`},
		"unknown class":       {`"file"`, `"files"`},
		"action of no class":  {`"open-read"`, `"tcp.connect"`},
		"unknown decision":    {`"deny"`, `"denied"`},
		"unknown severity":    {`"severity":"credential"`, `"severity":"high"`},
		"unknown provenance":  {`"kernel"`, `"rumour"`},
		"errno by number":     {`"ENOENT"`, `"2"`},
		"first without count": {`"count":3,`, ``},
		"local time":          {`89Z","mono"`, `89+01:00","mono"`},
	}
	refuses(t, schema, string(good), tests)
	end := closedConn("x", "192.0.2.1:443", 1)
	end.Seq, end.Run, end.Prev = 1, "R", firstPrev
	if good, err = end.MarshalJSON(); err != nil {
		t.Fatal(err)
	}
	if err := validate(t, schema, good); err != nil {
		t.Fatal(err)
	}
	refuses(t, schema, string(good), map[string][2]string{
		"no bytes":          {`"bytes_sent":1,`, ``},
		"bytes below 0":     {`"bytes_sent":1,`, `"bytes_sent":-1,`},
		"no address":        {`192.0.2.1:443`, `192.0.2.1`},
		"a denial":          {`"report"`, `"deny"`},
		"another's traffic": {`"tcp.close"`, `"tcp.connect"`},
		"without traffic":   {`"traffic":{"address":"192.0.2.1:443","bytes_sent":1,"bytes_received":2,"duration_ms":3},`, ``},
	})
}

// refuses checks that the schema takes no line that one of the changes makes of a good one.
func refuses(t *testing.T, schema *jsonschema.Schema, good string, changes map[string][2]string) {
	t.Helper()
	for name, change := range changes {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if validate(t, schema, []byte(bad)) == nil {
			t.Errorf("%s: the schema takes %s", name, bad)
		}
	}
}

// vocabulary reads the tables of docs/events.md: the actions of each class.
func vocabulary(t *testing.T) map[Class][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| (`[a-z`, ._-]+`) \\|")
	actions := make(map[Class][]string)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		for name := range strings.SplitSeq(m[2], ", ") {
			actions[Class(m[1])] = append(actions[Class(m[1])], strings.Trim(name, "`"))
		}
	}
	return actions
}

// TestDocsAndSchemaAgree: what docs/events.md lists is what the schema takes, and nothing else.
func TestDocsAndSchemaAgree(t *testing.T) {
	schema := compileSchema(t)
	documented := vocabulary(t)
	var all []string
	for _, class := range classes {
		if len(documented[class]) == 0 {
			t.Errorf("docs/events.md lists no action of class %s", class)
		}
		all = append(all, documented[class]...)
	}
	for _, class := range classes {
		if class == ClassSyscall {
			continue // the action is the name of the call
		}
		for _, action := range append(all, "nonsense") {
			line := lineOf(t, class, action)
			if got, want := validate(t, schema, line) == nil, slices.Contains(documented[class], action); got != want {
				t.Errorf("class %s, action %s: the schema says %v, docs/events.md %v", class, action, got, want)
			}
		}
	}
}

// lineOf makes a line of an action, with the body that the action must have.
func lineOf(t *testing.T, class Class, action string) []byte {
	t.Helper()
	e := Event{Seq: 1, Time: epoch, Run: testRun, Class: class, Action: action, Decision: Report, Prev: firstPrev}
	switch action {
	case ActionStart:
		e.Detail = mustDetail(startDetail{Schema})
	case ActionEnd:
		e.Detail = mustDetail(endDetail{Head: firstPrev, headDetail: headDetail{Counts: Counts{}}})
	case ActionHead:
		e.Detail = mustDetail(headDetail{Counts{}, "", testKey(1).Public()})
		e.Sig = testKey(1).sign(nil)
	case ActionNext, ActionSegment:
		e.Detail = mustDetail(segmentDetail{Schema, 2, 0, headDetail{Counts{}, "", testKey(1).Public()}})
		e.Sig = testKey(1).sign(nil)
	case actionClose:
		e.Traffic = new(Traffic)
	case ActionSinkReopened, ActionSinkTruncated:
		e.Target, e.Reason = "/copy", "why"
	case ActionDropped, ActionFailed:
		e.Detail = mustDetail(droppedDetail{map[Class]uint64{}})
	case ActionSinkFailed, ActionSinkDropped:
		e.Target, e.Detail = "fd 3", mustDetail(sinkDetail{})
	case ActionOverflow:
		e.Count, e.First, e.Last = 1, &epoch, &epoch
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return line
}
