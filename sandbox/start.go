// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/netns"
	"github.com/agentjail/agentjail/sandbox/internal/posture"
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
	"github.com/agentjail/agentjail/sandbox/internal/stage"
)

// hiddenNode is the name of what is mounted over a hidden path.
func hiddenNode(plan Plan, m Mount, number int) string {
	switch {
	case !plan.plain():
		return fmt.Sprint(number)
	case m.Dir:
		return rootfs.HiddenDir
	default:
		return rootfs.HiddenFile
	}
}

// treeEntries turns the mounts of a plan into those of package rootfs. Hidden nodes are numbered in the order of the plan,
// as denyfsConfig numbers them.
func treeEntries(plan Plan, hidden string) []rootfs.Entry {
	kinds := map[Kind]rootfs.Kind{Bind: rootfs.Bind, Socket: rootfs.Bind, Device: rootfs.Device, File: rootfs.File, Tmpfs: rootfs.Tmpfs, Pts: rootfs.Pts, Hidden: rootfs.Node}
	entries := make([]rootfs.Entry, 0, len(plan.Mounts))
	nodes := 0
	for _, m := range plan.Mounts {
		if m.Kind == Cgroup {
			continue // see place
		}
		e := rootfs.Entry{
			Kind: kinds[m.Kind], Target: m.Target, Source: m.Source, Dir: m.Dir, Writable: m.Writable, Content: m.Content, Mode: m.Mode,
		}
		if m.Target == "/dev" {
			e.Links = devLinks
		}
		switch {
		case plan.isPassage(m):
			e.Kind, e.Mode = rootfs.Tmpfs, 0o755
		case m.Kind == Hidden:
			e.Source = filepath.Join(hidden, hiddenNode(plan, m, nodes))
			nodes++
		}
		switch m.Kind {
		case Bind, Socket, File:
			e.Make = plan.isMade(m.Target)
		}
		entries = append(entries, e)
	}
	if plan.plain() {
		entries = inOrder(append(entries, plainEntries(plan)...))
	}
	return entries
}

// The files that the stage finds: its connection, and the program itself, which is not part of the run's tree.
const stageProgram = "/proc/self/fd/4"

// stageEnv is the environment of the stage, not of the command. libcontainer looks the program up along PATH. One thread at a
// time, and no collection before there is something to collect, are enough for what works for a moment and then waits.
var stageEnv = []string{"PATH=/", "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=8MiB"}

// createJail has libcontainer look at what it will build, as soon as there is a network namespace. That does not need a finished
// tree.
func (s *supervisor) createJail(network func() (*netns.Namespace, error)) (*libcontainer.Container, error) {
	var err error
	if s.network, err = network(); err != nil {
		return nil, setupError("network namespace", err)
	}
	config := jailConfig(s.order.ID, s.root, s.network.Path(), masked(s.order.Plan))
	jail, err := libcontainer.Create(filepath.Join(s.order.Dir, "mnt", "state"), s.order.ID, config)
	// Create refuses a cgroup manager that may not touch devices less than Start does: see opencontainers/cgroups.
	config.Cgroups.Resources.SkipDevices = false
	return jail, setupErrorOrNil("namespaces", err)
}

// startJail has libcontainer make the namespaces and start the stage in them.
func (s *supervisor) startJail(jail *libcontainer.Container) error {
	s.jail = jail
	ours, theirs, err := unixPair()
	if err != nil {
		return setupError("stage", err)
	}
	defer theirs.Close()
	if s.stage, err = stage.NewParent(ours); err != nil {
		return setupError("stage", err)
	}
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return setupError("stage", err)
	}
	defer program.Close()
	s.process = &libcontainer.Process{
		Args: []string{stageProgram, stage.Arg}, Env: stageEnv, Cwd: "/", UID: 0, GID: 0, Init: true,
		Stdin: s.stdio[0], Stdout: s.stdio[1], Stderr: s.stdio[2], ExtraFiles: []*os.File{theirs, program}, LogLevel: "4",
	}
	os.Setenv("GOMAXPROCS", "1") // libcontainer hands it down to its init, which has as little to do as the stage
	if err := withSlack(func() error { return jail.Start(s.process) }); err != nil {
		// It has ended what it started, and panics when asked to signal a process that it could not start.
		s.jail = nil
		return setupError("namespaces", err)
	}
	if err := jail.Exec(); err != nil {
		return setupError("namespaces", err)
	}
	trace("supervisor: namespaces")
	return nil
}

