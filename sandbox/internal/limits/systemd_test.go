// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// fakeBus answers as a bus with systemd on it does: one connection, the calls that are made here.
type fakeBus struct {
	t      *testing.T
	result string // how jobs end
	refuse string // name of an error, instead of a job
	// What StartTransientUnit was asked for.
	mu         sync.Mutex
	unit, mode string
	properties map[string]dbus.Variant
}

// serve listens in a new directory, which it returns for XDG_RUNTIME_DIR.
func (b *fakeBus) serve(socket string) string {
	dir := b.t.TempDir()
	path := filepath.Join(dir, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan struct{})
	b.t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.talk(conn)
			conn.Close()
		}
	}()
	return dir
}

// talk is the server's half of the D-Bus specification's authentication, and then of its calls.
func (b *fakeBus) talk(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch line = strings.Trim(line, "\x00\r\n"); {
		case line == "BEGIN":
			b.answer(r, conn)
			return
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(conn, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "AUTH"):
			fmt.Fprint(conn, "REJECTED EXTERNAL\r\n")
		default:
			fmt.Fprint(conn, "ERROR\r\n")
		}
	}
}

const fakeJob = dbus.ObjectPath("/org/freedesktop/systemd1/job/42")

func (b *fakeBus) answer(r *bufio.Reader, conn net.Conn) {
	for serial := uint32(1); ; serial += 3 {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()), dbus.FieldSender: dbus.MakeVariant(systemdName),
		}}
		var after []*dbus.Message
		switch member, _ := m.Headers[dbus.FieldMember].Value().(string); member {
		case "Hello":
			setBody(reply, ":1.7")
		case "Get":
			setBody(reply, dbus.MakeVariant("/user.slice/user@1.service"))
		case "StartTransientUnit":
			b.note(m.Body)
			if b.refuse != "" {
				reply.Type = dbus.TypeError
				reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(b.refuse)
				break
			}
			setBody(reply, fakeJob)
			after = []*dbus.Message{jobRemoved("/org/freedesktop/systemd1/job/41", "failed"), jobRemoved(fakeJob, b.result)}
		}
		for _, m := range append([]*dbus.Message{reply}, after...) {
			if err := m.EncodeTo(conn, binary.LittleEndian); err != nil {
				b.t.Error(err)
				return
			}
		}
	}
}

func (b *fakeBus) note(body []any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.properties = map[string]dbus.Variant{}
	if len(body) != 4 {
		b.t.Errorf("StartTransientUnit%v", body)
		return
	}
	b.unit, b.mode = body[0].(string), body[1].(string)
	for _, p := range body[2].([][]any) {
		b.properties[p[0].(string)] = p[1].(dbus.Variant)
	}
}

func jobRemoved(job dbus.ObjectPath, result string) *dbus.Message {
	m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(systemdPath), dbus.FieldInterface: dbus.MakeVariant(managerFace),
		dbus.FieldMember: dbus.MakeVariant("JobRemoved"), dbus.FieldSender: dbus.MakeVariant(systemdName),
	}}
	setBody(m, uint32(42), job, "agentjail-R1.scope", result)
	return m
}

func setBody(m *dbus.Message, body ...any) {
	m.Body = body
	m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
}

func dialFake(t *testing.T, b *fakeBus, socket string) *connection {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", b.serve(socket))
	m, err := userManager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.close() })
	return m.(*connection)
}

