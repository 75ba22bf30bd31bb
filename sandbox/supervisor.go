// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/internal/caller"
	"github.com/agentjail/agentjail/sandbox/internal/netns"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
	"github.com/agentjail/agentjail/seccomp"
)

// wireFD is where the supervisor finds its connection to the launcher.
const wireFD = 3

// supervisor is process B of a run: root in a user namespace of its own, with the host's network.
type supervisor struct {
	conn    *wire.Conn
	sink    *forwarder
	order   buildOrder
	fuse    *os.File // see invoker; nil: the host's device
	root    string   // of the run's tree, in this mount namespace
	network *netns.Namespace
	around  *netns.Listening // of this machine's own network; nil where it cannot be asked
	gateway Gateway
	jail    *libcontainer.Container
	process *libcontainer.Process // pid 1 of the run: libcontainer's init, then the stage
	stage   *stage.Parent
	filter  seccomp.Policy
	program seccomp.Program // of filter
	own     seccomp.Program // see confine
	guard   *seccomp.Supervisor
	stdio   stdio
	began   time.Time    // see seccomp.Config
	want    posture.Want // of the command's process while it runs; see holds
	command int          // its number
}

// supervise is the main function of process B. It returns the exit code.
func supervise(newGateway NewGateway) int {
	_ = letWatcherBeLate()
	WithoutCore()
	closeInherited()
	// The signals of the terminal are the launcher's to handle; it tells this process what to pass on.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGHUP, unix.SIGTERM, unix.SIGPIPE)
	// libcontainer warns of the cgroups that it was not given, net/http of what servers say unasked (http.Transport has no logger of its own).
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	conn, err := wire.New(os.NewFile(wireFD, "wire"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "agentjail: this word is for agentjail's own use:", err)
		return 125
	}
	s := &supervisor{conn: conn, sink: newForwarder(conn), stdio: stdio{os.Stdin, os.Stdout, os.Stderr}}
	if err := s.run(newGateway); err != nil {
		s.teardown()
		s.sink.flush()
		conn.Send(msgFailed, asFailure(err))
		return 125
	}
	return 0
}

// closeInherited closes what the caller of agentjail has open and this process needs nothing of: a directory among it would lie on mounts of
// the host's, which can be written. What this process has opened itself is closed by execve(2), and what it has of others is not.
func closeInherited() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= wireFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

func (s *supervisor) run(newGateway NewGateway) (err error) {
	// The namespace is made while the launcher makes the run's files. The order is taken in any case: a launcher that cannot send
	// it would report that, and not why.
	network := meanwhile(netns.New)
	if err := s.receiveOrder(); err != nil {
		return err
	}
	if s.began, err = fileTime(); err != nil {
		return setupError("filters", err)
	}
	trace("supervisor: order received")
	gateway := meanwhile(func() (Gateway, error) { return newGateway(s.order.Plan, s.sink) })
	if err := s.mountRoot(); err != nil {
		return err
	}
	if err := s.trust(gateway()); err != nil {
		return err
	}
	created := meanwhile(func() (*libcontainer.Container, error) { return s.createJail(network) })
	tree := s.buildTree()
	jail, err := created()
	if err := errors.Join(err, tree); err != nil {
		return err
	}
	// The network is captured while libcontainer starts its process: nothing in the namespace runs the command before both
	// are done, and until then no interface in it is up.
	aside := make(chan error, 1)
	go func() { aside <- errors.Join(s.startNetwork(), s.compileFilter()) }()
	started := s.startJail(jail)
	if started == nil {
		started = s.place()
	}
	if err := errors.Join(<-aside, started); err != nil {
		return err
	}
	trace("supervisor: jail and network")
	return s.startCommand()
}

// fileTime is the time that a file would have which is made now.
func fileTime() (time.Time, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	return time.Unix(now.Sec, now.Nsec), err
}

