// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox"
)

// goldenKey has signed lines 3 and 6 of internal/audit/testdata/signed.jsonl.
const goldenKey = "ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func lines(data []byte) [][]byte { return bytes.SplitAfter(data, []byte("\n")) }

func publicKey(t *testing.T, state string) string {
	t.Helper()
	key, err := audit.ReadKey(filepath.Join(state, sandbox.KeyFile), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return string(key.Public())
}

func TestVerify(t *testing.T) {
	state := logState(t)
	path, head := writeRun(t, state, newRun, denial("/a"), denial("/b"))
	whole, key := readFile(t, path), publicKey(t, state)
	elsewhere := t.TempDir()
	foreignPath, foreignHead := writeRun(t, elsewhere, newRun, denial("/a"))
	foreign, foreignKey := readFile(t, foreignPath), publicKey(t, elsewhere)
	earlier := readFile(t, "../../internal/audit/testdata/earlier.jsonl")
	golden := readFile(t, "../../internal/audit/testdata/signed.jsonl")
	part := bytes.Join(lines(golden)[:5], nil)
	copied := filepath.Join(t.TempDir(), "copy.jsonl")
	other := strings.Repeat("0", 64)
	noEnd := bytes.Join(lines(whole)[:3], nil)
	tests := []struct {
		name string
		log  []byte
		args []string
		want string
		code int
	}{
		{"whole", whole, nil, "ok: run " + newRun + ", 4 events, status 3, head " + head + ", signed\n", 0},
		{"by its id", whole, []string{newRun[:6]}, "ok: ", 0},
		{"a file", whole, []string{copied}, "ok: ", 0},
		{"with its head", whole, []string{"--head", head}, "ok: ", 0},
		{"with its head after the run", whole, []string{newRun, "--head", strings.ToUpper(head)}, "ok: ", 0},
		{"with another head", whole, []string{"--head", other}, "not the one asked for", 1},
		{"with its key", whole, []string{copied, "--key", key}, ", signed\n", 0},
		{"with another key", whole, []string{"--key", foreignKey}, "changed: line 4: is signed with another key, " + key, 1},
		{"with its head and another key", whole, []string{"--head", head, "--key", foreignKey}, "changed: line 4: ", 1},
		{"of another machine", foreign, nil, "unproven: run " + newRun + ", 3 events, ", 4},
		{"of another machine, whose", foreign, nil, "signed by " + foreignKey + ", which is not your key", 4},
		{"of another machine, with its key", foreign, []string{"--key", foreignKey}, ", signed\n", 0},
		{"of another machine, with its head", foreign, []string{"--head", foreignHead}, "ok: ", 0},
		{"of an earlier version", earlier, []string{copied}, "unproven: run 01ARZ3NDEKTSV4RRFFQ69G5FAV, 8 events, ", 4},
		{"of an earlier version, with a key", earlier, []string{copied, "--key", key}, ", not signed: ", 4},
		{"changed", bytes.Replace(whole, []byte(`"/a"`), []byte(`"/x"`), 1), nil, "changed: line 2: ", 1},
		{"no end", noEnd, nil, "3 events, none of them signed: no run.end", 3},
		{"no end but a head", noEnd, []string{"--head", head}, "not the one asked for", 1},
		{"no end after a signature", part, []string{copied, "--key", goldenKey}, "5 events, 3 signed and 2 after them: no run.end", 3},
		{"no end after another's", part, []string{copied}, "5 events, 3 signed by " + goldenKey + ", which is not your key, and 2 after", 3},
		{"no end after one with another key", part, []string{copied, "--key", key}, "changed: line 3: is signed with another key", 1},
		{"cut off", whole[:len(whole)-1], nil, "3 events, none of them signed: the line after them is cut off", 3},
		{"empty", nil, nil, "incomplete: the log is empty", 3},
		{"not a log", []byte("root:x:0:0\n"), nil, "changed: line 1: ", 1},
		{"bad head", whole, []string{"--head", "abc"}, "not a SHA-256", 2},
		{"bad key", whole, []string{"--key", "abc"}, `"abc" is not a public key`, 2},
		{"empty key", whole, []string{"--key", ""}, "--key is empty: give it a PUBKEY", 2},
		{"not there", whole, []string{"./nosuch"}, "no such file", 2},
		{"unknown run", whole, []string{"nosuch"}, "nosuch", 2},
		{"two", whole, []string{newRun, newRun}, "at most", 2},
	}
	for _, tt := range tests {
		for _, name := range []string{path, copied} {
			if err := os.WriteFile(name, tt.log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, errs, code := agentjail(t, append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%s: exit %d, printed %s%s", tt.name, code, out, errs)
		}
	}
}

// TestVerifyElsewhere is a reviewer's machine: no run, no state, only the file and the key.
func TestVerifyElsewhere(t *testing.T) {
	const golden = "../../internal/audit/testdata/signed.jsonl"
	logState(t)
	out, errs, code := agentjail(t, "verify", "--key", goldenKey, golden)
	if code != 0 || !strings.HasPrefix(out, "ok: ") || !strings.HasSuffix(out, ", signed\n") || errs != "" {
		t.Errorf("exit %d, printed %s%s", code, out, errs)
	}
	out, _, code = agentjail(t, "verify", golden)
	if code != 4 || !strings.Contains(out, "signed by "+goldenKey+", which is not your key") {
		t.Errorf("without a key: exit %d, printed %s", code, out)
	}
}

func TestKey(t *testing.T) {
	state := logState(t)
	if out, errs, code := agentjail(t, "key"); code != 1 || out != "" || !strings.Contains(errs, "no key yet") {
		t.Errorf("before a run: exit %d, printed %s%s", code, out, errs)
	}
	writeRun(t, state, newRun)
	if out, errs, code := agentjail(t, "key"); code != 0 || out != publicKey(t, state)+"\n" || errs != "" {
		t.Errorf("exit %d, printed %s%s", code, out, errs)
	}
	if _, errs, code := agentjail(t, "key", "x"); code != 1 || !strings.Contains(errs, "no arguments") {
		t.Errorf("with an argument: exit %d: %s", code, errs)
	}
	if err := os.Chmod(filepath.Join(state, sandbox.KeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[string]int{"key": 1, "verify": 2} {
		if out, errs, code := agentjail(t, verb); code != want || out != "" || !strings.Contains(errs, "mode is 0644") {
			t.Errorf("%s with a key that others can read: exit %d, printed %s%s", verb, code, out, errs)
		}
	}
}

func TestVerifyOfARunThatGoesOn(t *testing.T) {
	state := logState(t)
	r, _ := openRun(t, state, newRun)
	defer r.Close(audit.End{})
	if out, _, code := agentjail(t, "verify"); code != 3 || !strings.Contains(out, "the run goes on") {
		t.Errorf("exit %d, printed %s", code, out)
	}
}

func TestVerifySchemaOfAnotherVersion(t *testing.T) {
	state := logState(t)
	path, _ := writeRun(t, state, newRun)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(`"schema":1`), []byte(`"schema":2`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := agentjail(t, "verify"); code != 2 || !strings.Contains(errs, "schema 2") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// TestVerdictOnAGap: a log that tells of a gap is not whole, whoever signed it.
func TestVerdictOnAGap(t *testing.T) {
	v := audit.Verification{Run: newRun, Events: 9, Complete: true, Dropped: 4, Signer: goldenKey, Signed: 9}
	a := anchor{key: goldenKey}
	if text, code := verdict(v, a, false); code != 0 || !strings.HasPrefix(text, "ok: ") {
		t.Errorf("of a flood: exit %d, %s", code, text)
	}
	v.Failed = 1
	text, code := verdict(v, a, false)
	if want := "9 signed and 0 after them: the log could not be written for a time, and 4 accesses are not in it"; code != exitIncomplete ||
		!strings.HasPrefix(text, "incomplete: ") || !strings.HasSuffix(text, want) {
		t.Errorf("exit %d, %s", code, text)
	}
}