func TestScopeOverDBus(t *testing.T) {
	for _, socket := range []string{"bus", privateSocket} {
		b := &fakeBus{t: t, result: "done"}
		u := dialFake(t, b, socket)
		if path, err := u.controlGroup(); err != nil || path != "/user.slice/user@1.service" {
			t.Errorf("%s: %q, %v", socket, path, err)
		}
		if err := u.startUnit("agentjail-R1.scope", 99, scopeProperties(everything)); err != nil {
			t.Fatalf("%s: %v", socket, err)
		}
		u.close()
		b.mu.Lock()
		want := map[string]any{
			"PIDs": []uint32{99}, "Description": "agentjail run R1", "CollectMode": "inactive-or-failed", "DelegateControllers": []string{}, "MemoryMax": uint64(4 << 30),
			"MemorySwapMax": uint64(0), "TasksMax": uint64(512), "CPUQuotaPerSecUSec": uint64(1_500_000), "CPUQuotaPeriodUSec": uint64(100_000),
		}
		if b.unit != "agentjail-R1.scope" || b.mode != "fail" || len(b.properties) != len(want) {
			t.Errorf("%s: unit %q, mode %q, %v", socket, b.unit, b.mode, b.properties)
		}
		for name, value := range want {
			if got := b.properties[name].Value(); !reflect.DeepEqual(got, value) {
				t.Errorf("%s: %s is %v, want %v", socket, name, got, value)
			}
		}
		b.mu.Unlock()
	}
}

func TestScopeThatFails(t *testing.T) {
	u := dialFake(t, &fakeBus{t: t, result: "timeout"}, "bus")
	if err := u.startUnit("agentjail-R1.scope", 99, nil); err == nil || !strings.Contains(err.Error(), `"timeout"`) {
		t.Errorf("a job that timed out: %v", err)
	}
	u.close()
	u = dialFake(t, &fakeBus{t: t, refuse: "org.freedesktop.DBus.Error.AccessDenied"}, "bus")
	if err := u.startUnit("agentjail-R1.scope", 99, nil); err == nil {
		t.Error("a refused scope is no error")
	}
	// The job is said to be done, but the process is elsewhere.
	u.close()
	u = dialFake(t, &fakeBus{t: t, result: "done"}, "bus")
	if dir, err := u.startScope("agentjail-R1.scope", os.Getpid(), nil); err == nil {
		t.Errorf("this process is in %s?", dir)
	}
}

func TestNoSystemd(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if m, err := userManager(); err == nil {
		t.Errorf("connected to %v", m)
	}
}

// fakeManager makes scopes in a directory.
type fakeManager struct {
	host   host
	dir    string
	refuse error
	closed bool

	properties []property // of the last scope
}

func (m *fakeManager) group() (string, error) { return m.dir, nil }

func (m *fakeManager) startScope(name string, pid int, properties []property) (string, error) {
	m.properties = properties
	if m.refuse != nil {
		return "", m.refuse
	}
	path := filepath.Join(m.dir, name)
	return path, m.host.mkdir(path, 0o755)
}

func (m *fakeManager) close() error { m.closed = true; return nil }

func withManager(t *testing.T, handed string) (host, *fakeManager) {
	t.Helper()
	h := fakeV2(t, "")
	m := &fakeManager{host: h, dir: filepath.Join(h.v2.mount, "user.slice")}
	write(t, filepath.Join(m.dir, "cgroup.controllers"), handed)
	h.connect = func() (manager, error) { return m, nil }
	return h, m
}

