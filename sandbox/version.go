// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
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

// kernelRelease is what uname(2) says.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
