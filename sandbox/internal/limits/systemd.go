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
)

// manager is the user's systemd, as far as it is needed here.
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
type scope struct{ manager manager }

// start makes the scope and returns its directory. systemd removes it after its last process.
func (s *scope) start(pid int, spec Spec) (string, error) {
	name := scopeName(spec)
	dir, err := s.manager.startScope(name, pid, scopeProperties(spec))
	if err != nil {
		return "", &UnavailableError{"systemd: scope " + name, err, fixHand}
	}
	return dir, nil
}

func scopeName(spec Spec) string { return prefix + spec.Run + ".scope" }

func (s *scope) close() error { return s.manager.close() }

// scopeProperties are the limits in systemd's words (systemd.resource-control(5)).
func scopeProperties(s Spec) []property {
	out := []property{
		{"Description", dbus.MakeVariant("agentjail run " + s.Run)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")}, // so that a failed one is not kept
	}
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
const callTime = 5 * time.Second

// userSystemd is the manager at the other end of D-Bus.
type userSystemd struct{ conn *dbus.Conn }

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

func dialSystemd(socket string) (*userSystemd, error) {
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
	return &userSystemd{conn}, nil
}

const (
	systemdName = "org.freedesktop.systemd1"
	systemdPath = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerFace = "org.freedesktop.systemd1.Manager"
)

func (u *userSystemd) group() (string, error) {
	path, err := u.controlGroup()
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

func (u *userSystemd) controlGroup() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	var v dbus.Variant
	call := u.conn.Object(systemdName, systemdPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerFace, "ControlGroup")
	if err := call.Store(&v); err != nil {
		return "", fmt.Errorf("systemd: %w", err)
	}
	path, ok := v.Value().(string)
	if !ok {
		return "", fmt.Errorf("systemd: ControlGroup is %v", v)
	}
	return path, nil
}

func (u *userSystemd) startScope(name string, pid int, properties []property) (string, error) {
	if err := u.startUnit(name, pid, properties); err != nil {
		return "", err
	}
	return groupOf(pid, name)
}

// startUnit waits for the job, whose end systemd tells in the signal JobRemoved.
func (u *userSystemd) startUnit(name string, pid int, properties []property) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	signals := make(chan *dbus.Signal, 64)
	u.conn.Signal(signals)
	defer u.conn.RemoveSignal(signals)
	object := u.conn.Object(systemdName, systemdPath)
	// On a bus systemd tells its subscribers only; at its own socket, which has no such calls, everybody. A call that fails
	// shows in the wait for the job.
	object.CallWithContext(ctx, managerFace+".Subscribe", 0)
	u.conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerFace), dbus.WithMatchMember("JobRemoved"))
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

func (u *userSystemd) close() error { return u.conn.Close() }
