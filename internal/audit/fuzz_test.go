// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzVerify: no input breaks Verify, and only the log that was written passes with its head.
func FuzzVerify(f *testing.F) {
	log := join(sampleLog(testRun))
	honest, err := Verify(bytes.NewReader(log), "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Add(bytes.Replace(log, []byte("/3"), []byte("/4"), 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Verify(bytes.NewReader(data), "")
		if err != nil {
			var schema *SchemaError
			if !errors.As(err, &schema) {
				t.Fatal(err)
			}
			return
		}
		if got.FirstBad != nil && (got.Complete || got.FirstBad.Line < 1) {
			t.Fatalf("%+v, %v", got, got.FirstBad)
		}
		if got.FirstBad != nil {
			assertHarmless(t, got.FirstBad.Problem)
		}
		if lines := uint64(bytes.Count(data, []byte("\n"))); got.Events > lines {
			t.Fatalf("%d events in %d lines", got.Events, lines)
		}
		if got.Head == honest.Head && !bytes.Equal(data, log) && got.FirstBad == nil && !got.CutOff {
			t.Fatal("another log has the head of the honest one")
		}
	})
}

func assertHarmless(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if !harmless(r) {
			t.Fatalf("%q would reach a terminal", text)
		}
	}
}

// FuzzScan: no input breaks Scan, and every event that comes out is written as the line that it came from.
func FuzzScan(f *testing.F) {
	f.Add(join(sampleLog(testRun)))
	f.Add([]byte("{}\n\n[]\n"))
	f.Add([]byte(`{"seq":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		for e, err := range Scan(bytes.NewReader(data)) {
			n++
			if err != nil {
				assertHarmless(t, err.Error())
				continue
			}
			line, err := e.MarshalJSON()
			if err != nil || !bytes.Contains(data, append(line, '\n')) {
				t.Fatalf("the event %+v comes from no line (%v)", e, err)
			}
		}
		if most := bytes.Count(data, []byte("\n")) + 1; n > most {
			t.Fatalf("%d results of %d lines", n, most)
		}
	})
}

// FuzzEvent: whatever a command says, it becomes one ASCII line that gives the same bytes back.
// Containment checks: P01, Q03.
func FuzzEvent(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, target, exe, arg string) {
		e := capped(Event{Time: epoch, Class: ClassFile, Action: "stat", Decision: Deny, Target: target, Process: Process{Exe: exe, Argv: []string{arg}}})
		line := newChain(testRun).append(nil, e)
		assertASCII(t, "line", line[:len(line)-1])
		got, err := decode(line[:len(line)-1])
		if err != nil || got.Target != e.Target || got.Exe != e.Exe || got.Argv[0] != e.Argv[0] {
			t.Fatalf("%+v became %+v (%v)", e, got, err)
		}
		if len(target) <= MaxTarget && got.Target != target {
			t.Fatalf("target %q became %q", target, got.Target)
		}
	})
}
