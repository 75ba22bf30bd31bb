// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bounds of what is tried before all processes are looked at.
const (
	maxRecent = 8  // processes
	maxPlaces = 16 // descriptors of each
)

// A holder is a process that owned sockets. The next one mostly has a descriptor that an earlier one had, the lowest that is free
// (open(2)), or the one after the latest. To look there is a call each, where the kernel makes an entry for every descriptor of a
// directory that is read.
type holder struct {
	pid    int
	dir    int   // of this process in /proc, whoever gets its number later
	places []int // descriptors that were sockets', latest first
}

// again looks for the file at the places of a process that is still in the namespace.
func (h *holder) again(link string, namespace uint64) bool {
	var st unix.Stat_t
	if unix.Fstatat(h.dir, "ns/net", &st, 0) != nil || st.Ino != namespace {
		return false
	}
	buf := make([]byte, 64) // longer than any "socket:[4294967295]"
	for _, fd := range append([]int{h.places[0] + 1}, h.places...) {
		n, err := unix.Readlinkat(h.dir, "fd/"+strconv.Itoa(fd), buf)
		if err == nil && string(buf[:n]) == link {
			h.places = toFront(h.places, fd, maxPlaces)
			return true
		}
	}
	return false
}

// holders are the latest first.
type holders []*holder

// again looks for the file among what was found before. It returns 0 where it is not there.
func (hs *holders) again(link string, namespace uint64) (pid int) {
	for _, h := range *hs {
		if h.again(link, namespace) {
			*hs = toFront(*hs, h, maxRecent)
			return h.pid
		}
	}
	return 0
}

// has tells whether a process is among them.
func (hs *holders) has(pid int) bool { return hs.index(pid) >= 0 }

func (hs *holders) index(pid int) int {
	return slices.IndexFunc(*hs, func(h *holder) bool { return h.pid == pid })
}

// add remembers a process and where its socket was found. The number may have been another process's before.
func (hs *holders) add(pid, fd int) {
	dir, err := unix.Open(directory(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	h := &holder{pid: pid, dir: dir}
	i := hs.index(pid)
	if i < 0 && len(*hs) == maxRecent {
		i = maxRecent - 1
	}
	if i >= 0 {
		old := (*hs)[i]
		if old.pid == pid {
			h.places = old.places
		}
		unix.Close(old.dir)
		*hs = slices.Delete(*hs, i, i+1)
	}
	h.places = toFront(h.places, fd, maxPlaces)
	*hs = toFront(*hs, h, maxRecent)
}

func (hs *holders) close() {
	for _, h := range *hs {
		unix.Close(h.dir)
	}
	*hs = nil
}

// toFront puts an item before the others of a list, which has at most so many.
func toFront[T comparable](list []T, item T, most int) []T {
	list = slices.DeleteFunc(list, func(other T) bool { return other == item })
	return slices.Insert(list[:min(len(list), most-1)], 0, item)
}
