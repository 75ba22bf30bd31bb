// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestOrder is the sequence that the confinement rests on.
func TestOrder(t *testing.T) {
	s := shellSpec("exit 0")
	im := newImage(&s, surroundings{handOver: 7, ruleset: 9, lastCap: 40})
	var order []Step
	for _, o := range im.ops {
		if len(order) == 0 || order[len(order)-1] != o.step {
			order = append(order, o.step)
		}
	}
	// setresuid clears the parent-death signal; Landlock and the filter need no_new_privs; chdir may be refused by the
	// filter; the filter is the last thing, and only its listener and the wait for the supervisor come after it.
	want := []Step{StepFiles, StepMaps, StepIdentity, StepCaps, StepParent, StepLimits, StepPrivs, StepDir, StepLandlock,
		StepSignals, StepFilter, StepListener}
	if !slices.Equal(order, want) {
		t.Errorf("got  %v\nwant %v", order, want)
	}
	after := map[uintptr]bool{unix.SYS_SENDMSG: true, unix.SYS_CLOSE: true, unix.SYS_WRITE: true, unix.SYS_READ: true}
	for _, o := range im.ops[slices.IndexFunc(im.ops, func(o op) bool { return o.step == StepListener }):] {
		if !after[o.nr] {
			t.Errorf("system call %d under the filter, before anybody answers it", o.nr)
		}
	}
	for _, o := range im.ops {
		if o.ignore != 0 && (o.step != StepFilter || o.ignore != unix.EINVAL) {
			t.Errorf("step %q ignores %v", o.step, o.ignore)
		}
	}
}

func TestEveryCapabilityDropped(t *testing.T) {
	s := shellSpec("exit 0")
	im := newImage(&s, surroundings{handOver: 7, ruleset: 9, lastCap: 40})
	dropped := map[uintptr]bool{}
	for _, o := range im.ops {
		if o.nr == unix.SYS_PRCTL && o.args[0] == unix.PR_CAPBSET_DROP {
			dropped[o.args[1]] = true
		}
	}
	if len(dropped) != 41 || !dropped[0] || !dropped[40] {
		t.Errorf("dropped %v", dropped)
	}
	if im.caps.data != [6]uint32{} {
		t.Errorf("capset to %v", im.caps.data)
	}
}

// TestFilesPlaced: dup3 refuses equal numbers, and must not overwrite what is needed next.
func TestFilesPlaced(t *testing.T) {
	for _, at := range []surroundings{{handOver: 4, ruleset: 5}, {handOver: 5, ruleset: 4}, {handOver: 9, ruleset: 30}} {
		im := &image{}
		im.filesOps(at)
		open := map[uintptr]string{3: "stream", uintptr(at.handOver): "hand-over", uintptr(at.ruleset): "ruleset"}
		for _, o := range im.ops {
			switch o.nr {
			case unix.SYS_DUP3:
				if o.args[0] == o.args[1] || o.args[2] != unix.O_CLOEXEC {
					t.Errorf("%+v: dup3%v", at, o.args)
				}
				open[o.args[1]] = open[o.args[0]]
			case unix.SYS_CLOSE_RANGE:
				for fd := range open {
					if fd >= o.args[0] {
						delete(open, fd)
					}
				}
			}
		}
		if len(open) != 2 || open[handOverFD] != "hand-over" || open[rulesetFD] != "ruleset" {
			t.Errorf("%+v: left %v", at, open)
		}
	}
}

