// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"testing"
)

func TestErrorText(t *testing.T) {
	hostile := &fs.PathError{Op: "open", Path: "/w/\x1b[2K\r\nagentjail: all is well\u009b\u202e\u05d0\xff", Err: errors.New("gone")}
	for _, tt := range []struct{ in, want string }{
		{"no such file: /home/ünï/a b", "no such file: /home/ünï/a b"},
		{`path "/a\nb" is odd`, `path "/a\nb" is odd`},
		{"two\nlines", "two\n  lines"},
		{hostile.Error(), "open /w/\\x1b[2K\\r\n  agentjail: all is well\\u009b\\u202e\\u05d0\\xff: gone"},
	} {
		if got := errorText(tt.in); got != tt.want {
			t.Errorf("%q: %q, not %q", tt.in, got, tt.want)
		}
	}
}
