// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// refused expects Prepare to fail in a step, and the command not to have run.
func refused(t testing.TB, j *jail, s Spec, step Step, errno syscall.Errno) {
	t.Helper()
	_, err := j.Prepare(s)
	var e *Error
	if !errors.As(err, &e) || e.Step != step || e.Errno != errno {
		t.Errorf("%v, want the step %q and %v", err, step, errno)
		return
	}
	if e.ExitCode() != 125 {
		t.Errorf("%v: exit code %d, want 125", e, e.ExitCode())
	}
	j.end(t)
	if j.out.Len() != 0 {
		t.Errorf("%v: the command ran, or somebody else talks: %q", e, j.out.String())
	}
}

func TestFailingStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Spec)
		step   Step
		errno  syscall.Errno
	}{
		{"a filter that is no program", func(s *Spec) { s.Filter = []SockFilter{{Code: 0xffff}} }, StepFilter, unix.EINVAL},
		{"a filter that falls off its end", func(s *Spec) { s.Filter[0].Code = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS }, StepFilter, unix.EINVAL},
		{"no directory", func(s *Spec) { s.Dir = "/no/such/directory" }, StepDir, unix.ENOENT},
		{"no grant", func(s *Spec) { s.Landlock.Write = []string{"/tmp", "/no/such/place"} }, StepGrant, unix.ENOENT},
		{"a limit above the hard one", func(s *Spec) {
			s.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 1 << 40, 1 << 40}}
		}, StepLimits, unix.EPERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shellSpec("echo ran")
			c.change(&s)
			refused(t, start(t, nil), s, c.step, c.errno)
		})
	}
}

func TestFailureNamesItsObject(t *testing.T) {
	s := shellSpec("echo ran")
	s.Dir = "/no/such/directory"
	if _, err := start(t, nil).Prepare(s); err == nil || !strings.Contains(err.Error(), s.Dir) {
		t.Errorf("%v does not name the directory", err)
	}
	s = shellSpec("echo ran")
	s.Landlock.Write = []string{"/no/such/place"}
	if _, err := start(t, nil).Prepare(s); err == nil || !strings.Contains(err.Error(), "/no/such/place") {
		t.Errorf("%v does not name the path", err)
	}
}

// TestOuterFilter takes one system call away, as the seccomp profile of a container does.
func TestOuterFilter(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		nr    int
		errno syscall.Errno
		step  Step
	}{
		{"nothing", -1, 0, 0},
		{"seccomp", unix.SYS_SECCOMP, unix.ENOSYS, StepSelf}, // the stage's own comes first
		{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, unix.ENOSYS, StepRuleset},
		{"landlock_create_ruleset off", unix.SYS_LANDLOCK_CREATE_RULESET, unix.EOPNOTSUPP, StepRuleset},
		{"landlock_add_rule", unix.SYS_LANDLOCK_ADD_RULE, unix.EPERM, StepGrant},
		{"landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, unix.EPERM, StepLandlock},
		{"clone", unix.SYS_CLONE, unix.EPERM, StepClone},
		{"clone ENOSPC", unix.SYS_CLONE, unix.ENOSPC, StepClone},
		{"setresuid", unix.SYS_SETRESUID, unix.EPERM, StepIdentity},
		{"capset", unix.SYS_CAPSET, unix.EPERM, StepCaps},
		{"close_range", unix.SYS_CLOSE_RANGE, unix.ENOSYS, StepFiles},
		{"chdir", unix.SYS_CHDIR, unix.EACCES, StepDir},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := start(t, func(cmd *exec.Cmd) {
				cmd.Args = []string{exe, victimArg, "filtered", strconv.Itoa(c.nr), strconv.Itoa(int(c.errno))}
				cmd.Path = exe
			})
			if c.step == 0 {
				j.ready(t, shellSpec("exit 7"))
				j.goOn(t)
				if st, err := j.Wait(nil); err != nil || st.Code != 7 {
					t.Errorf("%+v, %v", st, err)
				}
				return
			}
			_, err := j.Prepare(shellSpec("echo ran"))
			var e *Error
			if !errors.As(err, &e) || e.Step != c.step || e.Errno != c.errno {
				t.Fatalf("%v, want the step %q and %v", err, c.step, c.errno)
			}
			if e.Fix() == "" && c.step != StepIdentity && c.step != StepCaps && c.step != StepFiles {
				t.Errorf("%v: nothing is said about what to do", e)
			}
			j.end(t)
			if j.out.Len() != 0 {
				t.Errorf("output %q", j.out.String())
			}
		})
	}
}