// Containment check: N07.
func TestLimitList(t *testing.T) {
	now := unix.Rlimit{Cur: 4095, Max: 4096}
	most := unix.Rlimit{Cur: 0, Max: unix.RLIM_INFINITY}
	core := Rlimit{unix.RLIMIT_CORE, NoCore, NoCore}
	for _, c := range []struct{ asked, want []Rlimit }{
		{nil, []Rlimit{core, {unix.RLIMIT_NOFILE, 1024, 4096}}},
		{[]Rlimit{{unix.RLIMIT_CORE, 5, 5}, {unix.RLIMIT_NOFILE, 10, 20}}, []Rlimit{core, {unix.RLIMIT_NOFILE, 10, 20}}},
	} {
		if got := limits(c.asked, now, most); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.asked, got, c.want)
		}
	}
	if got := limits(nil, unix.Rlimit{Cur: 99, Max: 100}, most); got[1].Soft != 100 {
		t.Errorf("a soft limit above the hard one: %v", got)
	}
	if got := limits(nil, now, unix.Rlimit{}); got[0] != (Rlimit{Resource: unix.RLIMIT_CORE}) {
		t.Errorf("where no core is allowed: %v", got)
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name, path string
		want       []string
	}{
		{"ls", "/usr/bin:/bin", []string{"/usr/bin/ls", "/bin/ls"}},
		{"ls", "/usr/bin/:", []string{"/usr/bin/ls", "./ls"}},
		{"./ls", "/bin", []string{"./ls"}},
		{"/bin/ls", "", []string{"/bin/ls"}},
		{"ls", "", nil},
	} {
		if got := candidates(c.name, c.path); !slices.Equal(got, c.want) {
			t.Errorf("%s in %q: got %q, want %q", c.name, c.path, got, c.want)
		}
	}
	if p := pathOf([]string{"XPATH=/x", "PATH=/first", "PATH=/second"}); p != "/first" {
		t.Errorf("PATH %q", p)
	}
	if p := pathOf(nil); p != defaultPath {
		t.Errorf("without PATH: %q", p)
	}
}

func TestLandlockRights(t *testing.T) {
	const write, nodes = unix.LANDLOCK_ACCESS_FS_WRITE_FILE, unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	const refer, truncate = unix.LANDLOCK_ACCESS_FS_REFER, unix.LANDLOCK_ACCESS_FS_TRUNCATE
	for _, c := range []struct {
		abi                              int
		truncate                         bool
		handled, scoped, directory, file uint64
	}{
		{1, true, write | nodes, 0, write, write},
		{2, true, write | nodes | refer, 0, write | refer, write},
		{3, true, write | nodes | refer | truncate, 0, write | refer | truncate, write | truncate},
		{3, false, write | nodes | refer, 0, write | refer, write},
		{5, true, write | nodes | refer | truncate, 0, write | refer | truncate, write | truncate},
		{6, true, write | nodes | refer | truncate, 3, write | refer | truncate, write | truncate},
		{6, false, write | nodes | refer, 3, write | refer, write},
		{99, true, write | nodes | refer | truncate, 3, write | refer | truncate, write | truncate},
	} {
		attr := handled(c.abi, c.truncate)
		if attr.Handled_access_fs != c.handled || attr.Scoped != c.scoped || attr.Handled_access_net != 0 {
			t.Errorf("ABI %d handles %+v", c.abi, attr)
		}
		if d, f := granted(c.handled, true), granted(c.handled, false); d != c.directory || f != c.file {
			t.Errorf("ABI %d grants %x and %x", c.abi, d, f)
		}
	}
}

