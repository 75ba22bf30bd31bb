// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// op is one system call of the command's process before execve. What has to be done there is decided here, as data, in
// ordinary Go; the process itself (clone.go) can do no more than go through the list.
type op struct {
	step   Step
	nr     uintptr
	args   [6]uintptr
	how    how
	ignore syscall.Errno // this error is no failure
}

type how uint8

const (
	save     how = 1 << iota // the result is a file: keep it
	use                      // the kept file is the first argument
	killable                 // tell that WAIT_KILLABLE_RECV is on; skip the call if it is already
	one                      // anything but the result 1 ends the process: the supervisor is gone
)

// Where the files are in the command's process.
const (
	handOverFD = 3
	rulesetFD  = 4
)

// image is all the memory that the command's process uses between clone and execve. It has to lie on the heap (see the
// variable loaded), since the operations hold addresses into it as numbers.
type image struct {
	ops []op

	kept   uintptr
	goByte [1]byte
	report report
	ready  report
	iov    unix.Iovec
	rights struct {
		header unix.Cmsghdr
		fd     int32
		_      int32
	}
	message unix.Msghdr

	paths   []uintptr // what execve is tried on, in order
	argv    []uintptr
	env     []uintptr
	script  []uintptr // /bin/sh, a path, the arguments: for a file without a #! line
	shell   uintptr
	filter  []SockFilter
	program sockFprog
	limits  []unix.Rlimit
	caps    struct {
		version uint32
		pid     int32
		data    [6]uint32
	}
	signals [8]byte // an empty sigset_t of the kernel
	strings [][]byte
}

type sockFprog struct {
	len    uint16
	filter *SockFilter
}

// surroundings are what the program depends on apart from the Spec.
type surroundings struct {
	handOver int // the file towards the supervisor
	ruleset  int // the Landlock ruleset
	lastCap  int
	files    unix.Rlimit // RLIMIT_NOFILE now
	core     unix.Rlimit // RLIMIT_CORE now
}

// newImage turns a valid Spec into the operations of the command's process.
func newImage(s *Spec, at surroundings) *image {
	im := &image{filter: s.Filter}
	im.filesOps(at)
	im.idOps(s)
	im.capOps(at.lastCap)
	im.add(StepParent, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)) // setresuid clears it: after that
	im.add(StepLimits, unix.SYS_UMASK, uintptr(s.Umask))
	im.limitOps(limits(s.Rlimits, at.files, at.core))
	im.add(StepPrivs, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	im.add(StepDir, unix.SYS_CHDIR, im.str(s.Dir))
	im.add(StepLandlock, unix.SYS_LANDLOCK_RESTRICT_SELF, rulesetFD, 0)
	im.add(StepLandlock, unix.SYS_CLOSE, rulesetFD)
	im.add(StepSignals, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, address(&im.signals), 0, unsafe.Sizeof(im.signals))
	im.filterOps()
	im.execution(s)
	return im
}

func (im *image) add(step Step, nr uintptr, args ...uintptr) *op {
	o := op{step: step, nr: nr}
	copy(o.args[:], args)
	im.ops = append(im.ops, o)
	return &im.ops[len(im.ops)-1]
}

// str keeps s as a C string.
func (im *image) str(s string) uintptr {
	b := append([]byte(s), 0)
	im.strings = append(im.strings, b)
	return address(&b[0])
}

// strs makes the array of pointers that execve takes.
func (im *image) strs(list []string) []uintptr {
	array := make([]uintptr, 0, len(list)+1)
	for _, s := range list {
		array = append(array, im.str(s))
	}
	return append(array, 0)
}

func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// filesOps leaves 0, 1, 2, the hand-over and the ruleset, both close-on-exec. Until the first of them is done a failure
// cannot be told; the supervisor sees the hand-over end.
func (im *image) filesOps(at surroundings) {
	im.add(StepFiles, unix.SYS_DUP3, uintptr(at.handOver), handOverFD, unix.O_CLOEXEC)
	if at.ruleset != rulesetFD { // dup3(2) refuses equal numbers
		im.add(StepFiles, unix.SYS_DUP3, uintptr(at.ruleset), rulesetFD, unix.O_CLOEXEC)
	}
	im.add(StepFiles, unix.SYS_CLOSE_RANGE, rulesetFD+1, math.MaxUint32, 0)
}

// idOps writes the maps of the process's own new user namespace. user_namespaces(7): one's own effective id may be mapped
// without a capability, once setgroups is denied; that it is id 0 of the parent namespace needs CAP_SETFCAP of the
// process that made the namespace (Linux 5.12). A process is born with the real, effective and saved ids of its parent:
// setting them anyway makes a surprise there a failure.
func (im *image) idOps(s *Spec) {
	im.write("/proc/self/setgroups", "deny")
	im.write("/proc/self/gid_map", fmt.Sprintf("%d 0 1\n", s.GID))
	im.write("/proc/self/uid_map", fmt.Sprintf("%d 0 1\n", s.UID))
	gid, uid := uintptr(s.GID), uintptr(s.UID)
	im.add(StepIdentity, unix.SYS_SETRESGID, gid, gid, gid)
	im.add(StepIdentity, unix.SYS_SETRESUID, uid, uid, uid)
}

