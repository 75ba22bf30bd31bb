// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/caller"
)

// Bounds of the search for a socket's process. A run can have many processes with many files: what is not found within them
// has no owner in the log.
const (
	maxProcesses = 4096    // looked at, of the host's
	maxThreads   = 4096    // looked at, of all of them together
	maxFiles     = 1 << 16 // looked at, of all processes together
	maxOfThreads = 1 << 12 // looked at, of their threads that have files of their own
	maxKnown     = 256     // sockets whose owner is remembered
	knownFor     = time.Second
)

// owners finds the processes behind sockets of one network namespace.
type owners struct {
	namespace uint64 // inode
	diag      sockDiag
	tracking  conntrack // empty but ByRedirect

	mu     sync.Mutex
	known  map[uint32]known
	recent holders
	closed bool

	connecting connecting
}

type known struct {
	process audit.Process
	at      time.Time
}

// newOwners opens what it needs in the network namespace of the calling thread, which is the one of the file.
func newOwners(namespace *os.File) (*owners, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(namespace.Fd()), &st); err != nil {
		return nil, err
	}
	diag, err := newSockDiag()
	if err != nil {
		return nil, err
	}
	return &owners{namespace: st.Ino, diag: diag, known: map[uint32]known{}}, nil
}

// Owner finds the process that holds the command's end of a connection or datagram. The zero Process is an unknown one: the
// socket is closed already, or its process is.
func (n *Namespace) Owner(network string, local, remote netip.AddrPort) audit.Process {
	o := n.owner
	inode, err := o.inode(network, unmap(local), unmap(remote))
	if err != nil || inode == 0 {
		return audit.Process{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if k, ok := o.known[inode]; ok && time.Since(k.at) < knownFor {
		return k.process
	}
	var process audit.Process // of nobody, where a message on a Unix socket has the only descriptor: remembered, too
	link := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	pid := o.connecting.thread(inode, link)
	if pid == 0 {
		pid = o.find(link)
	}
	if pid != 0 {
		process = caller.Of(pid)
	}
	if len(o.known) >= maxKnown {
		clear(o.known)
	}
	o.known[inode] = known{process, time.Now()}
	return process
}

// inode returns the inode of the command's socket; 0 if there is none.
func (o *owners) inode(network string, local, remote netip.AddrPort) (uint32, error) {
	inode, err := o.diag.connection(network, local, remote)
	if err != nil || inode != 0 || o.tracking.netlinkConn == nil || network != "tcp" {
		return inode, err
	}
	from, ok := o.tracking.begunAt(local, remote)
	if !ok || from == local {
		return 0, nil
	}
	return o.diag.connection(network, from, remote)
}

// find looks for a process of the namespace that holds the file, or one of its threads.
func (o *owners) find(link string) int {
	if pid := o.recent.again(link, o.namespace); pid != 0 {
		return pid
	}
	pid, fd := o.search(link)
	if pid != 0 && !o.closed {
		o.recent.add(pid, fd)
	}
	return pid
}

// search looks at the descriptors of all processes: first of those that were found before, and last of the threads that may have
// files of their own (without CLONE_FILES of clone(2)), or have outlived their process's first.
func (o *owners) search(link string) (pid, fd int) {
	files := maxFiles
	for _, h := range o.recent {
		if fd := o.holds(directory(h.pid), link, &files); fd >= 0 {
			return h.pid, fd
		}
	}
	all := processes()
	for _, pid := range all {
		if o.recent.has(pid) {
			continue
		}
		if fd := o.holds(directory(pid), link, &files); fd >= 0 {
			return pid, fd
		}
	}
	files = min(files, maxOfThreads)
	threads := maxThreads
	for _, pid := range all {
		if tid, fd := o.thread(pid, link, &threads, &files); tid != 0 {
			return tid, fd
		}
	}
	return 0, 0
}

func directory(pid int) string { return "/proc/" + strconv.Itoa(pid) }

// thread looks for a thread that holds the file among those of a process but the first. What it looks at it takes from the
// two budgets. Nearly all threads have the files of one before, and cost no more than a call each.
func (o *owners) thread(pid int, link string, threads, files *int) (tid, fd int) {
	var st unix.Stat_t
	// A first thread that has ended is in no namespace any more; one of another user's is not for us to see.
	err := unix.Stat(directory(pid)+"/ns/net", &st)
	if err == nil && st.Ino != o.namespace || err != nil && err != unix.ENOENT {
		return 0, 0
	}
	if *threads <= 0 {
		return 0, 0
	}
	all := numbers(directory(pid)+"/task", *threads)
	*threads -= len(all)
	before := pid
	for _, tid := range all {
		if tid == pid || sameFiles(pid, tid) || sameFiles(before, tid) {
			continue
		}
		if fd := o.holds(directory(tid), link, files); fd >= 0 {
			return tid, fd
		}
		before = tid
	}
	return 0, 0
}

// sameFiles tells whether two threads share their descriptors (kcmp(2)). Where the kernel does not say, as without CONFIG_KCMP,
// they are taken to have their own.
func sameFiles(a, b int) bool {
	const files = 2 // KCMP_FILES of linux/kcmp.h
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), files, 0, 0, 0)
	return errno == 0 && order == 0
}

// processes lists the newest processes that this one can see, newest first as far as numbers tell.
func processes() []int {
	pids := numbers("/proc", -1)
	slices.SortFunc(pids, func(a, b int) int { return b - a })
	return pids[:min(len(pids), maxProcesses)]
}

// numbers are the names in a directory that are one, at most n of all names.
func numbers(path string, n int) []int {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(n)
	var out []int
	for _, name := range names {
		if number, err := strconv.Atoi(name); err == nil {
			out = append(out, number)
		}
	}
	return out
}

// holds returns the descriptor of the file in the process or thread of a directory of /proc, -1 where that does not have it or is not
// in the namespace. It takes what it looks at from the budget.
func (o *owners) holds(dir, link string, budget *int) (fd int) {
	var st unix.Stat_t
	if unix.Stat(dir+"/ns/net", &st) != nil || st.Ino != o.namespace {
		return -1
	}
	fds, err := os.Open(dir + "/fd")
	if err != nil {
		return -1
	}
	defer fds.Close()
	buf := make([]byte, 64) // longer than any "socket:[4294967295]"
	for *budget > 0 {
		names, err := fds.Readdirnames(256)
		for _, name := range names {
			*budget--
			if n, err := unix.Readlinkat(int(fds.Fd()), name, buf); err == nil && string(buf[:n]) == link {
				fd, _ := strconv.Atoi(name) // proc_pid_fd(5): it is a number
				return fd
			}
		}
		if err != nil || len(names) == 0 {
			return -1
		}
	}
	return -1
}

// Close releases what it has open. A socket is then nobody's that was not remembered.
func (o *owners) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.recent.close()
	return errors.Join(o.diag.Close(), o.tracking.Close())
}
