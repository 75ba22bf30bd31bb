// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// call tries a system call with arguments that cannot be. Who refuses a call that does not exist here says ENOSYS; who refuses
// one that does, EPERM or EACCES. Every other answer comes from the call itself.
func call(nr uintptr, args ...uintptr) (Verdict, string) {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	switch errno {
	case unix.EPERM, unix.ENOSYS, unix.EACCES:
		return Held, unix.ErrnoName(errno)
	case 0:
		return Leaked, "it succeeded"
	}
	return Leaked, "it reached the kernel: " + unix.ErrnoName(errno)
}

// held is the verdict on an error.
func held(err error) (Verdict, string) {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return Held, unix.ErrnoName(errno)
	}
	return Held, err.Error()
}

// each makes a try of several paths; one leak is a leak.
func each(paths []string, try func(string) (Verdict, string)) (v Verdict, why string) {
	for _, path := range paths {
		if v, why = try(path); v == Leaked {
			return v, path + " " + why
		}
	}
	return v, why
}

// readable tries to read a byte. What is masked is empty.
func readable(path string) (Verdict, string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return held(err)
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, make([]byte, 1))
	switch {
	case n > 0, errors.Is(err, unix.EAGAIN): // there are no messages at the moment
		return Leaked, "can be read"
	case err != nil:
		return held(err)
	}
	return Held, "empty"
}

// openable tries to open a file to write it, and writes nothing. What is masked is /dev/null.
func openable(path string) (Verdict, string) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return held(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return Held, "masked"
	}
	return Leaked, "can be written"
}

// token tries to read the bait.
func token(f Facts, path string) (Verdict, string) {
	data, err := os.ReadFile(path)
	switch {
	case err != nil:
		return held(err)
	case string(data) == f.Token:
		return Leaked, "it was read"
	}
	return Held, "another file is there"
}

func listable(dir string) (Verdict, string) {
	names, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return held(err)
	case len(names) > 0:
		return Leaked, "it was listed"
	}
	return Held, "empty"
}

func creatable(path string) (Verdict, string) {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return held(err)
	}
	unix.Close(fd)
	return Leaked, "it was made"
}

// temporary tries to make a file without a name, which is gone when it is closed (open(2), O_TMPFILE).
func temporary(dir string) (Verdict, string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR):
		return Untestable, "its file system has no files without a name"
	case err != nil:
		return held(err)
	}
	unix.Close(fd)
	return Leaked, "a file was made"
}

// privileges reads what the kernel says of this process (proc_pid_status(5)).
func privileges(Facts) (Verdict, string) {
	data, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return Untestable, err.Error()
	}
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2"}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[set] = "0000000000000000"
	}
	for l := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(l, ":")
		value = strings.TrimSpace(value)
		if w, ok := want[name]; ok && value != w {
			return Leaked, name + " is " + value
		}
		delete(want, name)
	}
	if len(want) > 0 {
		return Untestable, "the kernel does not say all of it"
	}
	return Held, "none"
}

// namespaces compares with the host's.
func namespaces(f Facts) (Verdict, string) {
	if len(f.Namespaces) == 0 {
		return Untestable, "the host's are not known"
	}
	for kind, host := range f.Namespaces {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return Untestable, err.Error()
		}
		if own == host {
			return Leaked, "the " + kind + " namespace is the host's"
		}
	}
	return Held, fmt.Sprintf("%d of its own", len(f.Namespaces))
}

// openFiles looks for more than the standard files. What was inherited is not closed by execve(2); what this program has opened is.
func openFiles(Facts) (Verdict, string) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return Untestable, err.Error()
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 { // the listing itself is closed by now
			continue
		}
		target, _ := os.Readlink("/proc/self/fd/" + name.Name())
		return Leaked, fmt.Sprintf("%d is %s", fd, target)
	}
	return Held, "standard files alone"
}

// processes expects pid 1 and this one.
func processes(Facts) (Verdict, string) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return Untestable, err.Error()
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name.Name()); err == nil && pid != 1 && pid != os.Getpid() {
			return Leaked, fmt.Sprintf("process %d", pid)
		}
	}
	return Held, "pid 1 and this one"
}

func environment(Facts) (Verdict, string) {
	data, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return Untestable, err.Error()
	}
	if _, ok := os.LookupEnv(variable); ok || bytes.Contains(data, []byte(variable+"=")) {
		return Leaked, "it is there"
	}
	return Held, "absent"
}

// maxWalk bounds how much of a hierarchy of cgroups is looked at.
const maxWalk = 2000