func (im *image) write(path, text string) {
	im.add(StepMaps, unix.SYS_OPENAT, cwd, im.str(path), unix.O_WRONLY|unix.O_CLOEXEC).how = save
	im.add(StepMaps, unix.SYS_WRITE, 0, im.str(text), uintptr(len(text))).how = use
	im.add(StepMaps, unix.SYS_CLOSE).how = use
}

const cwd = ^uintptr(99) // AT_FDCWD, -100

// capOps: a process that makes a user namespace starts with every capability in it, in the bounding set too.
func (im *image) capOps(last int) {
	im.add(StepCaps, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for c := range last + 1 {
		im.add(StepCaps, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c))
	}
	im.caps.version = unix.LINUX_CAPABILITY_VERSION_3
	im.add(StepCaps, unix.SYS_CAPSET, address(&im.caps.version), address(&im.caps.data))
}

func (im *image) limitOps(list []Rlimit) {
	im.limits = make([]unix.Rlimit, len(list)) // at its full length at once: the addresses below are into it
	for i, l := range list {
		im.limits[i] = unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		im.add(StepLimits, unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), address(&im.limits[i]), 0)
	}
}

// softFiles is the kernel's own soft limit of open files (INR_OPEN_CUR), which programs that use select(2) rely on.
const softFiles = 1024

// limits are those of the Spec, without core dumps, and with the soft limit of files as it was before the Go runtime.
func limits(asked []Rlimit, files, core unix.Rlimit) []Rlimit {
	none := min(NoCore, core.Max)
	list := []Rlimit{{unix.RLIMIT_CORE, none, none}}
	named := false
	for _, l := range asked {
		if l.Resource != unix.RLIMIT_CORE {
			list = append(list, l)
		}
		named = named || l.Resource == unix.RLIMIT_NOFILE
	}
	if !named {
		list = append(list, Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: min(softFiles, files.Max), Hard: files.Max})
	}
	return list
}

// filterOps puts the filter on and hands its listener over. Everything after SYS_SECCOMP runs under the filter, before
// anybody answers it: sendmsg, close, write, read and execve have to be what it allows without a question.
func (im *image) filterOps() {
	im.program = sockFprog{len: uint16(len(im.filter)), filter: &im.filter[0]}
	const listen = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	// WAIT_KILLABLE_RECV: Linux 5.19. An older kernel answers EINVAL, and so it does to a filter that is wrong, which then
	// fails in the second call.
	first := im.add(StepFilter, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		listen|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, address(&im.program))
	first.how, first.ignore = save|killable, unix.EINVAL
	im.add(StepFilter, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, listen, address(&im.program)).how = save | killable

	im.report.kind = reportListener
	im.iov = unix.Iovec{Base: (*byte)(unsafe.Pointer(&im.report)), Len: reportSize}
	im.rights.header = unix.Cmsghdr{Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS}
	im.rights.header.SetLen(unix.CmsgLen(4))
	im.message = unix.Msghdr{Iov: &im.iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&im.rights))}
	im.message.SetControllen(int(unsafe.Sizeof(im.rights)))
	im.add(StepListener, unix.SYS_SENDMSG, handOverFD, address(&im.message), unix.MSG_NOSIGNAL)
	im.add(StepListener, unix.SYS_CLOSE).how = use
	im.ready.kind = reportReady // only now is the process as the supervisor wants to see it
	im.add(StepListener, unix.SYS_WRITE, handOverFD, address(&im.ready), reportSize)
	im.add(StepListener, unix.SYS_READ, handOverFD, address(&im.goByte), 1).how = one
}

const shell = "/bin/sh"

func (im *image) execution(s *Spec) {
	im.paths = im.strs(candidates(s.Argv[0], pathOf(s.Env)))
	im.paths = im.paths[:len(im.paths)-1]
	im.argv, im.env = im.strs(s.Argv), im.strs(s.Env)
	im.shell = im.str(shell)
	im.script = append([]uintptr{im.shell, 0}, im.argv[1:]...)
}

// candidates are the paths that execvp(3) tries for a command.
func candidates(name, path string) []string {
	if strings.ContainsRune(name, '/') {
		return []string{name}
	}
	var list []string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "." // as for a shell
		}
		list = append(list, strings.TrimSuffix(dir, "/")+"/"+name)
	}
	return list
}

// defaultPath is what execvp(3) of glibc looks through without a PATH.
const defaultPath = "/bin:/usr/bin"

func pathOf(env []string) string {
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			return p
		}
	}
	return defaultPath
}
