// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// manager is systemd, as far as it is needed here: root's, or the user's own.
type manager interface {
	// group is the directory of the manager's own group.
	group() (string, error)
	// startScope makes a scope for a process, and returns its directory when the process is there.
	startScope(name string, pid int, properties []property) (string, error)
	close() error
}

// property is a setting of a unit (org.freedesktop.systemd1(5)).
type property struct {
	Name  string
	Value dbus.Variant
}

// scope is a group that systemd makes for its first process.
type scope struct {
	manager manager
	slice   string // to make it in; empty is the manager's choice
}

// start makes the scope and returns its directory. systemd removes it after its last process.
func (s *scope) start(pid int, spec Spec, properties []property) (string, error) {
	name := scopeName(spec)
	if s.slice != "" {
		properties = append(properties, property{"Slice", dbus.MakeVariant(s.slice)})
	}
	dir, err := s.manager.startScope(name, pid, properties)
	if err != nil {
		return "", &UnavailableError{"systemd: scope " + name, err, fixScope(os.Geteuid())}
	}
	return dir, nil
}

func scopeName(spec Spec) string { return prefix + spec.Run + ".scope" }

func (s *scope) close() error { return s.manager.close() }

// delegated are the properties of a scope below which agentjail makes groups that have some controllers, if any.
func delegated(s Spec, controllers []string) []property {
	return []property{
		{"Description", dbus.MakeVariant("agentjail run " + s.Run)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")}, // so that a failed one is not kept
		{"DelegateControllers", dbus.MakeVariant(controllers)},
	}
}

// scopeProperties are the limits in systemd's words (systemd.resource-control(5)).
func scopeProperties(s Spec) []property {
	// Delegated, with no controllers below: systemd ends any other scope as a whole when the kernel has killed one process
	// of it for memory. OOMPolicy=continue says only that, but not to systemd 249 of Ubuntu 22.04.
	out := delegated(s, []string{})
	if s.Memory > 0 {
		out = append(out, property{"MemoryMax", dbus.MakeVariant(uint64(s.Memory))}, property{"MemorySwapMax", dbus.MakeVariant(uint64(0))})
	}
	if s.Pids > 0 {
		out = append(out, property{"TasksMax", dbus.MakeVariant(uint64(s.Pids))})
	}
	if s.CPUs > 0 {
		quota := uint64(cpuQuota(s.CPUs)) * 1_000_000 / cpuPeriod
		out = append(out, property{"CPUQuotaPerSecUSec", dbus.MakeVariant(quota)},
			property{"CPUQuotaPeriodUSec", dbus.MakeVariant(uint64(cpuPeriod))})
	}
	return out
}

// groupOf is the directory of a process's group, which must be the scope's.
func groupOf(pid int, scope string) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	h, err := findHierarchies()
	if err != nil {
		return "", err
	}
	if h.v2 == nil {
		return "", errors.New("cgroup v2 is not mounted")
	}
	return scopeDir(h.v2.mount, string(data), scope)
}

func scopeDir(mount, cgroup, scope string) (string, error) {
	for line := range strings.Lines(cgroup) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && filepath.Base(path) == scope {
			return filepath.Join(mount, filepath.Clean("/"+path)), nil
		}
	}
	return "", fmt.Errorf("the process is not in %s but in %q", scope, strings.TrimSpace(cgroup))
}

// callTime bounds each call of systemd.
const callTime = 20 * time.Second

// connection is a manager at the other end of D-Bus.
type connection struct{ conn *dbus.Conn }

// systemManager connects to the machine's systemd, at the socket that it has for root.
func systemManager() (manager, error) { return dialSystemd("/run/" + privateSocket) }

// userManager connects to the user's systemd: through the bus of the session, or at systemd's own socket where there is none.
func userManager() (manager, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	m, first := dialSystemd(filepath.Join(dir, "bus"))
	if first == nil {
		return m, nil
	}
	m, second := dialSystemd(filepath.Join(dir, privateSocket))
	if second == nil {
		return m, nil
	}
	return nil, fmt.Errorf("%w; %w", first, second)
}

