// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A frequent call is one of those that builds and package managers make most, as it does little: what a filter adds shows most there.
type frequentCall struct {
	name string
	make func() error
}

// frequentCalls works on a file of the working directory and on pipes.
func frequentCalls() ([]frequentCall, error) {
	file, err := os.CreateTemp(".", "calls-")
	if err != nil {
		return nil, err
	}
	os.Remove(file.Name())
	path, err := unix.BytePtrFromString("bench")
	if err != nil {
		return nil, err
	}
	page := make([]byte, 4096)
	if _, err := file.Write(page); err != nil {
		return nil, err
	}
	fd := int(file.Fd())
	var stat unix.Stat_t
	word := new(uint32)
	raw := func(nr, a, b, c uintptr) error {
		if _, _, errno := unix.RawSyscall6(nr, a, b, c, 0, 0, 0); errno != 0 {
			return errno
		}
		return nil
	}
	dir := unix.AT_FDCWD
	return []frequentCall{
		{"read", func() error { _, err := unix.Pread(fd, page, 0); return err }},
		{"write", func() error { _, err := unix.Pwrite(fd, page, 0); return err }},
		{"openat, close", func() error {
			n, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
			if errno != 0 {
				return errno
			}
			return unix.Close(int(n))
		}},
		{"newfstatat", func() error {
			return raw(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&stat)))
		}},
		{"fstat", func() error { return unix.Fstat(fd, &stat) }},
		{"lseek", func() error { _, err := unix.Seek(fd, 0, 0); return err }},
		{"mmap, munmap", func() error {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			return unix.Munmap(m)
		}},
		{"futex", func() error { return raw(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), 1, 1) }},
		{"rt_sigprocmask", func() error { return unix.PthreadSigmask(unix.SIG_BLOCK, nil, new(unix.Sigset_t)) }},
		{"fcntl", func() error { _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); return err }},
		{"ioctl", func() error { raw(unix.SYS_IOCTL, uintptr(fd), unix.TCGETS, 0); return nil }},
		{"getpid", func() error { return raw(unix.SYS_GETPID, 0, 0, 0) }},
	}, nil
}

// The least of many short batches is what calls take where nothing else of the machine is in between.
const batch, batches, callRounds = 200, 60, 7

// innerCalls prints the nanoseconds of each call, one a line.
func innerCalls([]string) error {
	calls, err := frequentCalls()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	for _, c := range calls {
		least := time.Duration(math.MaxInt64)
		for range batches {
			begin := time.Now()
			for range batch {
				if err := c.make(); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			least = min(least, time.Since(begin))
		}
		fmt.Println(int64(least) / batch)
	}
	return nil
}

// innerDenied makes a call that is refused, again and again, and prints the nanoseconds of each.
func innerDenied([]string) error {
	const times = 20_000
	took := make([]time.Duration, times)
	for i := range took {
		begin := time.Now()
		if err := unix.Unshare(unix.CLONE_NEWUSER); err != unix.EPERM {
			return fmt.Errorf("unshare: %v, and it is to be refused", err)
		}
		took[i] = time.Since(begin)
	}
	for _, d := range took {
		fmt.Println(int64(d))
	}
	return nil
}

// benchCalls compares what each of frequentCalls takes inside and bare, and times those that are refused.
func benchCalls([]string) error {
	dir, err := os.MkdirTemp(".", "calls-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copySelf(dir); err != nil {
		return err
	}
	work := []string{"./bench", "innercalls"}
	variants := [][]string{work, append([]string{"./bench", "kernel"}, work...), append([]string{"agentjail", "run", "--quiet", "--"}, work...)}
	least := make([][]time.Duration, len(variants))
	for range callRounds {
		for i, argv := range variants {
			took, err := durations(dir, argv...)
			if err != nil {
				return err
			}
			if least[i] == nil {
				least[i] = took
			}
			for c, d := range took {
				least[i][c] = min(least[i][c], d)
			}
		}
	}
	if err := printCalls(least); err != nil {
		return err
	}
	took, err := durations(dir, "agentjail", "run", "--quiet", "--", "./bench", "innerdenied")
	if err != nil {
		return err
	}
	sum := time.Duration(0)
	for _, d := range took {
		sum += d
	}
	middle := median(took) // sorts
	fmt.Printf("system calls that are refused and recorded: %.0f a second by one thread; median %v, 99 of 100 within %v\n",
		float64(len(took))/sum.Seconds(), middle, took[len(took)*99/100])
	return nil
}

func printCalls(least [][]time.Duration) error {
	calls, err := frequentCalls()
	if err != nil {
		return err
	}
	fmt.Printf("frequent system calls inside against bare, the least of %d interleaved rounds\n", callRounds)
	line := func(name string, bare, alone, inside time.Duration, limit string) {
		fmt.Printf("  %-16s bare %6d ns  inside %6d ns  %.3f (%sseccomp and Landlock alone %.3f)\n", name, bare, inside, ratio(inside, bare), limit, ratio(alone, bare))
	}
	var sums [3]time.Duration
	for c, call := range calls {
		for i := range sums {
			sums[i] += least[i][c]
		}
		line(call.name, least[0][c], least[1][c], least[2][c], "")
	}
	line("a loop of them all", sums[0], sums[1], sums[2], "at most 1.02; ")
	return nil
}

// durations runs a command that prints nanoseconds, one a line.
func durations(dir string, argv ...string) ([]time.Duration, error) {
	out, err := output(dir, argv...)
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for word := range strings.FieldsSeq(out) {
		ns, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, time.Duration(ns))
	}
	return all, nil
}
