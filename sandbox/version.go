// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Version is that of agentjail in this program, with the commit that it was built from where there is one.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == "github.com/agentjail/agentjail" && m.Version != "" {
				return m.Version
			}
		}
	}
	return "(devel)"
}

// buildID is what the linker has put into this program to tell it from others, "" if it has not: a hash of what it was made of. One of the
// whole file would cost a start more than all the rest of its log does.
func buildID() string {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 4096) // linkers put notes behind the headers
	n, _ := f.ReadAt(head, 0)
	return buildIDOf(head[:n])
}

// buildIDOf reads the note NT_GNU_BUILD_ID (elf(5), "Notes") at the beginning of a file of 64 bits and this machine's order of bytes.
func buildIDOf(head []byte) string {
	const (
		headerSize, programSize = 64, 56 // Elf64_Ehdr, Elf64_Phdr
		ptNote, ntBuildID       = 4, 3
	)
	at := func(offset, size uint64) []byte {
		if offset > uint64(len(head)) || size > uint64(len(head))-offset {
			return nil
		}
		return head[offset : offset+size]
	}
	header := at(0, headerSize)
	if header == nil || !bytes.HasPrefix(header, []byte("\x7fELF\x02")) {
		return ""
	}
	programs, count := binary.NativeEndian.Uint64(header[32:]), binary.NativeEndian.Uint16(header[56:])
	for i := range uint64(count) {
		program := at(programs+i*programSize, programSize)
		if program == nil {
			return ""
		}
		if binary.NativeEndian.Uint32(program) != ptNote {
			continue
		}
		notes := at(binary.NativeEndian.Uint64(program[8:]), binary.NativeEndian.Uint64(program[32:]))
		if id := note(notes, "GNU\x00", ntBuildID); id != nil {
			return hex.EncodeToString(id)
		}
	}
	return ""
}

// note finds a note by its owner and type: the sizes of name and content, the type, and both of them, each filled up to four bytes.
func note(notes []byte, owner string, kind uint32) []byte {
	const head = 12
	for len(notes) >= head {
		name, size := uint64(binary.NativeEndian.Uint32(notes)), uint64(binary.NativeEndian.Uint32(notes[4:]))
		from := head + (name+3)&^3
		to := from + size
		if to > uint64(len(notes)) {
			return nil
		}
		if binary.NativeEndian.Uint32(notes[8:]) == kind && string(notes[head:head+name]) == owner {
			return notes[from:to]
		}
		notes = notes[min((to+3)&^3, uint64(len(notes))):]
	}
	return nil
}

// kernelRelease is what uname(2) says.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