// TestCapabilities: CAP_SETFCAP is what the stage needs, and all that libcontainer has to leave it.
func TestCapabilities(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	capped := func(mask uint64) *jail {
		return start(t, func(cmd *exec.Cmd) {
			cmd.Path, cmd.Args = exe, []string{exe, victimArg, "capped", strconv.FormatUint(mask, 16)}
		})
	}
	j := capped(1 << unix.CAP_SETFCAP)
	j.ready(t, shellSpec("exit 7"))
	j.goOn(t)
	if st, err := j.Wait(nil); err != nil || st.Code != 7 {
		t.Errorf("with CAP_SETFCAP: %+v, %v", st, err)
	}
	refused(t, capped(1<<unix.CAP_SETUID|1<<unix.CAP_SETGID), shellSpec("echo ran"), StepMaps, unix.EPERM)
}

// Containment check: N08.
func TestMainRefuses(t *testing.T) {
	requireNamespaces(t)
	run := func(change func(*exec.Cmd)) (int, string) {
		cmd := exec.Command("/proc/self/exe", Arg)
		change(cmd)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%v", err)
		}
		return exit.ExitCode(), string(out)
	}
	if code, out := run(func(*exec.Cmd) {}); code != 125 || !strings.Contains(out, "no socket as file 3") {
		t.Errorf("without a socket: %d %q", code, out)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	one, two := os.NewFile(uintptr(fds[0]), "one"), os.NewFile(uintptr(fds[1]), "two")
	defer one.Close()
	defer two.Close()
	if code, out := run(func(c *exec.Cmd) { c.ExtraFiles = []*os.File{two} }); code != 125 || !strings.Contains(out, "not pid 1") {
		t.Errorf("as an ordinary process: %d %q", code, out)
	}
	file, _ := os.Open("/dev/null")
	defer file.Close()
	if code, out := run(func(c *exec.Cmd) { c.ExtraFiles = []*os.File{file} }); code != 125 || !strings.Contains(out, "no socket as file 3") {
		t.Errorf("with a file: %d %q", code, out)
	}
}

// TestInvalidSpec: nothing is sent that the stage would refuse.
func TestInvalidSpec(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"no command":         func(s *Spec) { s.Argv = nil },
		"empty command":      func(s *Spec) { s.Argv = []string{""} },
		"NUL in argument":    func(s *Spec) { s.Argv[1] = "a\x00b" },
		"NUL in variable":    func(s *Spec) { s.Env = []string{"A=\x00"} },
		"long argument":      func(s *Spec) { s.Argv[1] = strings.Repeat("x", maxString) },
		"relative":           func(s *Spec) { s.Dir = "etc" },
		"no directory":       func(s *Spec) { s.Dir = "" },
		"negative id":        func(s *Spec) { s.UID = -1 },
		"id of no change":    func(s *Spec) { s.GID = 1<<32 - 1 },
		"umask":              func(s *Spec) { s.Umask = 0o1000 },
		"slack":              func(s *Spec) { s.Slack = -1 },
		"no filter":          func(s *Spec) { s.Filter = nil },
		"long filter":        func(s *Spec) { s.Filter = make([]SockFilter, maxFilter+1) },
		"relative grant":     func(s *Spec) { s.Landlock.Write = []string{"tmp"} },
		"unknown limit":      func(s *Spec) { s.Rlimits = []Rlimit{{Resource: 99}} },
		"soft above hard":    func(s *Spec) { s.Rlimits = []Rlimit{{Resource: 1, Soft: 2, Hard: 1}} },
		"the zero spec":      func(s *Spec) { *s = Spec{} },
		"many limits":        func(s *Spec) { s.Rlimits = make([]Rlimit, maxRlimits+1) },
		"directory too long": func(s *Spec) { s.Dir = "/" + strings.Repeat("x", unix.PathMax) },
	} {
		s := shellSpec("echo ran")
		change(&s)
		err := s.Validate()
		var e *Error
		if !errors.As(err, &e) || e.Step != StepSpec || e.Detail == "" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := decodeSpec(s.encode()); err == nil {
			t.Errorf("%s: the stage takes it", name)
		}
	}
}
