// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the stage, and the command inside.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == victimArg {
		victim(os.Args[2:])
		syscall.Exit(0) // unlike os.Exit without a word on coverage
	}
	os.Exit(m.Run())
}

const victimArg = "agentjail-test-victim"

// hang is how long a test waits for what has to happen; it is no measure.
const hang = 60 * time.Second

const spaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS |
	syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP

// requireNamespaces skips where the stage cannot be started at all; AGENTJAIL_MUST_WORK=1 makes that a failure.
func requireNamespaces(t testing.TB) {
	t.Helper()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces}
	if err := cmd.Run(); err != nil {
		if os.Getenv("AGENTJAIL_MUST_WORK") == "1" {
			t.Fatalf("namespaces: %v", err)
		}
		t.Skipf("namespaces: %v", err)
	}
}

// jail is a stage in namespaces of its own, with the caller's root and /proc.
type jail struct {
	*Parent
	cmd    *exec.Cmd
	out    bytes.Buffer
	ended  chan error
	ending sync.Once
}

func start(t testing.TB, change func(*exec.Cmd)) *jail {
	t.Helper()
	requireNamespaces(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "stage")
	defer theirs.Close()
	p, err := NewParent(os.NewFile(uintptr(fds[0]), "supervisor"))
	if err != nil {
		t.Fatal(err)
	}
	j := &jail{Parent: p, ended: make(chan error, 1)}
	j.cmd = exec.Command("/proc/self/exe", Arg)
	j.cmd.Env = []string{}
	if testing.CoverMode() != "" {
		j.cmd.Env = []string{"GOCOVERDIR=" + t.TempDir()} // else a word on the output
	}
	j.cmd.Dir = "/"
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.out
	j.cmd.ExtraFiles = []*os.File{theirs}
	j.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  spaces,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if change != nil {
		change(j.cmd)
	}
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { j.ended <- j.cmd.Wait() }()
	t.Cleanup(func() { j.end(t) })
	return j
}

// end closes the conversation and waits for the stage's process.
func (j *jail) end(t testing.TB) {
	j.ending.Do(func() {
		j.Close()
		select {
		case <-j.ended:
		case <-time.After(hang):
			t.Error("the stage outlives its socket")
			j.cmd.Process.Kill()
		}
	})
}

// spec is one that starts argv under a filter that allows everything.
func spec(argv ...string) Spec {
	return Spec{
		Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", UID: 1234, GID: 4321, Umask: 0o027,
		Filter:   []SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}},
		Landlock: Landlock{Write: []string{"/dev", "/tmp"}},
	}
}

func shellSpec(script string) Spec { return spec("/bin/sh", "-c", script) }

func victimSpec(t testing.TB, args ...string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return spec(append([]string{exe, victimArg}, args...)...)
}

// ready prepares and fails the test if that fails.
func (j *jail) ready(t testing.TB, s Spec) Ready {
	t.Helper()
	r, err := j.Prepare(s)
	if err != nil {
		t.Fatalf("Prepare: %v; the stage said %q", err, j.out.String())
	}
	t.Cleanup(func() { r.Listener.Close() })
	return r
}

// runSpec starts s and waits: the status, and what it wrote.
func runSpec(t testing.TB, s Spec) (Status, string) {
	t.Helper()
	j := start(t, nil)
	j.ready(t, s)
	if err := j.Go(); err != nil {
		t.Fatalf("Go: %v", err)
	}
	st, err := j.Wait(nil)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	j.end(t)
	return st, j.out.String()
}

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]Status{
		"exit 0":         {},
		"exit 7":         {Code: 7},
		"exit 255":       {Code: 255},
		"kill -TERM $$":  {Signal: unix.SIGTERM},
		"kill -KILL $$":  {Signal: unix.SIGKILL},
		"kill -USR1 $$":  {Signal: unix.SIGUSR1},
		"(exit 3); true": {},
	} {
		j := start(t, nil)
		j.ready(t, shellSpec(script))
		if err := j.Go(); err != nil {
			t.Fatal(err)
		}
		got, err := j.Wait(nil)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", script, got, err, want)
		}
		<-j.ended
		if code := j.cmd.ProcessState.ExitCode(); code != want.ExitCode() {
			t.Errorf("%q: the stage itself exits with %d, want %d", script, code, want.ExitCode())
		}
		j.ended <- nil
	}
}

func TestIdentityAndOutput(t *testing.T) {
	s := shellSpec(`id -u; id -g; pwd; umask; ulimit -c; echo "$0 $1 $2"; echo "$FOO"; cat /proc/self/timerslack_ns /proc/self/uid_map /proc/self/setgroups`)
	s.Slack = 70000
	s.Argv = append(s.Argv, "zero", "a b", "\xff\xfe")
	s.Env = append(s.Env, "FOO=\xffbar")
	s.Dir = "/usr"
	st, out := runSpec(t, s)
	if st != (Status{}) {
		t.Fatalf("status %+v, output %q", st, out)
	}
	want := "1234\n4321\n/usr\n0027\n0\nzero a b \xff\xfe\n\xffbar\n70000\n      1234          0          1\ndeny\n"
	if out != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}

func TestCommandNotStarted(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	plain := dir + "/plain"
	if err := os.WriteFile(plain, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		code    int
		errno   syscall.Errno
	}{
		{"/no/such/file", 127, unix.ENOENT},
		{"no-such-command-anywhere", 127, unix.ENOENT},
		{plain, 126, unix.EACCES},
		{dir, 126, unix.EACCES},
		{plain + "/below", 127, unix.ENOTDIR},
	} {
		j := start(t, nil)
		j.ready(t, spec(c.command))
		var e *Error
		if err := j.Go(); !errors.As(err, &e) || e.Step != StepExec || e.Errno != c.errno || e.ExitCode() != c.code {
			t.Errorf("%s: %v, want %v and code %d", c.command, err, c.errno, c.code)
		} else if !strings.Contains(err.Error(), c.command) {
			t.Errorf("the message does not name the command: %v", err)
		}
		if st, err := j.Wait(nil); err != nil || st.Code != c.code {
			t.Errorf("%s: status %+v, %v, want code %d", c.command, st, err, c.code)
		}
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	for name, content := range map[string]string{
		"first/tool":  "not executable",
		"second/tool": "echo script $0 $1",
	} {
		os.Mkdir(dir+"/"+strings.Split(name, "/")[0], 0o755)
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir+"/second/tool", 0o755)
	s := spec("tool", "arg")
	s.Env = []string{fmt.Sprintf("PATH=/nowhere:%s/first:%s/second", dir, dir)}
	st, out := runSpec(t, s)
	if want := "script " + dir + "/second/tool arg\n"; st != (Status{}) || out != want {
		t.Errorf("%+v %q, want %q", st, out, want)
	}
}
