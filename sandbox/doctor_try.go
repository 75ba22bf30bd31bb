// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/netns"
	"github.com/agentjail/agentjail/sandbox/internal/rootfs"
)

// DoctorArg is the word that starts the program as one of the doctor's processes; see DoctorChild.
const DoctorArg = "agentjail-doctor"

// The doctor's processes follow those of a run, so that what works for them works there. Each tries what its counterpart
// does and writes the outcomes to file 3, one JSON object a line; the first one reads them.
//
//	caller ─ user (under sudo: becomes the caller of sudo) ─ supervisor (user and mount namespace: mounts, FUSE, network)
//	       ─ init (all other namespaces, /proc) ─ command (nested user namespace: filter, Landlock)
//	       ─ what a command may start in namespaces of its own
const (
	roleUser       = "user"
	roleSupervisor = "supervisor"
	roleInit       = "init"
	roleCommand    = "command"
	roleNested     = "nested" // which is there, and that is all
)

const (
	outcomeFD   = 3
	nodeFD      = 4           // of the supervisor under sudo, where it needs one: see invoker
	doctorTime  = time.Minute // for all of them; a second where nothing hangs
	maxOutcomes = 100
)

// outcome is a line of file 3.
type outcome struct {
	Name  string `json:"name"`
	Trial trial  `json:"trial"`
}

// tryNamespaces starts the processes and collects what they found.
func tryNamespaces(id Identity) map[string]trial {
	trials := map[string]trial{}
	r, w, err := os.Pipe()
	if err != nil {
		trials[trialUser] = failed(err)
		return trials
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), doctorTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })
	defer stop()
	done := make(chan error, 1)
	go func() {
		defer w.Close()
		if forInvoker(id) {
			done <- startTrial(ctx, []*os.File{w}, roleUser, id, &syscall.SysProcAttr{})
			return
		}
		trySupervisor(ctx, w, id, nil)
		done <- nil
	}()
	lines := bufio.NewScanner(r)
	for n := 0; n < maxOutcomes && lines.Scan(); n++ {
		var o outcome
		if json.Unmarshal(lines.Bytes(), &o) == nil {
			trials[o.Name] = o.Trial
		}
	}
	err = <-done
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer in %v: something hangs, or the machine is too busy; try again", doctorTime)
	}
	if _, told := trials[trialUser]; !told && err != nil {
		trials[trialUser] = failed(err)
	}
	return trials
}

// startTrial runs one of the doctor's processes to its end. The first of its files is the one for outcomes.
func startTrial(ctx context.Context, files []*os.File, role string, id Identity, attr *syscall.SysProcAttr) error {
	// The death signal comes when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"agentjail", DoctorArg, role, strconv.Itoa(id.UID), strconv.Itoa(id.GID), strconv.Itoa(len(files))}
	cmd.Env = []string{}
	cmd.ExtraFiles = files
	attr.Pdeathsig = unix.SIGKILL
	cmd.SysProcAttr = attr
	return cmd.Run()
}

func tell(w *os.File, name string, t trial) {
	data, err := json.Marshal(outcome{name, t})
	if err == nil {
		w.Write(append(data, '\n'))
	}
}

// DoctorChild is the main function of the doctor's processes. It does not return.
func DoctorChild() {
	w := os.NewFile(outcomeFD, "outcomes")
	var st unix.Stat_t
	if len(os.Args) != 6 || unix.Fstat(outcomeFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		fmt.Fprintln(os.Stderr, "agentjail: this word is for agentjail's own use")
		os.Exit(CodeNotStarted)
	}
	unix.CloseOnExec(outcomeFD)
	ctx := context.Background()
	var id Identity
	_, err1 := fmt.Sscan(os.Args[3], &id.UID)
	_, err2 := fmt.Sscan(os.Args[4], &id.GID)
	if errors.Join(err1, err2) != nil {
		os.Exit(CodeNotStarted)
	}
	switch os.Args[2] {
	case roleUser:
		asUser(ctx, w, id)
	case roleSupervisor:
		var node *os.File
		if os.Args[5] == "2" {
			node = os.NewFile(nodeFD, "fuse node")
		}
		asSupervisor(ctx, w, id, node)
	case roleInit:
		asInit(ctx, w, id)
	case roleCommand:
		asCommand(ctx, w, id)
	}
	os.Exit(0)
}

// asUser becomes the user who called sudo, as Start does.
func asUser(ctx context.Context, w *os.File, id Identity) {
	i, err := becomeInvoker(id)
	if err != nil {
		tell(w, trialUser, failed(err))
		return
	}
	// A change of ids clears the death signal (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		os.Exit(CodeNotStarted)
	}
	trySupervisor(ctx, w, id, i.files())
	if i.closed != nil {
		tell(w, trialFuse, failed(i.closed))
	}
}