// expect waits for one message of a kind.
func (s *supervisor) expect(kind string) (wire.Message, error) {
	m, err := s.conn.Recv()
	if err == nil && m.Kind != kind {
		m.Close()
		err = fmt.Errorf("a %q message came where %q was expected", m.Kind, kind)
	}
	return m, err
}

// receive waits for one message of a kind that brings no file.
func (s *supervisor) receive(kind string, body any) error {
	m, err := s.expect(kind)
	if err != nil || body == nil {
		return err
	}
	return m.Decode(body)
}

func (s *supervisor) receiveOrder() error {
	m, err := s.expect(msgBuild)
	if err != nil {
		return err
	}
	if len(m.Files) > 0 {
		s.fuse = m.Files[0]
	}
	return m.Decode(&s.order)
}

// mountRoot mounts the FUSE file system that the launcher serves. This process keeps no copy of its device: when the
// launcher dies, every request ends with an error instead of waiting.
func (s *supervisor) mountRoot() error {
	mnt := filepath.Join(s.order.Dir, "mnt")
	if err := rootfs.Private(); err != nil {
		return setupError("mounts", err)
	}
	// libcontainer always makes a cgroup manager of its own; it can do nothing with a read-only hierarchy, and package
	// limits, in the launcher, owns the run's cgroup alone.
	if err := rootfs.ReadOnly("/sys/fs/cgroup"); err != nil {
		return setupError("mounts", err)
	}
	if err := rootfs.Scratch(mnt, "fuse", "root", "hidden", "files", "state"); err != nil {
		return setupError("mounts", err)
	}
	if s.order.Plan.plain() {
		return s.mountPlainRoot(mnt)
	}
	dev, err := rootfs.MountFUSE(filepath.Join(mnt, "fuse"), s.fuse)
	if s.fuse != nil {
		s.fuse.Close()
	}
	if err != nil {
		return setupError("file system root", err)
	}
	defer dev.Close()
	s.root = filepath.Join(mnt, "fuse", "root")
	return s.conn.Send(msgFuse, nil, dev)
}

// trust has the tree show by which authority the gateway inspects TLS.
func (s *supervisor) trust(g Gateway, err error) error {
	if err != nil {
		return setupError("gateway", err)
	}
	s.gateway = g
	s.order.Plan, err = s.order.Plan.trusting(g.Authority())
	return setupErrorOrNil("gateway", err)
}

func (s *supervisor) startNetwork() error {
	s.around, _ = netns.NewListening() // without it every refusal counts as one of a service of this machine
	if err := s.network.Capture(&netns.Watch{Granted: s.order.Plan.hostPorts(), Refused: s.refused}, s.order.Plan.gatewayPorts()); err != nil {
		return setupError("network namespace", err)
	}
	tcp, udp := s.network.Listeners()
	network := Network{TCP: tcp, Owner: s.network.Owner, Inside: s.network.Inside}
	for _, conn := range udp {
		network.UDP = append(network.UDP, conn)
	}
	if err := s.gateway.Serve(network); err != nil {
		return setupError("gateway", err)
	}
	go s.countLost()
	trace("supervisor: network captured")
	return nil
}

// countLost tells the log of packets that were lost, while the run goes on. teardown tells of the last ones.
func (s *supervisor) countLost() {
	for range time.Tick(time.Second) {
		s.sink.lost(audit.ClassNet, s.network.Lost)
	}
}

func (s *supervisor) compileFilter() (err error) {
	if s.filter, err = seccomp.Default(seccomp.Options{Allow: s.order.Plan.Syscalls, Looks: s.order.Plan.plain()}); err == nil {
		s.program, err = s.filter.Compile()
	}
	if err == nil {
		s.own, err = seccomp.Own()
	}
	return setupErrorOrNil("filters", err)
}