func TestReadsFile(t *testing.T) {
	dir := t.TempDir()
	write, read := filepath.Join(dir, "write"), filepath.Join(dir, "read")
	if err := errors.Join(os.WriteFile(read, nil, 0o600), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		flags int
		want  bool
	}{
		{read, unix.O_RDONLY, true},
		{read, unix.O_PATH, true},
		{dir, unix.O_RDONLY, true},
		{write, unix.O_WRONLY | unix.O_CREAT, false},
		{write, unix.O_RDWR, false},
		{filepath.Join(dir, "pipe"), unix.O_RDONLY | unix.O_NONBLOCK, false},
		{"/dev/null", unix.O_RDONLY, false},
	} {
		fd, err := unix.Open(c.path, c.flags|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if got := readsFile(fd); got != c.want {
			t.Errorf("%s, open with %#x: %v", c.path, c.flags, got)
		}
		unix.Close(fd)
	}
	if !readsFile(-1) {
		t.Error("what cannot be told is taken for harmless")
	}
}

func TestOfTerminal(t *testing.T) {
	group := []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH}
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if got := ofTerminal(sig); got != slices.Contains(group, sig) {
			t.Errorf("signal %d: %v", sig, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  Error
		code int
	}{
		{Error{Step: StepExec, Errno: unix.ENOENT}, 127},
		{Error{Step: StepExec, Errno: unix.ENOTDIR}, 127},
		{Error{Step: StepExec, Errno: unix.EACCES}, 126},
		{Error{Step: StepExec, Errno: unix.ENOEXEC}, 126},
		{Error{Step: StepExec, Errno: unix.E2BIG}, 126},
		{Error{Step: StepDir, Errno: unix.ENOENT}, 125},
		{Error{Step: StepAnswer}, 125},
	} {
		if got := c.err.ExitCode(); got != c.code {
			t.Errorf("%v: %d, want %d", &c.err, got, c.code)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Step: StepFilter, Errno: unix.ENOSYS}
	if want := "seccomp: SECCOMP_SET_MODE_FILTER: function not implemented (ENOSYS)"; e.Error() != want {
		t.Errorf("%q", e.Error())
	}
	if e.Fix() != fixFilter || (&Error{Step: StepFilter, Errno: unix.EBUSY}).Fix() == fixFilter {
		t.Error("wrong advice")
	}
	if !errors.Is(&Error{Step: StepDir, Errno: unix.ENOENT}, fs.ErrNotExist) || errors.Unwrap(&Error{Step: StepSpec}) != nil {
		t.Error("Unwrap")
	}
	for s := Step(1); s < stepEnd; s++ {
		if s.String() == "" {
			t.Errorf("step %d has no name", s)
		}
	}
	if Step(0).String() != "step 0" || stepEnd.String() == "" {
		t.Error("a number that is no step")
	}
}

// TestSelfFilter runs the stage's own filter in a VM.
// Containment check: G18.
func TestSelfFilter(t *testing.T) {
	const arch = unix.AUDIT_ARCH_X86_64
	var program []bpf.Instruction
	for _, f := range selfFilter(arch) {
		program = append(program, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}.Disassemble())
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(arch, nr uint32, args ...uint64) uint32 {
		// The VM loads big endian, the kernel its own order: the halves of an argument are exchanged too.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[dataNr:], nr)
		binary.BigEndian.PutUint32(data[dataArch:], arch)
		for i, a := range args {
			binary.BigEndian.PutUint32(data[dataArg0+8*i:], uint32(a))
			binary.BigEndian.PutUint32(data[dataArg0+8*i+4:], uint32(a>>32))
		}
		n, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	allowed := map[uint32]bool{}
	for _, nr := range selfCalls {
		allowed[nr] = true
	}
	for nr := uint32(0); nr < 600; nr++ {
		want := deny
		switch {
		case nr == unix.SYS_CLONE:
			want = allow
		case nr == unix.SYS_CLONE3:
			want = gone
		case allowed[nr]:
			want = allow
		}
		if got := verdict(arch, nr); got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
	}
	for _, c := range []struct {
		nr   uint32
		args []uint64
		want uint32
	}{
		{unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_NEWUSER}, deny},
		{unix.SYS_CLONE, []uint64{1<<32 | unix.CLONE_NEWNET}, deny},
		{unix.SYS_IOCTL, []uint64{5, unix.TIOCGPGRP}, allow},
		{unix.SYS_IOCTL, []uint64{5, unix.TIOCSPGRP}, allow},
		{unix.SYS_IOCTL, []uint64{5, unix.TCSETS}, deny},
		{unix.SYS_IOCTL, []uint64{5, unix.TIOCSTI}, deny},
		{unix.SYS_IOCTL, []uint64{5, 1<<32 | unix.TIOCSTI}, deny},
		{1<<30 | unix.SYS_READ, nil, deny}, // x32
	} {
		if got := verdict(arch, c.nr, c.args...); got != c.want {
			t.Errorf("call %d%x: %#x, want %#x", c.nr, c.args, got, c.want)
		}
	}
	if got := verdict(unix.AUDIT_ARCH_I386, unix.SYS_READ); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("another architecture: %#x", got)
	}
}