// trySupervisor makes the first user namespace, as Start does.
func trySupervisor(ctx context.Context, w *os.File, id Identity, files []*os.File) {
	err := startTrial(ctx, append([]*os.File{w}, files...), roleSupervisor, id, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.UID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.GID, Size: 1}},
	})
	tell(w, trialUser, failed(err))
}

func asSupervisor(ctx context.Context, w *os.File, id Identity, node *os.File) {
	dir, err := tryMounts()
	tell(w, trialMounts, failed(err))
	if err == nil {
		dev, err := rootfs.MountFUSE(dir, node)
		if err == nil {
			dev.Close()
		}
		t := failed(err)
		if node != nil {
			t.Text = fmt.Sprintf("/dev/fuse is closed to uid %d; under sudo, a run opens it by a device node of its own", id.UID)
		}
		tell(w, trialFuse, t)
	}
	tell(w, trialNetwork, tryNetwork())
	err = startTrial(ctx, []*os.File{w}, roleInit, id, &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
			unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	})
	tell(w, trialSpaces, failed(err))
	tell(w, trialBound, failed(limitNamespaces(nil))) // last: from now on this process can make none
}

// tryMounts mounts a tmpfs where there is a directory, and binds a part of it that cannot be written. It returns a directory
// to mount on.
func tryMounts() (string, error) {
	if err := rootfs.Private(); err != nil {
		return "", err
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev"} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		if err := rootfs.Scratch(dir, "fuse", "bind"); err != nil {
			return "", err
		}
		bind := filepath.Join(dir, "bind")
		if err := unix.Mount(dir, bind, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("bind mount: %w", err)
		}
		if err := rootfs.ReadOnly(bind); err != nil {
			return "", err
		}
		err := os.Mkdir(filepath.Join(bind, "written"), 0o700)
		if !errors.Is(err, unix.EROFS) {
			return "", fmt.Errorf("a read-only mount was written to: %v", err)
		}
		return filepath.Join(dir, "fuse"), nil
	}
	return "", errors.New("there is no directory to mount on")
}

// tryNetwork makes a run's network namespace. The value tells whether it has IPv6, the text by what it is captured, the fix how that would
// be better, and the lines what that misses.
func tryNetwork() trial {
	ns, err := netns.New()
	if err != nil {
		return failed(err)
	}
	defer ns.Close()
	if err := ns.Capture(&netns.Watch{Refused: func(netns.Refusal) {}}, nil); err != nil {
		return failed(err)
	}
	t := trial{Text: ns.Mechanism().String()}
	if ns.IPv6() {
		t.Value = 1
	}
	if why := ns.Fallback(); why != nil {
		t.Fix, t.Lines = failed(why).Fix, append([]string{why.Error()}, ns.Weaker()...)
	}
	return t
}

func asInit(ctx context.Context, w *os.File, id Identity) {
	// Without a /proc of its pid namespace the next process cannot be mapped.
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		err = fmt.Errorf("mount proc: %w", err)
	}
	tell(w, trialProc, failed(err))
	if err != nil {
		return
	}
	err = startTrial(ctx, []*os.File{w}, roleCommand, id, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: id.UID, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: id.GID, HostID: 0, Size: 1}},
	})
	tell(w, trialIdentity, failed(err))
}

func asCommand(ctx context.Context, w *os.File, id Identity) {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	if id.UID != 0 { // for root it takes CAP_SETFCAP, which a command lacks (user_namespaces(7))
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.UID, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.GID, Size: 1}}
	}
	tell(w, trialNested, failed(startTrial(ctx, []*os.File{w}, roleNested, id, attr)))
	runtime.LockOSThread() // the filter is this thread's
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	t := trial{Value: int(abi)}
	if errno != 0 {
		t = failed(fmt.Errorf("landlock_create_ruleset: %w", errno))
	}
	tell(w, trialLandlock, t)
	// An absent program makes the kernel say EFAULT for flags that it knows and EINVAL for others.
	_, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0)
	if errno == unix.EFAULT {
		errno = 0
	}
	tell(w, trialKillable, failed(asError(errno)))
	listener, err := listen()
	tell(w, trialFilter, failed(err))
	if err == nil {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
		tell(w, trialSync, failed(asError(errno)))
	}
}

func asError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// listen loads a filter that allows everything, with a listener.
func listen() (uintptr, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	code := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w", errno)
	}
	return fd, nil
}

// NetworkCoverage says what the run of a plan would see less of than by the best way to capture its network, with the reason. It tries that
// as the doctor does, which a run does when it starts.
func NetworkCoverage(plan Plan) []string {
	t := tryNamespaces(plan.Identity)[trialNetwork]
	if t.Error != "" {
		return []string{"network: a run does not start: " + t.Error}
	}
	if len(t.Lines) == 0 {
		return nil
	}
	return append(t.Lines[1:], "network: nftables TPROXY cannot be used: "+t.Lines[0])
}