func cgroup(Facts) (v Verdict, why string) {
	v, why = Held, "none to be seen"
	seen := 0
	filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if seen++; seen > maxWalk {
			return fs.SkipAll
		}
		if err != nil {
			return nil
		}
		if unix.Access(path, unix.W_OK) == nil {
			v, why = Leaked, path+" can be written"
			return fs.SkipAll
		}
		why = "nothing can be written"
		return nil
	})
	return v, why
}

// harmless are the names that /dev may have.
var harmless = []string{
	"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
}

func devices(Facts) (Verdict, string) {
	names, err := os.ReadDir("/dev")
	if err != nil {
		return held(err)
	}
	for _, name := range names {
		if !slices.Contains(harmless, name.Name()) {
			return Leaked, "/dev/" + name.Name()
		}
	}
	return Held, fmt.Sprintf("%d, all of them harmless", len(names))
}

// scorePath is the score by which the kernel chooses whom to end when memory is short (proc_pid_oom_score_adj(5)).
const scorePath = "/proc/self/oom_score_adj"

// score reads it.
func score() (int, error) {
	data, err := os.ReadFile(scorePath)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// oomScore tries to have a lower score than the launcher, and puts it back. A run with a limit of memory starts with a higher one.
func oomScore(f Facts) (Verdict, string) {
	before, err := score()
	if err != nil {
		return held(err)
	}
	if f.Score <= -1000 {
		return Untestable, "it cannot be lower"
	}
	if err := os.WriteFile(scorePath, []byte(strconv.Itoa(f.Score-1)), 0); err != nil {
		return held(err)
	}
	os.WriteFile(scorePath, []byte(strconv.Itoa(before)), 0)
	return Leaked, "the score was lowered"
}

func setuid(Facts) (Verdict, string) {
	if os.Getuid() == 0 {
		return Untestable, "it has the number of root already, as its caller"
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, none, 0, none); errno != 0 {
		return held(errno)
	}
	return Leaked, "it succeeded"
}

// socket opens a socket and tells whether the kernel had a look at more than the family.
func socket(family, kind, protocol uintptr) (Verdict, string) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family, kind|unix.SOCK_CLOEXEC, protocol)
	switch errno {
	case 0:
		unix.Close(int(fd))
		return Leaked, "can be opened"
	case unix.EPROTONOSUPPORT, unix.ESOCKTNOSUPPORT, unix.EPROTOTYPE:
		return Leaked, "reached the kernel: " + unix.ErrnoName(errno)
	}
	return Held, unix.ErrnoName(errno)
}

// maxFamily is AF_MCTP's number and more, in Linux 6.18 (include/linux/socket.h).
const maxFamily = 47

func families(Facts) (v Verdict, why string) {
	for family := uintptr(1); family <= maxFamily; family++ {
		if slices.Contains([]uintptr{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}, family) {
			continue
		}
		for _, kind := range []uintptr{unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
			if v, why = socket(family, kind, 0); v == Leaked {
				return v, fmt.Sprintf("family %d %s", family, why)
			}
		}
	}
	return v, why
}

// netlink tries all protocols but NETLINK_ROUTE, with which programs ask for addresses.
func netlink(Facts) (v Verdict, why string) {
	for protocol := uintptr(unix.NETLINK_ROUTE + 1); protocol <= unix.NETLINK_SMC; protocol++ {
		if v, why = socket(unix.AF_NETLINK, unix.SOCK_RAW, protocol); why == "EPROTONOSUPPORT" {
			continue
		}
		if v == Leaked && why == "can be opened" {
			return v, fmt.Sprintf("protocol %d %s", protocol, why)
		}
	}
	return v, why
}

func highFamily(Facts) (Verdict, string) {
	return socket(unix.AF_NETLINK|high, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT)
}

// interfaces reads a table whose rows begin with a name and a colon (proc_pid_net(5)).
func interfaces(Facts) (Verdict, string) {
	data, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return Untestable, err.Error()
	}
	for l := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) != "lo" {
			return Leaked, strings.TrimSpace(name)
		}
	}
	return Held, "lo alone"
}

// loopback is an address, "" where there is no port.
func loopback(port int, host string) string {
	if port == 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// reachTime is how long a bait may take to answer.
const reachTime = 3 * time.Second

// reach tries to read what a bait sends: that a connection is taken says nothing, a gateway that answers for others may have done so.
func reach(f Facts, network, address string) (Verdict, string) {
	if address == "" {
		return Untestable, "the host has no such address"
	}
	conn, err := net.DialTimeout(network, address, reachTime)
	if err != nil {
		return held(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(reachTime))
	said := make([]byte, len(f.Token))
	n, err := conn.Read(said)
	switch {
	case n > 0 && string(said[:n]) == f.Token:
		return Leaked, "it answered"
	case err != nil:
		return held(err)
	}
	return Held, "another one answered"
}
