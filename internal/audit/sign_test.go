// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// signedLog returns the lines of a whole log: run.start, a denial, log.head, two denials, run.end. change edits events before they
// are chained and signed.
func signedLog(key *Key, change func(c *chain, e *Event)) [][]byte {
	c := newChain(testRun)
	body, _ := startBody(map[string]any{"policy": map[string]string{"digest": "sha256:aa"}})
	c.key, c.policy = key, policyDigest(body)
	start := Event{Class: ClassRun, Action: ActionStart, Decision: Report, Detail: body}
	head := Event{Class: ClassRun, Action: ActionHead, Decision: Report}
	var lines [][]byte
	for _, e := range []Event{start, denied(ClassFile, "/a"), head, denied(ClassFile, "/b"), denied(ClassNet, "c:443"), {}} {
		switch {
		case e.Action == ActionHead:
			e.Detail = mustDetail(c.headDetail())
		case e.Action == "":
			e = endEvent(c, 3, 0)
		}
		e.Time = epoch
		if change != nil {
			change(c, &e)
		}
		lines = append(lines, c.append(nil, e))
	}
	return lines
}

// TestSignedGolden: the form of a signed log, which logs of earlier runs and the programs of others depend on.
func TestSignedGolden(t *testing.T) {
	golden := filepath.Join("testdata", "signed.jsonl")
	got := join(signedLog(testKey(1), nil))
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s (%v):\n%s", golden, err, got)
	}
}

// TestSignatureByHand checks a line as docs/events.md tells others to.
func TestSignatureByHand(t *testing.T) {
	line := bytes.TrimSpace(signedLog(testKey(1), nil)[5])
	unsigned, sig, _ := bytes.Cut(line, []byte(`,"sig":"`))
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSuffix(sig, []byte(`"}`))))
	message := append(append([]byte("agentjail log head v1\n"), unsigned...), '}')
	if err != nil || !ed25519.Verify(testKey(1).Public().bytes(), message, raw) {
		t.Errorf("%s (%v)", line, err)
	}
}

func TestVerifySigned(t *testing.T) {
	log := signedLog(testKey(1), nil)
	public := testKey(1).Public()
	for _, key := range []PublicKey{"", public} {
		got, err := Verify(bytes.NewReader(join(log)), key)
		want := Verification{
			Run: testRun, First: 1, Segment: 1, Segments: 1, Events: 6, Head: hashLine(bytes.TrimSpace(log[5])), Complete: true, Status: 3, Signer: public, Signed: 6,
		}
		if err != nil || got != want {
			t.Errorf("%+v, %v (%v)", got, got.FirstBad, err)
		}
	}
	for n, signed := range []uint64{0, 0, 0, 3, 3, 3} {
		got, err := Verify(bytes.NewReader(join(log[:n])), public)
		good := err == nil && got.FirstBad == nil && !got.Complete && got.Events == uint64(n)
		if !good || got.Signed != signed || (got.Signer != "") != (signed > 0) {
			t.Errorf("cut after line %d: %+v, %v (%v)", n, got, got.FirstBad, err)
		}
	}
}

// TestVerifyEarlier: a log of a version that did not sign is whole and has no signer, as one that was made anew without the key.
func TestVerifyEarlier(t *testing.T) {
	for _, key := range []PublicKey{"", testKey(1).Public()} {
		got, err := Verify(mustOpen(t, "testdata/earlier.jsonl"), key)
		if err != nil || got.FirstBad != nil || !got.Complete || got.Events != 8 || got.Signer != "" || got.Signed != 0 {
			t.Errorf("%+v, %v (%v)", got, got.FirstBad, err)
		}
	}
}

// rewritten is a chain made anew from changed events, with the signatures of the log, but for those that change sets.
func rewritten(log [][]byte, change func(e *Event)) [][]byte {
	c := newChain(testRun)
	var lines [][]byte
	for e := range Scan(bytes.NewReader(join(log))) {
		change(&e)
		e.Prev = c.prev
		if e.Action == ActionEnd {
			var d endDetail
			json.Unmarshal(e.Detail, &d)
			d.Head = c.prev
			e.Detail = mustDetail(d)
		}
		line := mustLine(e)
		c.prev = hashLine(line)
		lines = append(lines, append(line, '\n'))
	}
	return lines
}

