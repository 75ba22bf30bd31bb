// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRedacted: what Options.Redact takes out of a command line is nowhere in the log or in a copy of it, how often is, and the log is whole.
// What an event says of that itself is not believed. Without it, the twin, a command line is as it was.
// Containment check: Q13.
func TestRedacted(t *testing.T) {
	redact := func(args []string) ([]string, int) {
		n := 0
		clean := slices.Clone(args)
		for i, arg := range args {
			n += strings.Count(arg, "!")
			clean[i] = strings.ReplaceAll(arg, "!", "???")
		}
		return clean, n
	}
	long := strings.Repeat("!", MaxArgv-1) // of which each becomes longer
	for name, f := range map[string]func([]string) ([]string, int){"redacted": redact, "as it is": nil} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, copied := filepath.Join(dir, "log"), filepath.Join(dir, "copy")
			r, err := Open(Options{Path: path, Copies: []Copy{{File: copied}}, Run: testRun, Redact: f})
			if err != nil {
				t.Fatal(err)
			}
			for _, argv := range [][]string{{"a", "!b!"}, {"c"}, {"d", long}, nil} {
				e := denied(ClassFile, "/x!"+strings.Join(argv, "")[:min(1, len(argv))])
				e.Argv, e.Redacted = argv, 77
				r.Emit(e)
			}
			if err := r.Start(nil); err != nil {
				t.Fatal(err)
			}
			_, events := closed(t, r, path)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := Verify(bytes.NewReader(text), ""); err != nil || !v.Complete || v.FirstBad != nil {
				t.Errorf("%+v, %v", v, err)
			}
			if other, err := os.ReadFile(copied); err != nil || !bytes.Equal(other, text) {
				t.Errorf("the copy differs (%v)", err)
			}
			if !strings.Contains(string(text), `"target":"/x!`) {
				t.Error("a target was changed")
			}
			var numbers []int
			for _, e := range events {
				if e.Class != ClassFile {
					continue
				}
				numbers = append(numbers, e.Redacted)
				size := len(strings.Join(e.Argv, ""))
				if f != nil && strings.Contains(strings.Join(e.Argv, ""), "!") || size > MaxArgv || f != nil && size == MaxArgv != slices.Contains(e.Truncated, "argv") {
					t.Errorf("argv of %d bytes, %.40q, truncated %v", size, e.Argv, e.Truncated)
				}
			}
			want := []int{2, 0, MaxArgv - 1, 0}
			if f == nil {
				want = make([]int, 4)
			}
			if !slices.Equal(numbers, want) {
				t.Errorf("redacted: %v, want %v", numbers, want)
			}
		})
	}
}
