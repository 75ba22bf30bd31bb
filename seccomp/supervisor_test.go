// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/caller"
)

const (
	childEnv   = "SECCOMP_TEST_CHILD"   // the test that runs again as root of a user namespace
	victimEnv  = "SECCOMP_TEST_VICTIM"  // the directory that the victim works in
	withoutEnv = "SECCOMP_TEST_WITHOUT" // calls that the victim's filter allows
	slowEnv    = "SECCOMP_TEST_SLOW"    // the process is one that the victim started, for a call that takes long
	groupsEnv  = "SECCOMP_TEST_GROUPS"  // what the victim's policy allows
	nestedEnv  = "SECCOMP_TEST_NESTED"  // the process is one that the victim started, in namespaces of its own
)

// slowArgv are the arguments of a process that is not described before the test lets it.
var slowArgv = []string{"slow"}

func TestMain(m *testing.M) {
	if os.Getenv(slowEnv) != "" {
		(step{Call: "unshare", N: unix.CLONE_NEWUSER}).run()
		os.Exit(0)
	}
	if os.Getenv(nestedEnv) != "" {
		runtime.LockOSThread()
		json.NewEncoder(os.Stdout).Encode(syscall.Errno(0)) // the answer to the step that started it
		steps()
		os.Exit(0)
	}
	if dir := os.Getenv(victimEnv); dir != "" {
		runtime.LockOSThread()
		victim(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inNamespaces runs the calling test's body again, as the supervisor of a run is: root of a user and a mount namespace.
func inNamespaces(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		body(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("inside: %v\n%s", err, out)
	}
}

// step is one call of the victim.
type step struct {
	Call string
	A, B string // paths, or numbers in decimal
	N    int
	Args []string // of the call with the number N: see raw
}

// recorder is a Sink that keeps everything.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) Emit(e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// texts are the events as "class action target errno".
func (r *recorder) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, len(r.events))
	for i, e := range r.events {
		out[i] = fmt.Sprintf("%s %s %s %s", e.Class, e.Action, e.Target, e.Errno)
	}
	return out
}

// jail starts a victim under the filter and a Supervisor for it.
type jail struct {
	t      *testing.T
	dir    string
	events recorder
	in     *json.Encoder
	out    *json.Decoder
	asked  chan struct{} // gets a value when one of slowArgv is to be described
	slow   chan struct{} // is closed for it to go on

	supervisor *Supervisor
	pid        string // of the victim
	names      int
}

// next returns a name that no other call returns.
func (j *jail) next() string {
	j.names++
	return strconv.Itoa(j.names)
}

func newJail(t *testing.T, options ...func(dir string, c *Config)) *jail {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	j := &jail{t: t, dir: t.TempDir(), asked: make(chan struct{}, 100), slow: make(chan struct{})}
	for _, d := range []string{"ro", "rw", "hosts", "upper", "merged"} {
		if err := os.Mkdir(filepath.Join(j.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(j.dir, d, "file"), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "victim")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+j.dir)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	listener := receiveFile(t, fds[0])
	config := Config{
		Policy: defaultPolicy(t), Listener: listener, Init: cmd.Process.Pid, Sink: &j.events,
		Caller: func(tid int) audit.Process {
			p := caller.Of(tid)
			if slices.Equal(p.Argv, slowArgv) {
				j.asked <- struct{}{}
				<-j.slow
			}
			return p
		},
	}
	for _, set := range options {
		set(j.dir, &config)
	}
	s, err := NewSupervisor(config)
	if err != nil {
		t.Fatal(err)
	}
	j.supervisor, j.pid = s, strconv.Itoa(cmd.Process.Pid)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	unix.Write(fds[0], []byte{1})
	j.in, j.out = json.NewEncoder(stdin), json.NewDecoder(stdout)
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return j
}

func receiveFile(t *testing.T, socket int) *os.File {
	t.Helper()
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		t.Fatalf("the victim sent no listener: %v", err)
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(got[0]), "listener")
}

// do has the victim make a call, and returns the errno's name, "" for none.
func (j *jail) do(s step) string {
	j.t.Helper()
	if err := j.in.Encode(s); err != nil {
		j.t.Fatal(err)
	}
	var errno syscall.Errno
	if err := j.out.Decode(&errno); err != nil {
		j.t.Fatalf("%+v: %v", s, err)
	}
	if errno == 0 {
		return ""
	}
	return unix.ErrnoName(errno)
}

// expect checks the errno of a step and the events that it made.
func (j *jail) expect(s step, errno string, events ...string) {
	j.t.Helper()
	before := len(j.events.texts())
	if got := j.do(s); got != errno {
		j.t.Errorf("%+v: %q, want %q", s, got, errno)
	}
	if got := j.events.texts()[before:]; !slices.Equal(got, events) {
		j.t.Errorf("%+v: events %q, want %q", s, got, events)
	}
}

// Containment check: G08.
func TestWritesToReadOnlyPlaces(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		ro, rw := filepath.Join(j.dir, "ro"), filepath.Join(j.dir, "rw")
		if err := os.Symlink(filepath.Join(ro, "file"), filepath.Join(rw, "link")); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(ro, "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		event := func(action, path string) string { return "file " + action + " " + path + " EROFS" }
		write := unix.O_WRONLY | unix.O_TRUNC
		for _, c := range []struct {
			s      step
			action string
			path   string
		}{
			{step{Call: "open", A: ro + "/file", N: write}, "open-write", ro + "/file"},
			{step{Call: "open", A: "ro/../ro/file", N: unix.O_RDWR}, "open-write", ro + "/file"},
			{step{Call: "open", A: ro + "/new", N: unix.O_WRONLY | unix.O_CREAT}, "create", ro + "/new"},
			{step{Call: "open", A: "rw/link", N: write}, "open-write", ro + "/file"},
			{step{Call: "open", A: ro, N: unix.O_TMPFILE | unix.O_RDWR}, "create", ro},
			{step{Call: "openat", A: "ro", B: "file", N: write}, "open-write", ro + "/file"},
			{step{Call: "unlink", A: "ro/file"}, "unlink", ro + "/file"},
			{step{Call: "mkdir", A: "ro/new/"}, "mkdir", ro + "/new"},
			{step{Call: "rename", A: "ro/file", B: "ro/stolen"}, "rename", ro + "/file"},
			{step{Call: "unlink", A: "ro/missing"}, "unlink", ro + "/missing"},
			{step{Call: "link", A: "rw/file", B: "ro/new"}, "link", ro + "/new"},
			{step{Call: "symlink", A: "x", B: "ro/new"}, "symlink", ro + "/new"},
			{step{Call: "chmod", A: "ro/file", N: 0o600}, "chmod", ro + "/file"},
			{step{Call: "fchmod", A: "ro/file", N: 0o600}, "chmod", ro + "/file"},
			{step{Call: "truncate", A: "ro/file"}, "truncate", ro + "/file"},
			{step{Call: "touch", A: "ro/file"}, "utime", ro + "/file"},
			{step{Call: "listen", A: ro + "/sock"}, "bind", ro + "/sock"},
			{step{Call: "again", A: "ro/file", B: "/proc/self/fd/%d", N: unix.O_RDWR}, "open-write", ro + "/file"},
			{step{Call: "again", A: "ro/file", B: "/dev/fd/%d", N: unix.O_RDONLY | unix.O_TRUNC}, "open-write", ro + "/file"},
			{step{Call: "again", A: "ro/file", B: "//proc/./thread-self/fd/%d", N: write}, "open-write", ro + "/file"},
			{step{Call: "again", A: "ro", B: "/proc/self/fd/%d/file", N: write}, "open-write", ro + "/file"},
			{step{Call: "unlink", A: "/proc/self/cwd/ro/file"}, "unlink", ro + "/file"},
			{step{Call: "open", A: "ro/pipe", N: unix.O_RDWR}, "open-write", ro + "/pipe"},
			{step{Call: "open", A: "ro/pipe", N: unix.O_WRONLY | unix.O_NONBLOCK}, "open-write", ro + "/pipe"},
		} {
			j.expect(c.s, "EROFS", event(c.action, c.path))
		}
		// From one mount to another the errno is the kernel's, at which callers copy.
		crossed := func(path string) string { return "file rename " + path + " EXDEV" }
		j.expect(step{Call: "rename", A: "ro/file", B: "rw/stolen"}, "EXDEV", crossed(ro+"/file"))
		j.expect(step{Call: "rename", A: "rw/file", B: "ro/file"}, "EXDEV", crossed(ro+"/file"))
		if got, _ := os.ReadFile(ro + "/file"); string(got) != "old" {
			t.Errorf("the file of the read-only place is %q now", got)
		}
		e := j.events.events[0]
		if e.PID == 0 || e.Exe == "" || e.Decision != audit.Deny || e.Provenance != audit.FromClaimed {
			t.Errorf("the event does not say who: %+v", e)
		}
	})
}