// TestVerifyResigned has logs whose chain and counts fit, made by somebody who lacks the key.
// Containment check: Q12.
func TestVerifyResigned(t *testing.T) {
	honest := signedLog(testKey(1), nil)
	sigOf := func(n int) string {
		e, _ := decode(bytes.TrimSpace(honest[n-1]))
		return e.Sig
	}
	rewrite := func(change func(e *Event)) [][]byte { return rewritten(honest, change) }
	at := func(action string, change func(e *Event)) [][]byte {
		return rewrite(func(e *Event) {
			if e.Action == action {
				change(e)
			}
		})
	}
	without := func(e *Event) { e.Sig = ""; e.Detail = bytes.Replace(e.Detail, []byte(testKey(1).Public()), nil, 1) }
	target := func(old string) [][]byte {
		return rewrite(func(e *Event) { e.Target = strings.Replace(e.Target, old, "/x", 1) })
	}
	detail := func(old, new string) [][]byte {
		return rewrite(func(e *Event) { e.Detail = bytes.ReplaceAll(e.Detail, []byte(old), []byte(new)) })
	}
	tests := []struct {
		name    string
		lines   [][]byte
		line    int
		problem string
	}{
		{"a line before log.head", target("/a"), 3, "signature does not fit"},
		{"a line after log.head", target("/b"), 6, "signature does not fit"},
		{"the status", detail(`"status":3`, `"status":0`), 6, "signature does not fit"},
		{"the time of the end", at(ActionEnd, func(e *Event) { e.Time = epoch.Add(time.Second) }), 6, "signature does not fit"},
		{"the policy", detail("sha256:aa", "sha256:bb"), 3, "signature does not fit"},
		{"the policy of the start", at(ActionStart, func(e *Event) { e.Detail = bytes.Replace(e.Detail, []byte("sha256:aa"), []byte("sha256:bb"), 1) }), 3, "does not fit"},
		{"another signature of the same log", at(ActionEnd, func(e *Event) { e.Sig = sigOf(3) }), 6, "signature does not fit"},
		{"no signature at the end", at(ActionEnd, without), 6, "the signature was removed"},
		{"no signature at log.head", at(ActionHead, without), 3, "the signature was removed"},
		{"a key without signature", at(ActionEnd, func(e *Event) { e.Sig = "" }), 6, "the signature was removed"},
		{"a signature that is none", rewrite(func(e *Event) {
			if e.Sig != "" {
				e.Sig = "\x1b[2J"
			}
		}), 3, "does not fit"},
		{"a key that is none", detail("ed25519:", "ed25518:"), 3, "its key is none"},
		{"another key", signedLog(testKey(2), nil), 3, "another key, " + string(testKey(2).Public())},
		{"another key at the end", signedLog(testKey(1), func(c *chain, e *Event) {
			if e.Action == ActionEnd {
				c.key = testKey(2)
				e.Detail = mustDetail(c.endDetail(3, 0))
			}
		}), 6, "another key"},
		{"a signature elsewhere", rewrite(func(e *Event) { e.Sig = sigOf(3) }), 1, "only log.head, log.next"},
		{"a policy that is not the run's", signedLog(testKey(1), func(c *chain, e *Event) { c.policy = "sha256:bb" }), 3, "policy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Verify(bytes.NewReader(join(tt.lines)), testKey(1).Public())
			if err != nil || got.FirstBad == nil || got.Complete {
				t.Fatalf("%+v (%v)", got, err)
			}
			if got.FirstBad.Line != tt.line || !strings.Contains(got.FirstBad.Problem, tt.problem) {
				t.Errorf("%v; want line %d: %s", got.FirstBad, tt.line, tt.problem)
			}
			assertHarmless(t, got.FirstBad.Problem)
		})
	}
	if got := rewrite(func(*Event) {}); !bytes.Equal(join(got), join(honest)) {
		t.Error("rewriting alone changes the log")
	}
}

// TestSignHead: the head is signed at once, then each minute in which there is something new.
func TestSignHead(t *testing.T) {
	r, err := Open(Options{Path: filepath.Join(t.TempDir(), "log"), Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	defer r.log.close()
	r.chain.key = testKey(1)
	now := epoch
	for i, step := range []struct {
		after  time.Duration
		writes bool // an event comes before
		signs  bool
	}{
		{0, false, false}, // nothing to sign
		{0, true, true},
		{time.Second, true, false},
		{headInterval, false, true},
		{headInterval, false, false},
		{headInterval, true, true},
	} {
		now = now.Add(step.after)
		if step.writes {
			r.write([]Event{{Class: ClassFile, Action: "stat", Decision: Deny, Time: now}})
		}
		before := r.lines
		if r.signHead(now); (r.lines > before) != step.signs {
			t.Errorf("step %d: %d lines, then %d", i, before, r.lines)
		}
	}
}

func TestRecorderSigns(t *testing.T) {
	dir := t.TempDir()
	o := Options{Path: filepath.Join(dir, "log"), Run: testRun, Key: filepath.Join(dir, "key"), Owner: os.Getuid()}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(map[string]any{"policy": map[string]string{"digest": "sha256:aa"}}); err != nil {
		t.Fatal(err)
	}
	r.Emit(Event{Class: ClassFile, Action: "stat", Decision: Deny, Target: "/a", Sig: "forged"})
	closed(t, r, o.Path)
	key, err := ReadKey(o.Key, o.Owner)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(mustOpen(t, o.Path), key.Public())
	if err != nil || got.FirstBad != nil || got.Signed != got.Events || got.Signer != key.Public() {
		t.Errorf("%+v, %v (%v)", got, got.FirstBad, err)
	}
}

// TestStartWithoutKey: without the key that was asked for, the start fails, and the log says of itself that it is not signed.
func TestStartWithoutKey(t *testing.T) {
	dir := t.TempDir()
	o := Options{Path: filepath.Join(dir, "log"), Run: testRun, Key: filepath.Join(dir, "key"), Owner: os.Getuid()}
	if err := os.WriteFile(o.Key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(nil); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("Start: %v", err)
	}
	closed(t, r, o.Path)
	if got, err := Verify(mustOpen(t, o.Path), ""); err != nil || got.Signer != "" {
		t.Errorf("%+v (%v)", got, err)
	}
}

// FuzzVerifySigned: only the log that was signed passes as signed by the key.
func FuzzVerifySigned(f *testing.F) {
	log := join(signedLog(testKey(1), nil))
	f.Add(log)
	f.Add(join(signedLog(testKey(2), nil)))
	f.Add(log[:len(log)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Verify(bytes.NewReader(data), testKey(1).Public())
		if err == nil && got.FirstBad == nil && got.Complete && got.Signer != "" && !bytes.Equal(data, log) {
			t.Fatalf("%s passes", data)
		}
	})
}

func BenchmarkOpenKey(b *testing.B) {
	path := filepath.Join(b.TempDir(), "key")
	for b.Loop() {
		if _, err := openKey(path, os.Getuid()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	c := newChain(testRun)
	c.key = testKey(1)
	for b.Loop() {
		c.append(nil, endEvent(c, 0, 0))
	}
}
