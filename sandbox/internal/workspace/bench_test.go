// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkReport is the end of a run that changed nothing in a tree of 10,000 files.
func BenchmarkReport(b *testing.B) {
	dir := b.TempDir()
	for i := range 100 {
		sub := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j, ".js")), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	w, err := Open([]string{dir}, nil, DefaultBounds)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.Report()
	}
}
