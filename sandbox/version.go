// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"debug/elf"
	"encoding/hex"
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
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	const head = 16 // sizes and type of the note, and "GNU" (elf(5), "Notes")
	section := f.Section(".note.gnu.build-id")
	if section == nil {
		return ""
	}
	note, err := section.Data()
	if err != nil || len(note) < head {
		return ""
	}
	return hex.EncodeToString(note[head:])
}

// kernelRelease is what uname(2) says.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
