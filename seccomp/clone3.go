// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// newPlaces are the flags with which clone3(2) asks for more than a process or thread: namespaces, of which CLONE_NEWTIME is a
// bit that means something else to clone(2), and a cgroup.
const newPlaces = namespaceFlags | unix.CLONE_NEWTIME | unix.CLONE_INTO_CGROUP

// describeClone3 tells whether a clone3(2) asks for a process or thread alone, and describes it. The C library tries that at
// every first thread and posix_spawn(3), to learn whether it has to use clone(2): no denial of anything. The flags are the first
// word of struct clone_args, in the caller's memory; what cannot be read is not plain.
func describeClone3(n *notification) (target string, plain bool) {
	var word [8]byte
	if read, err := readMemory(n.PID, n.Args[0], word[:]); err != nil || read != len(word) {
		return "clone3", false
	}
	asked := binary.NativeEndian.Uint64(word[:])
	return "clone3(" + flags(cloneFlags, asked) + ")", asked&newPlaces == 0
}