// place has the launcher put the run's first process, and so all that it starts, into the run's cgroup, and shows it there: the
// tree is finished by then, but where systemd makes the cgroup there is none without a process. The stage has its threads by
// then: without room for them it would end with a dump of the Go runtime.
func (s *supervisor) place() error {
	if s.order.Group.Name == "" {
		return nil
	}
	pid, err := s.process.Pid()
	if err != nil {
		return setupError("limits", err)
	}
	if err := s.stage.Awake(); err != nil {
		return setupError("stage", err)
	}
	if err := enoughPids(s.order.Plan.Limits.Pids, pid); err != nil {
		return err
	}
	if err := s.conn.Send(msgPlace, pid); err != nil {
		return err
	}
	var answer placed
	if err := s.receive(msgPlaced, &answer); err != nil {
		return err
	}
	if answer.Refused != "" {
		return setupError("limits", errors.New(answer.Refused))
	}
	var entries []rootfs.Entry
	for _, v := range answer.Views {
		entries = append(entries, rootfs.Entry{Kind: rootfs.Bind, Source: v.Source, Target: v.Target, Dir: true})
	}
	return setupErrorOrNil("mounts", rootfs.BindInto(pid, entries))
}

// enoughPids refuses a limit that leaves no room for the command beside pid 1, whose threads count, too. The Go runtime has one
// more of them in some runs than in others, and a command mostly starts others: the fix names a number that is enough always.
func enoughPids(limit int64, pid int) error {
	if limit == 0 {
		return nil
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return setupError("limits", err)
	}
	if own := int64(len(threads)); limit <= own {
		return &SetupError{
			Layer: "limits", Fix: fmt.Sprintf("--pids %d leaves room for one and what it starts", 2*own),
			Err: fmt.Errorf("%d processes and threads are too few to start a command: %d are the run's own", limit, own),
		}
	}
	return nil
}

// prepare tells the stage what to run, and gets the listener of its filter.
func (s *supervisor) prepare() (stage.Ready, error) {
	plan := s.order.Plan
	again, err := s.protected()
	if err != nil {
		return stage.Ready{}, err
	}
	spec := stage.Spec{
		Argv: plan.Command, Env: plan.Env, Dir: plan.Workdir, UID: plan.Identity.UID, GID: plan.Identity.GID, Umask: plan.Umask,
		Slack: s.order.Slack, Terminal: s.order.TTYs != [3]bool{}, Foreground: s.order.Keys, Landlock: stage.Landlock{Write: writablePlaces(plan)},
		Again: again,
	}
	for _, in := range s.program {
		spec.Filter = append(spec.Filter, stage.SockFilter(in))
	}
	ready, err := s.stage.Prepare(spec)
	return ready, setupErrorOrNil("filters", err)
}

// firstToEnd has the kernel end processes of the command, and not the run's first process with all of them, when the limit of memory
// is hit: it takes the largest (mm/oom_kill.c, oom_badness), and many small ones reach a limit too. A process may raise its own
// score, and that of its children (proc_pid_oom_score_adj(5)).
func firstToEnd(pid int, limit int64) error {
	if limit == 0 {
		return nil
	}
	path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return setupError("limits", err)
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return setupError("limits", err)
	}
	return setupErrorOrNil("limits", os.WriteFile(path, []byte(strconv.Itoa(oomScore(before, limit))), 0))
}

// stageMemory is more than the kernel counts for the stage: the pages of the program's file among them.
const stageMemory = 32 << 20

// oomScore raises a score of 1000ths of a limit by what the stage takes of it.
func oomScore(before int, limit int64) int {
	return int(min(1000, int64(before)+(1000*stageMemory+limit-1)/limit))
}

