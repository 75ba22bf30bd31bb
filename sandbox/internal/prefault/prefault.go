// SPDX-License-Identifier: Apache-2.0

// Package prefault has the kernel make ready, by a few system calls, the memory of this program that a start would touch page by
// page: the program itself, and the heap of the processes that stay. The fault of one page costs many times what it costs to make it
// ready with its neighbours, the more so in a virtual machine whose page tables are shadowed, and the four processes of a start
// take some 3000 of them.
//
// It works in an init function, before most other packages are initialised, in the processes that a run starts; Program and Heap are for
// the one that starts them. All of it is advice: where the kernel does not take it, a start takes longer, and nothing else.
package prefault

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The first arguments of the processes that a run starts. Those who start them have constants of their own, which tests compare.
const (
	Supervisor = "agentjail-supervisor"
	Stage      = "agentjail-stage"
	nsinit     = "init" // libcontainer's word
)

// init leaves the heap of the processes inside the namespaces alone. They touch too little of it for a huge page, of which the stage
// would make a copy for the command's process.
func init() {
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case Supervisor:
		Program()
		Heap()
	case nsinit, Stage:
		Program()
	}
}

// Program maps the program's code and constants, all of which are in the page cache by now or will be soon. What is there costs no memory
// to be mapped, and the kernel maps 16 pages around a fault anyway.
func Program() {
	for _, a := range mapped() {
		advise(a.start, a.end-a.start, unix.MADV_POPULATE_READ) // Linux 5.14
	}
}

// Heap has what is allocated from now on come from huge pages, and no garbage collected for a second: what it leaves unused would be
// reason enough. A process that forks should call it just before. What it has touched by then is write-protected by the fork, which
// costs a fault for each page that is written again, and splits huge pages.
func Heap() { once.Do(func() { postponeCollection(); heap() }) }

var once sync.Once

// An area is a part of the address space.
type area struct{ start, end uintptr }

// mapped are the areas of the program's file that are only read.
func mapped() []area {
	fd, err := unix.Open("/proc/self/maps", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	lines := make([]byte, 1<<10)
	n, err := unix.Read(fd, lines)
	if err != nil {
		return nil
	}
	return readOnly(string(lines[:n]))
}

// readOnly finds the areas in lines of proc_pid_maps(5): those of the first file that may not be written. The program is linked to an
// address below all else. A last line that was cut off is left out.
func readOnly(lines string) (areas []area) {
	file := ""
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line) // range, permissions, offset, device, inode, path
		if len(fields) < 6 || !strings.HasSuffix(line, "\n") {
			return areas
		}
		if file == "" {
			file = fields[5]
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if fields[5] != file || err1 != nil || err2 != nil {
			return areas
		}
		if strings.HasPrefix(fields[1], "r-") {
			areas = append(areas, area{uintptr(start), uintptr(end)})
		}
	}
	return areas
}

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
