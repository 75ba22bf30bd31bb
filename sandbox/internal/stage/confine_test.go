// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/posture"
)

// want is the posture of the command's process before execve, for a Spec of these tests.
func want(t testing.TB, j *jail) posture.Want {
	t.Helper()
	host, err := posture.Namespaces(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	delete(host, "time") // none is made
	delete(host, "time_for_children")
	run, err := posture.Namespaces(j.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	delete(run, "user") // the command's own is below, and one of its cgroup is compared with the host's
	delete(run, "cgroup")
	self, err := posture.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return posture.Want{
		UID: os.Getuid(), GID: os.Getgid(), Groups: self.Threads[0].Groups, Umask: 0o027,
		UIDMap:  []posture.IDRange{{Inside: 1234, Outside: uint32(os.Getuid()), Size: 1}},
		GIDMap:  []posture.IDRange{{Inside: 4321, Outside: uint32(os.Getgid()), Size: 1}},
		Filters: self.Threads[0].Filters + 1, Host: host, Run: run, Open: []int{0, 1, 2, handOverFD},
		Limits: map[string]posture.Limit{"Max open files": {Soft: 1024, Hard: self.Limits["Max open files"].Hard}},
		Mounts: mounts(t, j), Cgroups: self.Cgroups, Dir: "/",
	}
}

// mounts are those of the stage's namespace, which is a copy of the test's: making a tree is not the stage's affair.
func mounts(t testing.TB, j *jail) (want []posture.WantMount) {
	t.Helper()
	p, err := posture.Read(j.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Mounts {
		on := slices.IndexFunc(p.Mounts, func(o posture.Mount) bool { return o.ID == m.Parent })
		want = append(want, posture.WantMount{Point: m.Point, Type: m.Type, Flags: m.Flags, On: max(on, 0)})
	}
	return want
}

// read leaves out the propagation, which is the host's too.
func read(t testing.TB, pid int) posture.Posture {
	t.Helper()
	p, err := posture.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Mounts {
		p.Mounts[i].Propagation = ""
	}
	return p
}

// TestPosture is the whole list of what Prepare promises, read from outside, below a parent that leaves files open.
func TestPosture(t *testing.T) {
	j := start(t, leaveOpen(t))
	r := j.ready(t, spec("/bin/sleep", "1000"))
	got := read(t, r.HostPID)
	w := want(t, j)
	for _, d := range posture.Compare(w, got) {
		t.Error(d)
	}
	if len(got.Threads) != 1 {
		t.Errorf("%d threads", len(got.Threads))
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.HostPID))
	if !strings.Contains(string(status), fmt.Sprintf("\nNSpid:\t%d\t%d\n", r.HostPID, r.PID)) {
		t.Errorf("pid %d is not %d outside: %s", r.PID, r.HostPID, status)
	}
	if err := j.Go(); err != nil {
		t.Fatal(err)
	}
	w.Running, w.Before = true, got.Mounts
	for _, d := range posture.Compare(w, read(t, r.HostPID)) {
		t.Errorf("after execve: %v", d)
	}
}

// leaveOpen makes the stage's parent a careless one: files 4 to 50 are open and not close-on-exec.
func leaveOpen(t testing.TB) func(*exec.Cmd) {
	secret, err := os.Open("/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { secret.Close() })
	return func(cmd *exec.Cmd) {
		for len(cmd.ExtraFiles) < 48 {
			cmd.ExtraFiles = append(cmd.ExtraFiles, secret)
		}
	}
}

// Containment check: N04.
func TestOnlyStandardFiles(t *testing.T) {
	j := start(t, leaveOpen(t))
	j.ready(t, shellSpec("for f in /proc/self/fd/*; do echo ${f##*/}; done; exit 0"))
	if err := j.Go(); err != nil {
		t.Fatal(err)
	}
	if st, err := j.Wait(nil); err != nil || st != (Status{}) {
		t.Fatal(st, err)
	}
	fds, err := posture.Read(j.cmd.Process.Pid)
	j.end(t)
	// The shell's glob has the directory itself open as file 3.
	if got := j.out.String(); got != "0\n1\n2\n3\n" && got != "0\n1\n2\n" {
		t.Errorf("open inside: %q (%v %v)", got, fds.PID, err)
	}
}

// TestStageHoldsNothing looks at pid 1 itself while a command runs.
func TestStageHoldsNothing(t *testing.T) {
	j := start(t, leaveOpen(t))
	j.ready(t, spec("/bin/sleep", "1000"))
	p, err := posture.Read(j.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range p.Threads {
		if th.NoNewPrivs != 1 || th.Seccomp != 2 {
			t.Errorf("thread %d: no_new_privs %d, seccomp %d", th.TID, th.NoNewPrivs, th.Seccomp)
		}
		if th.TID == p.PID && th.Caps.Effective|th.Caps.Permitted|th.Caps.Inheritable|th.Caps.Ambient != 0 {
			t.Errorf("capabilities %+x", th.Caps)
		}
		if th.Caught != 0 || th.Ignored != 0 {
			t.Errorf("signals caught %x, ignored %x: only the default actions make pid 1 deaf", th.Caught, th.Ignored)
		}
	}
	for _, f := range p.Threads[0].Files {
		// The Go runtime has its poller, and keeps the limit of its cgroup open, as the run's own mounts show it.
		runtimes := strings.HasPrefix(f.Target, "anon_inode:[event") || strings.HasPrefix(f.Target, "/sys/fs/cgroup/")
		if f.FD <= 2 && f.Target != "/dev/null" || f.FD == 3 && !strings.HasPrefix(f.Target, "socket:") || f.FD > 3 && !runtimes {
			t.Errorf("file %d is %s", f.FD, f.Target)
		}
	}
}

// TestStageIsClosed: what the command tries on pid 1.
func TestStageIsClosed(t *testing.T) {
	j := start(t, nil)
	outside := strconv.Itoa(j.cmd.Process.Pid) // the /proc of these tests is the one outside
	s := shellSpec("for f in environ mem maps fd/3 root cwd exe ns/user; do cat /proc/$0/$f >/dev/null 2>&1 && echo read $f; done; exit 0")
	s.Argv = append(s.Argv, outside)
	j.ready(t, s)
	if err := j.Go(); err != nil {
		t.Fatal(err)
	}
	if st, err := j.Wait(nil); err != nil || st != (Status{}) {
		t.Fatal(st, err)
	}
	j.end(t)
	if j.out.Len() != 0 {
		t.Errorf("the command got at pid 1: %s", j.out.String())
	}
	// The twin: the same script may read the command's own.
	st, out := runSpec(t, shellSpec("cat /proc/self/environ >/dev/null && echo read"))
	if st != (Status{}) || out != "read\n" {
		t.Errorf("the command cannot read its own: %+v %q", st, out)
	}
}

// TestListener (G12): the supervisor gets the listener, and learns whether callers that wait can be interrupted.
func TestListener(t *testing.T) {
	s := victimSpec(t, "umount")
	s.Filter = answer(unix.SYS_UMOUNT2, unix.SECCOMP_RET_USER_NOTIF)
	j := start(t, nil)
	r := j.ready(t, s)
	if err := j.Go(); err != nil {
		t.Fatal(err)
	}
	if nr := answerOne(t, r.Listener, unix.EXDEV); nr != unix.SYS_UMOUNT2 {
		t.Errorf("asked about call %d", nr)
	}
	if st, err := j.Wait(nil); err != nil || st != (Status{}) {
		t.Errorf("%+v, %v", st, err)
	}
	j.end(t)
	if j.out.String() != "EXDEV\n" {
		t.Errorf("the command saw %q", j.out.String())
	}
	var uts unix.Utsname
	unix.Uname(&uts)
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor)
	if killable := major > 5 || major == 5 && minor >= 19; r.WaitKillable != killable {
		t.Errorf("WaitKillable is %v on Linux %d.%d", r.WaitKillable, major, minor)
	}
}

func TestLandlock(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"", "/granted", "/granted/a", "/granted/b", "/other"} {
		os.MkdirAll(dir+d, 0o755)
		os.Chmod(dir+d, 0o777)
	}
	os.WriteFile(dir+"/other/file", []byte("old"), 0o666)
	s := victimSpec(t, "rename", dir+"/granted/a/made", dir+"/other/made")
	exe := s.Argv[0]
	script := `cd "$0"
		echo x > granted/a/made || echo FAIL write granted
		` + exe + ` ` + victimArg + ` rename granted/a/made granted/b/made
		` + exe + ` ` + victimArg + ` rename granted/b/made other/made
		(echo x > other/file) 2>/dev/null && echo FAIL wrote other
		mkdir other/dir && rmdir other/dir || echo FAIL names are not for Landlock
		cat other/file`
	s = shellSpec(script)
	s.Argv = append(s.Argv, dir)
	s.Landlock.Write = []string{dir + "/granted", "/dev/null"}
	st, out := runSpec(t, s)
	if want := "ok\nEXDEV\nold"; st != (Status{}) || out != want {
		t.Errorf("%+v %q, want %q", st, out, want)
	}
}

// Containment check: N07.
func TestLimits(t *testing.T) {
	s := shellSpec("ulimit -Sn; ulimit -Hn; ulimit -Ss; ulimit -Sc; ulimit -Hc")
	s.Rlimits = []Rlimit{
		{unix.RLIMIT_NOFILE, 200, 300}, {unix.RLIMIT_STACK, 1 << 20, 1 << 20},
		{unix.RLIMIT_CORE, math.MaxUint64, math.MaxUint64},
	}
	if st, out := runSpec(t, s); st != (Status{}) || out != "200\n300\n1024\n0\n0\n" {
		t.Errorf("%+v %q", st, out)
	}
	var hard syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &hard)
	if st, out := runSpec(t, shellSpec("ulimit -Sn; ulimit -Hn")); st != (Status{}) || out != fmt.Sprintf("1024\n%d\n", hard.Max) {
		t.Errorf("%+v %q", st, out)
	}
}