// writablePlaces are the paths inside where Landlock lets the command write; the mounts say the same.
func writablePlaces(plan Plan) []string {
	places := []string{plan.Identity.Home, "/dev", "/proc"}
	for _, m := range plan.Mounts {
		if m.Writable {
			places = append(places, m.Target)
		}
	}
	return places
}

// writes tells whether what the host has at a path lies in a place where the command may write.
func (p Plan) writes(path string) bool {
	return within(p.Home.Private, path) || slices.ContainsFunc(p.Mounts, func(m Mount) bool {
		return m.Writable && m.Kind == Bind && within(m.Source, path)
	})
}

// protects tells whether what the host has at a path is hidden or read-only in a place that the command may write.
func (p Plan) protects(path string) bool {
	inner := p.innermost(path)
	return inner != nil && (inner.Kind == Hidden || inner.Kind == Bind && !inner.Writable) && p.writes(path)
}

// innermost is the mount that shows a path: nil where the run's root serves it.
func (p Plan) innermost(path string) (inner *Mount) {
	for i := range p.Mounts {
		if m := &p.Mounts[i]; within(m.Target, path) && (inner == nil || len(m.Target) > len(inner.Target)) {
			inner = m
		}
	}
	return inner
}

// posture reads back what the command's process is, and says where it differs from the plan.
func (s *supervisor) posture(ready stage.Ready, wanted func() (posture.Want, error)) (readyReport, error) {
	got, err := posture.Read(ready.HostPID)
	if err != nil {
		return readyReport{}, err
	}
	want, err := wanted()
	if err != nil {
		return readyReport{}, err
	}
	first, err := s.process.Pid()
	if err != nil {
		return readyReport{}, err
	}
	report := readyReport{
		PID: ready.HostPID, Init: first, Posture: got.Detail(), Differences: posture.Compare(want, got), Coverage: append(s.network.Coverage(), s.gateway.Coverage()...),
	}
	s.command, s.want = ready.HostPID, want
	s.want.Running, s.want.Before = true, got.Mounts
	report.Posture["landlock_abi"] = ready.LandlockABI
	report.Posture["wait_killable"] = ready.WaitKillable
	return report, nil
}

// wanted is what the command's process must be, as this process sees it: it has the caller's ids, which are 0 here, every
// namespace of the run, none of the host, no capability, one filter more than this process, and the mounts of the plan.
func (s *supervisor) wanted() (posture.Want, error) {
	own, err := posture.Self()
	if err != nil {
		return posture.Want{}, err
	}
	// libcontainer's State has the number, too, and clones the mount of procfs twice to read what else it tells.
	first, err := s.process.Pid()
	if err != nil {
		return posture.Want{}, err
	}
	run, err := posture.Namespaces(first)
	if err != nil {
		return posture.Want{}, err
	}
	delete(run, "user") // the command's own, as is its cgroup namespace: see stage
	delete(run, "cgroup")
	me := own.Threads[0]
	for _, kind := range []string{"time", "time_for_children"} {
		delete(me.Namespaces, kind) // clocks are not hidden: a run has the host's time namespace
	}
	plan := s.order.Plan
	return posture.Want{
		Groups:  me.Groups,
		UIDMap:  []posture.IDRange{{Inside: uint32(plan.Identity.UID), Size: 1}},
		GIDMap:  []posture.IDRange{{Inside: uint32(plan.Identity.GID), Size: 1}},
		Filters: me.Filters + 1, Umask: plan.Umask, Limits: wantedLimits(own.Limits),
		Host: me.Namespaces, Run: run, Open: []int{0, 1, 2, 3}, Dir: plan.Workdir,
		Mounts: wantedMounts(plan, os.Lstat), Cgroups: own.Cgroups, Group: s.order.Group,
	}, nil
}

func unixPair() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "stage"), os.NewFile(uintptr(fds[1]), "stage"), nil
}

// meanwhile calls f beside what follows. What it returns waits for the result.
func meanwhile[T any](f func() (T, error)) func() (T, error) {
	var result T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = f()
	}()
	return func() (T, error) {
		<-done
		return result, err
	}
}

func setupErrorOrNil(layer string, err error) error {
	if err == nil {
		return nil
	}
	return setupError(layer, err)
}
