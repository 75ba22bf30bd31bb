// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestReadPath: a path is read whole up to its end, wherever pages end, and nothing is taken for one that has no end.
func TestReadPath(t *testing.T) {
	const pages = 3
	memory, err := unix.Mmap(-1, 0, pages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	last := memory[(pages-1)*os.Getpagesize():]
	if err := unix.Mprotect(last, unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	readable := memory[:len(memory)-len(last)]
	read := func(at int) (string, error) {
		return readPath(uint32(unix.Gettid()), uint64(uintptr(unsafe.Pointer(&memory[at]))), make([]byte, maxPath))
	}
	for _, length := range []int{0, 1, shortPath - 1, shortPath, shortPath + 1, maxPath - 1} {
		want := strings.Repeat("a", length)
		for _, at := range []int{0, len(readable)/2 - 1, len(readable) - length - 1} {
			clear(readable)
			copy(readable[at:], want)
			if got, err := read(at); got != want || err != nil {
				t.Errorf("%d bytes at %d: %d bytes, %v", length, at, len(got), err)
			}
		}
	}
	copy(readable, bytes.Repeat([]byte("a"), len(readable)))
	for at, want := range map[int]error{
		0: unix.ENAMETOOLONG, len(readable) - maxPath + 1: unix.EFAULT, len(readable) - shortPath: unix.EFAULT, len(readable) - 1: unix.EFAULT,
		len(readable): unix.EFAULT,
	} {
		if got, err := read(at); got != "" || err != want {
			t.Errorf("no end from %d on: %d bytes, %v, want %v", at, len(got), err, want)
		}
	}
}
