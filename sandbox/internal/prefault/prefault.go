// SPDX-License-Identifier: Apache-2.0

// Package prefault has the kernel make ready, by a few system calls, the heap of the processes that stay, launcher and supervisor. The
// fault of one page costs many times what it costs to make it ready with its neighbours, the more so in a virtual machine whose page
// tables are shadowed, and a start touches some thousand pages of them.
//
// All of it is advice: where the kernel does not take it, a start takes longer, and nothing else.
package prefault

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heap has what is allocated from now on come from huge pages, and no garbage collected for a second: what it leaves unused would be
// reason enough. A process that forks should call it just before. What it has touched by then is write-protected by the fork, which
// costs a fault for each page that is written again, and splits huge pages.
func Heap() { once.Do(func() { postponeCollection(); heap() }) }

var once sync.Once

// chunk is what the Go runtime maps of its heap at a time (pallocChunkBytes in runtime/mpagealloc.go), at a multiple of its size, and what
// is made ready of it: two huge pages.
const chunk = 4 << 20

// heap begins another chunk, of huge pages. The runtime gives out the lowest free address, and begins at a random
// one in its first chunk: the rest of the chunk is allocated, and never touched, so that the next allocation begins another one.
// An allocation of this size is made from no cache (pageCachePages in runtime/mpagecache.go).
func heap() {
	const some = 128 << 10
	here := address(make([]byte, some))
	rest := make([]byte, chunk-(here+some)%chunk)
	advise(address(make([]byte, some)), chunk, unix.MADV_HUGEPAGE)
	runtime.KeepAlive(rest)
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func advise(start, size uintptr, advice int) {
	unix.Syscall(unix.SYS_MADVISE, start, size, uintptr(advice))
}

const (
	startHeap = 32 << 20 // bytes: far more than a start leaves behind
	startTime = time.Second
)

// postponeCollection keeps the garbage collector from running while a run starts. The few megabytes that a start allocates are
// not worth the time, which the one who waits for the command would see. After a second, or from startHeap on, it runs as ever.
func postponeCollection() {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(startHeap)
	time.AfterFunc(startTime, func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}
