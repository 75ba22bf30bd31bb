// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRedacted: what Options.Redact takes out of a command line is nowhere in the log or in a copy of it, how often is, and the log is whole.
// What an event says of that itself is not believed. Without it, the twin, a command line is as it was.
// Containment check: Q13.
func TestRedacted(t *testing.T) {
	redact := func(args []string) (clean []string, n int) {
		for _, arg := range args {
			n += strings.Count(arg, "!")
			clean = append(clean, strings.ReplaceAll(arg, "!", "???"))
		}
		return clean, n
	}
	given := [][]string{{"a", "!b!"}, {"a", "!b!"}, {"c"}, {"d", strings.Repeat("!", MaxArgv-1)}, nil}
	for name, tt := range map[string]struct {
		redact func([]string) ([]string, int)
		want   [][]string
		counts []int
	}{
		"redacted": {redact, [][]string{{"a", "???b???"}, {"a", "???b???"}, {"c"}, {"d", strings.Repeat("?", MaxArgv-1)}, nil}, []int{2, 2, 0, MaxArgv - 1, 0}},
		"as it is": {nil, given, make([]int, len(given))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, copied := filepath.Join(dir, "log"), filepath.Join(dir, "copy")
			r, err := Open(Options{Path: path, Copies: []Copy{{File: copied}}, Run: testRun, Redact: tt.redact})
			if err != nil {
				t.Fatal(err)
			}
			for i, argv := range given {
				e := denied(ClassFile, "/x!"+strconv.Itoa(i))
				e.Argv, e.Redacted = argv, 77
				r.Emit(e)
			}
			if err := r.Start(nil); err != nil {
				t.Fatal(err)
			}
			_, events := closed(t, r, path)
			events = slices.DeleteFunc(events, func(e Event) bool { return e.Class != ClassFile })
			for i, e := range events {
				cut := tt.redact != nil && i == 3 // what stands in the place of secrets is longer
				if !slices.Equal(e.Argv, tt.want[i]) || e.Redacted != tt.counts[i] || slices.Contains(e.Truncated, "argv") != cut || e.Target != "/x!"+strconv.Itoa(i) {
					t.Errorf("%s: argv %.40q, redacted %d, truncated %v", e.Target, e.Argv, e.Redacted, e.Truncated)
				}
			}
			text, err := os.ReadFile(path)
			other, err2 := os.ReadFile(copied)
			if len(events) != len(given) || err != nil || err2 != nil || !bytes.Equal(text, other) {
				t.Errorf("%d events; the copy differs: %t (%v, %v)", len(events), !bytes.Equal(text, other), err, err2)
			}
		})
	}
}
