// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPath bounds a path that is read from a caller (PATH_MAX, limits.h).
const maxPath = unix.PathMax

// pageSize is the smallest that the architectures have: a string may end just before a page that is not there.
const pageSize = 4096

// readMemory copies what a thread has at an address, as much as there is (process_vm_readv(2)).
func readMemory(tid uint32, address uint64, buf []byte) (int, error) {
	first := min(len(buf), pageSize-int(address%pageSize))
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	remote := []unix.RemoteIovec{{Base: uintptr(address), Len: first}}
	if first < len(buf) {
		remote = append(remote, unix.RemoteIovec{Base: uintptr(address) + uintptr(first), Len: len(buf) - first})
	}
	return unix.ProcessVMReadv(int(tid), local, remote, 0)
}

// shortPath is more than most paths have. To read as much as a path may have would take twice the time, for a second page.
const shortPath = 256

// readPath copies a path that a thread passed. ENAMETOOLONG is one that does not end within PATH_MAX.
func readPath(tid uint32, address uint64, buf []byte) (string, error) {
	if address == 0 {
		return "", nil
	}
	n, err := readMemory(tid, address, buf[:shortPath])
	if err == nil && n == shortPath && bytes.IndexByte(buf[:n], 0) < 0 {
		n, err = readMemory(tid, address+shortPath, buf[shortPath:])
		n += shortPath
	}
	if err != nil {
		return "", err
	}
	end := bytes.IndexByte(buf[:n], 0)
	if end < 0 && n < len(buf) {
		return "", unix.EFAULT
	}
	if end < 0 {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:end]), nil
}

// numberAfter finds "field:\tN" in a status file. Of several numbers, one for each pid namespace from the reader's to the thread's own
// (proc_pid_status(5)), it is the second: the run's namespace is in the reader's, and those that a run makes are in the run's.
func numberAfter(status, field string) (int, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			words := strings.Fields(rest)
			if len(words) == 0 {
				break
			}
			return strconv.Atoi(words[min(1, len(words)-1)])
		}
	}
	return 0, errNoField
}