// The twins of the above, and the errors that are the kernel's own to give: no event.
// Containment check: G09.
func TestWritesThatAreTheKernels(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		for _, pipe := range []string{"ro/pipe", "rw/pipe"} {
			if err := unix.Mkfifo(filepath.Join(j.dir, pipe), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write := unix.O_WRONLY | unix.O_TRUNC
		for _, c := range []struct {
			s     step
			errno string
		}{
			{step{Call: "open", A: "rw/pipe", N: unix.O_RDWR}, ""},
			{step{Call: "open", A: "ro/pipe", N: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_TRUNC}, ""},
			{step{Call: "open", A: "ro/pipe", N: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL}, "EEXIST"},
			{step{Call: "open", A: "rw/file", N: write}, ""},
			{step{Call: "again", A: "rw/file", B: "/proc/self/fd/%d", N: write}, ""},
			{step{Call: "open", A: "/proc/self/cwd/rw/file", N: write}, ""},
			{step{Call: "open", A: "rw/new", N: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, ""},
			{step{Call: "open", A: "rw/new", N: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, "EEXIST"},
			{step{Call: "open", A: "ro/file", N: unix.O_RDONLY}, ""},
			{step{Call: "open", A: "ro/file", N: unix.O_RDONLY | unix.O_CREAT}, ""},
			{step{Call: "open", A: "ro/file", N: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, "EEXIST"},
			{step{Call: "open", A: "ro", N: unix.O_WRONLY}, "EISDIR"},
			{step{Call: "open", A: "ro/missing", N: unix.O_WRONLY}, "ENOENT"},
			{step{Call: "open", A: "/dev/null", N: unix.O_WRONLY}, ""},
			{step{Call: "rename", A: "rw/file", B: "merged/file"}, "EXDEV"},
			{step{Call: "unlink", A: "rw/missing"}, "ENOENT"},
			{step{Call: "mkdir", A: "ro"}, "EEXIST"},
			{step{Call: "mkdir", A: "rw/dir"}, ""},
			{step{Call: "rename", A: "rw/new", B: "rw/renamed"}, ""},
			{step{Call: "rename", A: "rw/missing", B: "rw/x"}, "ENOENT"},
			// Of these the kernel looks at the name alone.
			{step{Call: "rename", A: "rw/file", B: "rw/."}, "EBUSY"},
			{step{Call: "rename", A: "hosts/file", B: "hosts/."}, "EBUSY"},
			{step{Call: "rmdir", A: "ro/."}, "EINVAL"},
			{step{Call: "unlink", A: "ro/.."}, "EISDIR"},
			{step{Call: "mkdir", A: "ro/."}, "EEXIST"},
			{step{Call: "link", A: "rw/file", B: "rw/hard"}, ""},
			{step{Call: "symlink", A: "x", B: "rw/sym"}, ""},
			{step{Call: "chmod", A: "rw/file", N: 0o600}, ""},
			{step{Call: "fchmod", A: "rw/file", N: 0o644}, ""},
			{step{Call: "touch", A: "rw/file"}, ""},
			{step{Call: "truncate", A: "rw/file"}, ""},
			{step{Call: "unlink", A: "rw/renamed"}, ""},
		} {
			j.expect(c.s, c.errno)
		}
	})
}

// Containment check: G05.
func TestDeniedCalls(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		j.expect(step{Call: "unshare", N: unix.CLONE_NEWUSER}, "EPERM", "syscall unshare unshare(CLONE_NEWUSER) EPERM")
		j.expect(step{Call: "socket", N: unix.AF_VSOCK}, "EPERM", "syscall socket socket(AF_VSOCK, SOCK_STREAM, 0) EPERM")
		j.expect(step{Call: "socket", N: unix.AF_INET6}, "")
		j.expect(step{Call: "newcall"}, "ENOSYS", "syscall syscall_5000 syscall_5000 ENOSYS")
		j.expect(step{Call: "chmod", A: "rw/file", N: 0o4755}, "EPERM", "syscall fchmodat fchmodat(mode 04755) EPERM")
	})
}

// Containment checks: G08, G15.
func TestConnect(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		hosts := filepath.Join(j.dir, "ro", "host.sock")
		l, err := net.Listen("unix", hosts)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		abstract, err := net.Listen("unix", "@seccomp-test-"+filepath.Base(j.dir))
		if err != nil {
			t.Fatal(err)
		}
		defer abstract.Close()
		refusal := "unix connect " + hosts + " ECONNREFUSED"
		j.expect(step{Call: "connect", A: hosts}, "ECONNREFUSED", refusal)
		j.expect(step{Call: "connect", A: "ro/host.sock"}, "ECONNREFUSED", refusal)
		if err := os.Symlink(hosts, filepath.Join(j.dir, "rw/link")); err != nil {
			t.Fatal(err)
		}
		j.expect(step{Call: "connect", A: "rw/link"}, "ECONNREFUSED", refusal)
		j.expect(step{Call: "connect", A: j.dir + "/hosts/file"}, "ENOENT", "unix connect "+j.dir+"/hosts/file ENOENT")
		if err := os.Symlink(j.dir+"/hosts", j.dir+"/hosts/link"); err != nil {
			t.Fatal(err)
		}
		j.expect(step{Call: "connect", A: j.dir + "/hosts/link/../hosts/link/file"}, "ENOENT", "unix connect "+j.dir+"/hosts/link/../hosts/link/file ENOENT")
		j.expect(step{Call: "connect", A: j.dir + "/hosts/nothing"}, "ENOENT")
		j.expect(step{Call: "connect", A: "/nowhere/x.sock"}, "ENOENT")
		j.expect(step{Call: "connect", A: "@seccomp-test-" + filepath.Base(j.dir)}, "ECONNREFUSED")
		// Its own sockets it may use, by path and by abstract name.
		j.expect(step{Call: "listen", A: "rw/own.sock"}, "")
		j.expect(step{Call: "connect", A: "rw/own.sock"}, "")
		j.expect(step{Call: "listen", A: "@own"}, "")
		j.expect(step{Call: "connect", A: "@own"}, "")
		j.expect(step{Call: "connect4", N: 1}, "ENETUNREACH") // lo is down in the victim's namespace
		j.expect(step{Call: "connect4 without waiting", N: 1}, "ENETUNREACH")
		l.(*net.UnixListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Error("the host's socket got a connection")
		}
	})
}