func TestScopeIsMadeForTheFirstProcess(t *testing.T) {
	h, m := withManager(t, "cpu memory pids")
	g, err := create(h, Spec{Pids: 5, Run: "R1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if g.Dir() != "" || !strings.Contains(g.Mechanism(), "systemd") {
		t.Errorf("%q in %q before there is a process", g.Mechanism(), g.Dir())
	}
	if views := g.Views(); len(views) != 1 || views[0] != (View{Target: h.v2.mount}) {
		t.Errorf("views before there is a process: %v", views)
	}
	path := filepath.Join(m.dir, "agentjail-R1.scope")
	filesV2["pids.max"] = "5\n" // as systemd would have set it
	err = g.Add(10)
	filesV2["pids.max"] = "max\n"
	if err != nil || g.Dir() != path || g.Views()[0].Source != path {
		t.Fatalf("%s, %v, %v", g.Dir(), g.Views(), err)
	}
	if err := g.Add(11); err != nil || read(t, filepath.Join(path, "cgroup.procs")) != "11" {
		t.Errorf("the second process: %v", err)
	}
	write(t, filepath.Join(path, "pids.events"), "max 3\n")
	if hits := g.Hits(); len(hits) != 1 || hits[0].Count != 3 {
		t.Errorf("hits: %v", hits)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil || !m.closed {
		t.Errorf("close: %v, %v", err, m.closed)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("systemd's scope was removed: %v", err)
	}
}

// A group that systemd does not know loses its limits when systemd takes the controllers back: it is asked first.
func TestSystemdIsAskedFirst(t *testing.T) {
	for name, c := range map[string]struct {
		has   string // controllers of the manager
		scope bool
	}{"both can": {"cpu memory pids", true}, "systemd cannot": {"memory", false}} {
		h, m := withManager(t, c.has)
		write(t, filepath.Join(h.v2.mount, "user.slice/cgroup.subtree_control"), "cpu memory pids")
		g, err := create(h, Spec{Pids: 5, Run: "R1"}, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if made := g.scope != nil; made != c.scope || m.closed == c.scope {
			t.Errorf("%s: a scope: %v; closed: %v", name, made, m.closed)
		}
		g.Close()
	}
}

// Under sudo the scope is there before root's rights are given up, with the reaper aside, and no connection is kept.
func TestScopeUnderSudo(t *testing.T) {
	h, m := withManager(t, "cpu memory pids")
	h.root = true
	spec := everything
	spec.Leaving = true
	g, err := create(h, spec, 99)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	scope := filepath.Join(m.dir, "agentjail-R1.scope")
	if g.Dir() != filepath.Join(scope, "agentjail-R1") || !m.closed {
		t.Errorf("the group is %s; the connection is closed: %v", g.Dir(), m.closed)
	}
	expect(t, scope, map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "+memory +pids +cpu"})
	expect(t, filepath.Join(scope, "reaper"), map[string]string{"cgroup.procs": "99"})
	expect(t, g.Dir(), map[string]string{"memory.max": "4294967296", "pids.max": "512", "cpu.max": "150000 100000"})
	for _, p := range m.properties {
		if want := []string{"memory", "pids", "cpu"}; p.Name == "DelegateControllers" && !reflect.DeepEqual(p.Value.Value(), want) {
			t.Errorf("delegated: %v, want %v", p.Value, want)
		}
	}
	if err := g.Add(100); err != nil || read(t, filepath.Join(g.Dir(), "cgroup.procs")) != "100" {
		t.Errorf("the first process: %v", err)
	}
}

// What systemd refuses under sudo is an error: a group beside its scopes would be one that loses its limits.
func TestScopeUnderSudoThatIsRefused(t *testing.T) {
	h, m := withManager(t, "cpu memory pids")
	h.root = true
	write(t, filepath.Join(h.v2.mount, "user.slice/cgroup.subtree_control"), "cpu memory pids")
	m.refuse = errors.New("no")
	g, err := create(h, Spec{Pids: 5, Run: "R1", Leaving: true}, 99)
	var unavailable *UnavailableError
	if g != nil || !errors.As(err, &unavailable) || unavailable.Fix() == "" || !m.closed {
		t.Errorf("%v, %v; closed: %v", g, err, m.closed)
	}
}

// Root's run stays in the slice that root is in: a limit of the slice holds for it.
func TestScopeOfRoot(t *testing.T) {
	h, m := withManager(t, "pids")
	for _, c := range []struct {
		root      bool
		own, want string
	}{
		{true, "user.slice/own", "user.slice"}, {true, "user.slice", "user.slice"}, {true, "", ""}, {true, "init.scope", ""},
		{false, "user.slice/own", ""},
	} {
		h.root = c.root
		h.v2.own = filepath.Join(h.v2.mount, c.own)
		g, err := create(h, Spec{Pids: 5, Run: "R1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		g.Add(10) // fails: nobody sets pids.max
		var slice string
		for _, p := range m.properties {
			if p.Name == "Slice" {
				slice = p.Value.Value().(string)
			}
		}
		if slice != c.want || strings.Contains(g.Mechanism(), "user") == c.root {
			t.Errorf("%+v: slice %q, %s", c, slice, g.Mechanism())
		}
		g.Close()
		os.RemoveAll(filepath.Join(m.dir, "agentjail-R1.scope"))
	}
}

// TestPeerElsewhere: the number of a process means another one to a systemd outside of this pid namespace.
func TestPeerElsewhere(t *testing.T) {
	const variable = "AGENTJAIL_TEST_SOCKET"
	if socket := os.Getenv(variable); socket != "" {
		fmt.Println(checkPeer(socket))
		return
	}
	socket := filepath.Join((&fakeBus{t: t}).serve("bus"), "bus")
	if err := checkPeer(socket); err != nil {
		t.Errorf("of this namespace: %v", err)
	}
	if err := checkPeer(socket + "-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPeerElsewhere$")
	cmd.Env = []string{variable + "=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		skip(t, err.Error())
	}
	if err != nil || !strings.Contains(string(out), "another pid namespace") {
		t.Errorf("of another one: %v, %s", err, out)
	}
}

func TestScopeWithoutItsLimitsIsRefused(t *testing.T) {
	h, _ := withManager(t, "cpu memory pids")
	g, err := create(h, Spec{Pids: 5, Run: "R1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Add(10); err == nil || !strings.Contains(err.Error(), "pids.max") {
		t.Errorf("pids.max is not 5: %v", err)
	}
	h, m := withManager(t, "memory")
	g, err = create(h, Spec{Pids: 5, Run: "R1"}, 0)
	var unavailable *UnavailableError
	if g != nil || !errors.As(err, &unavailable) || unavailable.Fix() != fixHand || !m.closed {
		t.Errorf("a manager without pids: %v, %v", g, err)
	}
	h, m = withManager(t, "pids")
	m.refuse = errors.New("no")
	if g, err = create(h, Spec{Pids: 5, Run: "R1"}, 0); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Add(10); !errors.As(err, &unavailable) || unavailable.Fix() == "" {
		t.Errorf("a manager that refuses: %v", err)
	}
}

func TestScopeDir(t *testing.T) {
	const cgroup = "1:name=systemd:/x\n0::/user.slice/user@1.service/app.slice/agentjail-R1.scope\n"
	if dir, err := scopeDir("/m", cgroup, "agentjail-R1.scope"); err != nil || dir != "/m/user.slice/user@1.service/app.slice/agentjail-R1.scope" {
		t.Errorf("%s, %v", dir, err)
	}
	for _, text := range []string{"", "0::/\n", "0::/agentjail-R2.scope\n", "5:pids:/agentjail-R1.scope\n"} {
		if dir, err := scopeDir("/m", text, "agentjail-R1.scope"); err == nil {
			t.Errorf("%q: %s", text, dir)
		}
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "memory.max"), "1048576\n")
	write(t, filepath.Join(dir, "pids.max"), "5\n")
	p := &place{path: dir}
	for _, c := range []struct {
		s  setting
		ok bool
	}{
		{setting{"memory", "memory.max", "1048576", false}, true},
		{setting{"memory", "memory.max", "1050000", false}, true}, // rounded down to pages
		{setting{"memory", "memory.max", "1000000", false}, false},
		{setting{"memory", "memory.max", "9999999", false}, false},
		{setting{"pids", "pids.max", "5", false}, true},
		{setting{"pids", "pids.max", "6", false}, false},
		{setting{"memory", "memory.swap.max", "0", true}, true},
		{setting{"cpu", "cpu.max", "1 2", false}, false},
	} {
		if err := p.verify([]setting{c.s}); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.s, err)
		}
	}
}

func TestFixScope(t *testing.T) {
	if root, user := fixScope(0), fixScope(1000); root == user || !strings.Contains(user, "user@.service") || strings.Contains(root, "user@.service") {
		t.Errorf("root is told %q, a user %q", root, user)
	}
}
