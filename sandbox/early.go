// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/prefault"
	"github.com/agentjail/agentjail/sandbox/internal/wire"
)

// SupervisorArg is the word that starts the program as a run's supervisor.
const SupervisorArg = "agentjail-supervisor"

// Early is the supervisor of a run, started while the plan is made: the one takes as long as the other. It waits for what it is to
// build, and ends with this process.
type Early struct {
	id      Identity
	stdio   [3]*os.File
	conn    *wire.Conn
	process *exec.Cmd
	started chan error // tells whether the process was started
	exited  chan error // tells how it ended
	taken   bool       // by a run, which ends it
}

// StartEarly starts a supervisor for a run on this host with these standard files. It is for Options.Early, and Close is for the case
// that no run comes of it. It returns nil where a supervisor cannot be started before the plan is made: by root, who may become
// another user first. What keeps one from starting is for Start to tell.
func StartEarly(host Host, stdin, stdout, stderr *os.File) *Early {
	if os.Getuid() == 0 {
		return nil
	}
	e, err := startSupervisor(host.Identity, [3]*os.File{stdin, stdout, stderr}, false, false)
	if err != nil {
		return nil
	}
	return e
}

// fits tells whether this is the supervisor that a plan needs. The variables that name proxies and authorities are no part of an early
// one's environment.
func (e *Early) fits(plan Plan, stdio [3]*os.File) bool {
	return e != nil && !e.taken && e.stdio == stdio && plan.Proxies == "" && !plan.inspects() &&
		e.id.UID == plan.Identity.UID && e.id.GID == plan.Identity.GID
}

// Close ends a supervisor that no run has taken, and waits for its end.
func (e *Early) Close() {
	if e == nil || e.taken {
		return
	}
	e.taken = true
	e.end()
}

// end ends the supervisor, and waits for its end. One that somebody has stopped before it became agentjail's is not started before it goes
// on: it ends then, or with this process.
func (e *Early) end() {
	e.conn.Close()
	if <-e.started == nil {
		e.process.Process.Kill()
		<-e.exited
	}
}

// startSupervisor starts a supervisor as root of a user namespace of its own, in which only the caller's ids exist. It does not wait
// until that is done.
func startSupervisor(id Identity, stdio [3]*os.File, proxied, inspects bool) (*Early, error) {
	prefault.Heap()
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"agentjail", SupervisorArg}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdio[0], stdio[1], stdio[2]
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = supervisorEnv(proxied, inspects)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.UID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id.GID, Size: 1}},
		Pdeathsig:   unix.SIGKILL, Setsid: true,
	}
	e := &Early{id: id, stdio: stdio, conn: conn, process: cmd, started: make(chan error, 1), exited: make(chan error, 1)}
	go func() {
		// The death signal comes when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG): this one stays.
		runtime.LockOSThread()
		forkUnstopped()
		err := cmd.Start()
		theirs.Close()
		e.started <- err
		if err == nil {
			e.exited <- cmd.Wait()
		}
	}()
	return e, nil
}

// forkUnstopped has package os make its first fork, by which it learns what the kernel can (checkClonePidfd in os/pidfd_linux.go), on a
// locked thread and without SIGTSTP. The child of a CLONE_VFORK has its parent wait, which could not stop with it (clone(2)): the job
// would neither go on nor be stopped. The fork of the supervisor is none, for its user namespace.
func forkUnstopped() {
	var stop, before unix.Sigset_t
	stop.Val[0] = 1 << (unix.SIGTSTP - 1)
	unix.PthreadSigmask(unix.SIG_BLOCK, &stop, &before)
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		p.Release()
	}
}

// supervisorEnv is what of the caller's environment the supervisor needs: to resolve names as the host does, to trace, and where
// the gateway uses proxies, to find them: their passwords are in no plan; and the caller's authorities, where it speaks TLS. For the Go
// runtime it has more places than this process: see startPlaces.
func supervisorEnv(proxied, inspects bool) []string {
	env := []string{"GOMAXPROCS=" + strconv.Itoa(runtime.GOMAXPROCS(0)+startPlaces)}
	names := []string{"AGENTJAIL_TRACE", "LOCALDOMAIN", "RES_OPTIONS"}
	if proxied {
		env = append(env, profiles.ProxyVariables(os.Environ())...)
	}
	if proxied || inspects {
		names = append(names, "SSL_CERT_FILE", "SSL_CERT_DIR") // of a proxy or server that speaks TLS
	}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