// TestConnects: who connects a socket of the network is told of, with where it has it, and nothing of other sockets is.
func TestConnects(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		j := newJail(t, func(_ string, c *Config) {
			c.Connects = func(inode uint64, tid, fd int) {
				links := make(chan string)
				go func() { // this thread has the run's root
					at, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
					links <- at
				}()
				at := <-links
				mu.Lock()
				defer mu.Unlock()
				if at != fmt.Sprintf("socket:[%d]", inode) {
					t.Errorf("socket %d is said to be where %q is", inode, at)
				}
				told = append(told, at)
			}
		})
		j.expect(step{Call: "connect", A: "/nowhere/x.sock"}, "ENOENT")
		j.expect(step{Call: "connect", A: "@nobody"}, "ECONNREFUSED")
		j.expect(step{Call: "connect4", N: 1}, "ENETUNREACH")
		j.expect(step{Call: "connect4 without waiting", N: 1}, "ENETUNREACH")
		if mu.Lock(); len(told) != 2 {
			t.Errorf("told of %q", told)
		}
		mu.Unlock()
	})
}

// One that is slow to decide does not hold up the others, nor do several; and when they are decided, all goes on.
func TestSlow(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		for range maxWorkers - 1 {
			j.expect(step{Call: "slow"}, "")
			j.expect(step{Call: "touch", A: "rw/file"}, "")
		}
		for range maxWorkers - 1 {
			<-j.asked
		}
		j.expect(step{Call: "open", A: "ro/file", N: unix.O_WRONLY}, "EROFS", "file open-write "+j.dir+"/ro/file EROFS")
		j.expect(step{Call: "slow"}, "")
		<-j.asked
		close(j.slow)
		if got := j.do(step{Call: "touch", A: "rw/file"}); got != "" {
			t.Errorf("after all workers were busy: %q", got)
		}
	})
}

// The end of the last caller ends Serve; Close may come twice.
func TestServeEndsWithItsCallers(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		j.expect(step{Call: "touch", A: "rw/file"}, "")
	})
}