// privateSocket is systemd's own. There is no bus behind it, and so no Hello to say.
const privateSocket = "systemd/private"

func dialSystemd(socket string) (*connection, error) {
	if err := checkPeer(socket); err != nil {
		return nil, err
	}
	conn, err := dbus.Dial("unix:path=" + dbus.EscapeBusAddressValue(socket))
	if err != nil {
		return nil, err
	}
	hung := time.AfterFunc(callTime, func() { conn.Close() })
	defer hung.Stop()
	err = conn.Auth(nil)
	if err == nil && !strings.HasSuffix(socket, privateSocket) {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return &connection{conn}, nil
}

// checkPeer refuses a socket of another pid namespace, such as the host's in a container: systemd would take the number of the
// run's process for that of another one. The kernel shows who listens there by a number of this namespace, or as 0 (unix(7),
// SO_PEERCRED).
func checkPeer(socket string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return fmt.Errorf("%s: SO_PEERCRED: %w", socket, err)
	}
	if peer.Pid == 0 {
		return fmt.Errorf("%s: it belongs to another pid namespace", socket)
	}
	return nil
}

const (
	systemdName = "org.freedesktop.systemd1"
	systemdPath = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerFace = "org.freedesktop.systemd1.Manager"
)

func (c *connection) group() (string, error) {
	path, err := c.controlGroup()
	if err != nil {
		return "", err
	}
	h, err := findHierarchies()
	if err != nil {
		return "", err
	}
	if h.v2 == nil {
		return "", errors.New("cgroup v2 is not mounted")
	}
	return filepath.Join(h.v2.mount, filepath.Clean("/"+path)), nil
}

func (c *connection) controlGroup() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	var v dbus.Variant
	call := c.conn.Object(systemdName, systemdPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerFace, "ControlGroup")
	if err := call.Store(&v); err != nil {
		return "", fmt.Errorf("systemd: %w", err)
	}
	path, ok := v.Value().(string)
	if !ok {
		return "", fmt.Errorf("systemd: ControlGroup is %v", v)
	}
	return path, nil
}

func (c *connection) startScope(name string, pid int, properties []property) (string, error) {
	if err := c.startUnit(name, pid, properties); err != nil {
		return "", err
	}
	return groupOf(pid, name)
}

// startUnit waits for the job, whose end systemd tells in the signal JobRemoved.
func (c *connection) startUnit(name string, pid int, properties []property) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	signals := make(chan *dbus.Signal, 64)
	c.conn.Signal(signals)
	defer c.conn.RemoveSignal(signals)
	object := c.conn.Object(systemdName, systemdPath)
	// On a bus systemd tells its subscribers only; at its own socket, which has no such calls, everybody. A call that fails
	// shows in the wait for the job.
	object.CallWithContext(ctx, managerFace+".Subscribe", 0)
	c.conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerFace), dbus.WithMatchMember("JobRemoved"))
	all := append([]property{{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})}}, properties...)
	type auxiliary struct {
		Name       string
		Properties []property
	}
	var job dbus.ObjectPath
	err := object.CallWithContext(ctx, managerFace+".StartTransientUnit", 0, name, "fail", all, []auxiliary(nil)).Store(&job)
	if err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	return awaitJob(ctx, signals, job)
}

func awaitJob(ctx context.Context, signals <-chan *dbus.Signal, job dbus.ObjectPath) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("systemd did not say how job %s ended: %w", job, ctx.Err())
		case s, ok := <-signals:
			if !ok {
				return errors.New("systemd closed the connection")
			}
			if s.Name != managerFace+".JobRemoved" || len(s.Body) != 4 || s.Body[1] != job {
				continue
			}
			if result, _ := s.Body[3].(string); result != "done" {
				return fmt.Errorf("systemd: the job ended as %q", result)
			}
			return nil
		}
	}
}

func (c *connection) close() error { return c.conn.Close() }
