// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// events is a sink that keeps what it gets.
type events struct {
	mu  sync.Mutex
	all []audit.Event
	n   atomic.Int64
	off atomic.Bool // count only
}

func (s *events) Emit(e audit.Event) {
	s.n.Add(1)
	if s.off.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
}

func (s *events) take() []audit.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

// brief writes an event as the tests spell it.
func brief(e audit.Event) string {
	return strings.TrimRight(fmt.Sprintf("%s %s %s %s", e.Class, e.Action, e.Target, e.Errno), " ")
}

// fuseDevice is the device to open: TestJailOrdinary makes one of its own that its user may open.
func fuseDevice() string {
	if dev := os.Getenv("AGENTJAIL_TEST_FUSE"); dev != "" {
		return dev
	}
	return "/dev/fuse"
}

// requireFUSE skips a test where the kernel or the machine does not let it mount, and fails it there if everything
// must work.
func requireFUSE(t testing.TB) {
	t.Helper()
	missing := func(why string) {
		t.Helper()
		if os.Getenv("AGENTJAIL_MUST_WORK") == "1" {
			t.Fatal("must work: " + why)
		}
		t.Skip(why)
	}
	fd, err := unix.Open(fuseDevice(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		missing(fuseDevice() + ": " + err.Error())
	}
	unix.Close(fd)
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = namespaces(os.Geteuid())
	if err := cmd.Run(); err != nil {
		missing("user and mount namespaces: " + err.Error())
	}
}

// namespaces makes a process of its own user and mount namespace, in which 0 is a user of the host.
func namespaces(uid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: groupOf(uid), Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
		Pdeathsig:   syscall.SIGKILL,
	}
}

// groupOf is the group that goes with a user in these tests.
func groupOf(uid int) int {
	if uid == os.Geteuid() {
		return os.Getegid()
	}
	return uid
}

// jail is a served file system and a process inside of it.
type jail struct {
	t      testing.TB
	fs     *FS
	events *events
	cmd    *exec.Cmd
	conn   *os.File
	in     *json.Encoder
	out    *json.Decoder
	served chan error
}

// start mounts, serves and enters a configuration as who runs the test.
func start(t testing.TB, c Config, binds ...bind) *jail {
	t.Helper()
	requireFUSE(t)
	return startAs(t, os.Geteuid(), setup{Device: fuseDevice(), Mount: t.TempDir(), Binds: binds}, c)
}

func startAs(t testing.TB, uid int, s setup, c Config) *jail {
	t.Helper()
	j := &jail{t: t, events: &events{}, served: make(chan error, 1)}
	var quiet atomic.Bool
	quiet.Store(true)
	if c.Ignore == nil {
		c.Ignore = func(int) bool { return quiet.Load() }
	}
	c.Sink = j.events
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	j.fs = f
	handover := j.launch(uid, s)
	dev := receive(t, handover)
	go func() { j.served <- f.Serve(dev) }()
	t.Cleanup(j.stop)
	var ready done
	if err := j.out.Decode(&ready); err != nil {
		t.Fatal("the process inside did not get ready: ", err)
	}
	quiet.Store(false)
	return j
}

// launch starts the process inside and gives it its setup.
func (j *jail) launch(uid int, s setup) *net.UnixConn {
	j.t.Helper()
	orders, theirs := pair(j.t)
	handover, give := pair(j.t)
	defer theirs.Close()
	defer give.Close()
	j.conn, j.in, j.out = orders, json.NewEncoder(orders), json.NewDecoder(orders)
	j.cmd = exec.Command("/proc/self/exe", insideWord)
	j.cmd.SysProcAttr = namespaces(uid)
	j.cmd.ExtraFiles = []*os.File{theirs, give}
	j.cmd.Stderr = os.Stderr
	if err := j.cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	if err := j.in.Encode(s); err != nil {
		j.t.Fatal(err)
	}
	conn, err := net.FileConn(handover)
	if err != nil {
		j.t.Fatal(err)
	}
	handover.Close()
	return conn.(*net.UnixConn)
}

func pair(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
}

// receive gets the device that the process inside mounted.
func receive(t testing.TB, conn *net.UnixConn) *os.File {
	t.Helper()
	defer conn.Close()
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		t.Fatal("no device: ", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		t.Fatal("no device was sent: ", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal("no device was sent: ", err)
	}
	return os.NewFile(uintptr(fds[0]), "/dev/fuse")
}

// stop ends the process inside, whose mount namespace and mount go with it, and waits for Serve to see that.
func (j *jail) stop() {
	j.conn.Close()
	_ = j.cmd.Process.Kill()
	_ = j.cmd.Wait()
	select {
	case err := <-j.served:
		if err != nil {
			j.t.Error("Serve:", err)
		}
	case <-time.After(time.Minute):
		j.t.Error("Serve did not return after the last process was gone")
	}
}

// do carries out an order inside.
func (j *jail) do(o op) done {
	j.t.Helper()
	var d done
	if err := j.in.Encode(o); err != nil {
		j.t.Fatal(err)
	}
	if err := j.out.Decode(&d); err != nil {
		j.t.Fatalf("%+v: %v", o, err)
	}
	return d
}

// ok carries out an order that must succeed and make no event.
func (j *jail) ok(o op) done {
	j.t.Helper()
	return j.expect(o, 0)
}

// expect carries out an order and compares its errno and all events that it made.
func (j *jail) expect(o op, errno unix.Errno, want ...string) done {
	j.t.Helper()
	d := j.do(o)
	if d.Errno != errno {
		j.t.Errorf("%s %q %q: errno %v, want %v", o.Do, o.Path, o.Path2, d.Errno, errno)
	}
	j.fs.reports.flush() // what waits for the kernel to come back would come later
	var got []string
	for _, e := range j.events.take() {
		got = append(got, brief(e))
		if e.Decision != audit.Deny || e.Provenance != audit.FromKernel || e.Rule == "" || e.Reason == "" || e.PID == 0 {
			j.t.Errorf("%s %q: event %+v lacks something", o.Do, o.Path, e)
		}
	}
	if !slices.Equal(got, want) {
		j.t.Errorf("%s %q %q: events\n\t%q, want\n\t%q", o.Do, o.Path, o.Path2, got, want)
	}
	return d
}

// tree makes files (and directories, for names that end in a slash) in a new directory and returns it.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte("the content of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