func (s *supervisor) buildTree() error {
	mnt := filepath.Join(s.order.Dir, "mnt")
	builder := rootfs.Builder{Root: s.root, Scratch: filepath.Join(mnt, "files"), Plain: s.order.Plan.plain()}
	hidden := filepath.Join(mnt, "fuse", "hidden")
	if builder.Plain {
		hidden = filepath.Join(mnt, "hidden")
	}
	if err := builder.Build(treeEntries(s.order.Plan, hidden)); err != nil {
		return setupError("mounts", err)
	}
	if err := s.openTerminal(); err != nil {
		return setupError("terminal", err)
	}
	trace("supervisor: tree")
	return nil
}

// openTerminal makes the run's own pty, and puts its slave where the caller's terminal was.
func (s *supervisor) openTerminal() error {
	if s.order.TTYs == [3]bool{} {
		return nil
	}
	master, err := os.OpenFile(filepath.Join(s.root, "dev/pts/ptmx"), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("TIOCSPTLCK: %w", err)
	}
	// TIOCGPTPEER opens the slave without a path (ioctl_tty(2), Linux 4.13). It must not become this session's terminal.
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("TIOCGPTPEER: %w", errno)
	}
	slave := os.NewFile(fd, "pty")
	for i, tty := range s.order.TTYs {
		if tty {
			s.stdio[i] = slave
		}
	}
	return s.conn.Send(msgTerminal, nil, master)
}

// startCommand runs the stage up to the point where the command waits, compares what is with what was planned, and lets
// the command go when the launcher says that the log is open.
func (s *supervisor) startCommand() error {
	wanted := meanwhile(s.wanted) // nothing of it depends on the command's process
	ready, err := s.prepare()
	if err != nil {
		return err
	}
	if err := firstToEnd(ready.HostPID, s.order.Plan.Limits.Memory); err != nil {
		return err
	}
	report, err := s.posture(ready, wanted)
	if err != nil {
		return setupError("posture", err)
	}
	if len(report.Differences) > 0 {
		return setupError("posture", fmt.Errorf("the command would not run as planned: %v", report.Differences))
	}
	rules, err := s.order.Plan.nameRules()
	if err != nil {
		return setupError("filters", err)
	}
	s.guard, err = seccomp.NewSupervisor(seccomp.Config{
		Policy: s.filter, Listener: ready.Listener, WaitKillable: ready.WaitKillable, Init: ready.HostPID, ReadOnly: s.readOnly(), Tree: rules.tree(), Unasked: rules.unasked(),
		Sockets: s.order.Plan.Sockets(), Protect: s.order.Plan.Protected.refuses(), Places: s.order.Plan.loosePlaces(),
		Began: s.began, Sink: s.sink, Caller: caller.Of, Connects: s.network.Connects, Severity: s.order.Plan.severity,
	})
	if err != nil {
		return setupError("filters", err)
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + sparePlaces - startPlaces)
	go s.serveFilter()
	if err := s.conn.Send(msgReady, report); err != nil {
		return err
	}
	if err := limitNamespaces(s.filter.Namespaces()); err != nil {
		return err
	}
	if err := confine(s.own); err != nil {
		return err
	}
	if err := s.receive(msgGo, nil); err != nil {
		return err
	}
	trace("supervisor: go")
	if err := s.conn.Send(msgStarted, nil); err != nil {
		return err
	}
	return s.watch()
}

// serveFilter answers what the filter asks. Unanswered, the command would wait for ever in its next write: it ends instead.
func (s *supervisor) serveFilter() {
	if err := s.guard.Serve(); err != nil {
		s.conn.Send(msgFailed, asFailure(setupError("filters", err)))
		s.jail.Signal(unix.SIGKILL)
	}
}

func setupError(layer string, err error) error {
	var done *SetupError
	if errors.As(err, &done) {
		return err
	}
	return &SetupError{Layer: layer, Err: err, Fix: fixFor(layer, err)}
}

func asFailure(err error) failure {
	var setup *SetupError
	if errors.As(err, &setup) {
		return failure{Layer: setup.Layer, Err: setup.Err.Error(), Fix: setup.Fix}
	}
	return failure{Layer: "supervisor", Err: err.Error()}
}
