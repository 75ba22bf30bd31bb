// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"debug/elf"
	"encoding/hex"
	"os"
	"testing"
)

// TestBuildID: what is read of a program's head is the note that a full reading finds, and of what is no program nothing.
func TestBuildID(t *testing.T) {
	const program = "/bin/sh"
	head, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	head = head[:min(len(head), 4096)]
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section := f.Section(".note.gnu.build-id")
	if section == nil || f.Class != elf.ELFCLASS64 {
		t.Skip("the shell of this machine has no build id")
	}
	data, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	const noteHead = 16 // sizes, type, and "GNU"
	if got, want := buildIDOf(head), hex.EncodeToString(data[noteHead:]); got != want {
		t.Errorf("%s has %q, want %q", program, got, want)
	}
	for size := range head {
		buildIDOf(head[:size]) // must not panic
	}
	for i := range head[:1024] {
		other := append([]byte(nil), head...)
		for _, b := range []byte{0, 0x7f, 0x80, 0xff} {
			other[i] = b
			buildIDOf(other)
		}
	}
	for _, text := range []string{"", "#!/bin/sh\n", "\x7fELF\x01"} {
		if got := buildIDOf([]byte(text)); got != "" {
			t.Errorf("%q has %q", text, got)
		}
	}
}
