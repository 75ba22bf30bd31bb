// SPDX-License-Identifier: Apache-2.0

package sandbox

import "testing"

func TestQuotePath(t *testing.T) {
	for in, want := range map[string]string{
		"/home/ünï/x":     "/home/ünï/x",
		"with space":      `"with space"`,
		`with"quote\`:     `"with\"quote\\"`,
		"/a\x1b[2K\nb":    `"/a\x1b[2K\nb"`,
		"/a\xff":          `"/a\xff"`,
		"/a\u009b\u202eb": `"/a\u009b\u202eb"`,
		// Letters that a terminal shows elsewhere, on top of others, or not at all.
		"/a\u05d0\u05d1.txt":   `"/a\u05d0\u05d1.txt"`,
		"/a\u0301":             `"/a\u0301"`,
		"/a\u3164\u2800\u00a0": `"/a\u3164\u2800\u00a0"`,
	} {
		if got := quotePath(in); got != want {
			t.Errorf("%q: %s, not %s", in, got, want)
		}
	}
}
