// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/sandbox/internal/limits"
)

// doctorFacts is all that the judgement knows of the host.
type doctorFacts struct {
	Release     string
	UID         int               // as whom a run would run
	Program     string            // path of this program
	Container   string            // the engine, if this is a container
	FuseMode    string            // permissions of /dev/fuse; empty where it is not there
	WithoutFUSE string            // see Host
	Settings    map[string]string // sysctl(8) by name, and lsm; those that this kernel does not have are left out
	Trials      map[string]trial
}

// doctorSettings are those that decide what a sandbox can do, and those that bear on what is outside of it.
var doctorSettings = []string{
	"dev.tty.legacy_tiocsti", "kernel.apparmor_restrict_unprivileged_userns", "kernel.io_uring_disabled",
	"kernel.unprivileged_bpf_disabled", "kernel.unprivileged_userns_clone", "kernel.yama.ptrace_scope",
	"user.max_net_namespaces", "user.max_user_namespaces",
}

func gatherFacts() doctorFacts {
	f := doctorFacts{Settings: map[string]string{}, Trials: map[string]trial{}, Container: container(), Release: kernelRelease()}
	f.Program, _ = os.Executable()
	for _, name := range doctorSettings {
		if value, ok := readSetting("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); ok {
			f.Settings[name] = value
		}
	}
	if value, ok := readSetting("/sys/kernel/security/lsm"); ok {
		f.Settings["lsm"] = value
	}
	if info, err := os.Stat("/dev/fuse"); err == nil {
		f.FuseMode = fmt.Sprintf("%04o", info.Mode().Perm())
	}
	f.WithoutFUSE = withoutFUSE()
	id, _, err := callerIdentity()
	if err != nil { // the home is missing, which the log needs
		id = Identity{UID: os.Getuid(), GID: os.Getgid()}
		f.Trials[trialState] = failed(err)
	} else {
		f.Trials[trialState] = tryState(StateDir(id.Home), id)
	}
	f.UID = id.UID
	f.Trials[trialLimits] = tryLimits()
	for name, t := range tryNamespaces(id) {
		f.Trials[name] = t
	}
	return f
}

func readSetting(path string) (string, bool) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err == nil
}

// who is the user as whom a run would run.
func (f doctorFacts) who() string {
	if f.UID == 0 {
		return "root"
	}
	return fmt.Sprintf("uid %d", f.UID)
}

// host are the settings for the report.
func (f doctorFacts) host() map[string]string {
	h := map[string]string{"release": f.Release}
	if f.Container != "" {
		h["container"] = f.Container
	}
	for name, value := range f.Settings {
		h[name] = value
	}
	return h
}

// container names the engine whose container this is, as they show themselves (systemd's container interface, Docker, Podman).
func container() string {
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return "kubernetes"
	}
	for path, engine := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman"} {
		if _, err := os.Stat(path); err == nil {
			return engine
		}
	}
	if name, ok := readSetting("/run/systemd/container"); ok {
		return name
	}
	return os.Getenv("container")
}

// failed is the outcome of an attempt that ended with an error.
func failed(err error) trial {
	if err == nil {
		return trial{}
	}
	t := trial{Error: err.Error()}
	errors.As(err, &t.Errno)
	var known interface{ Fix() string }
	if errors.As(err, &known) {
		t.Fix = known.Fix()
	}
	return t
}

// tryLimits makes a group that limits nothing, and removes it.
func tryLimits() trial {
	group, err := limits.Create(limits.Spec{Memory: 1 << 40, Pids: 1 << 15, CPUs: 0.01, Run: ulid.Make().String()})
	if err != nil {
		return failed(err)
	}
	t := failed(group.Close())
	t.Text = group.Mechanism()
	return t
}

// tryState looks whether the state directory, or the nearest one above it that is there, may be written by the user. Root
// asks for another user only after sudo; the kernel is asked for this process alone then, which sees more.
func tryState(dir string, id Identity) trial {
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && path != "/":
			continue
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s: %w", path, unix.ENOTDIR)
		case err == nil && path == dir && checkOwner(dir, info, id.UID) != nil:
			err = checkOwner(dir, info, id.UID)
		case err == nil && id.UID == os.Getuid():
			if err = unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		case err == nil:
			err = writableBy(path, info, id)
		}
		t := failed(err)
		t.Text = dir
		return t
	}
}

func writableBy(path string, info os.FileInfo, id Identity) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	if !ok || int(st.Uid) == id.UID && mode&0o300 == 0o300 || int(st.Gid) == id.GID && mode&0o030 == 0o030 || mode&0o003 == 0o003 {
		return nil
	}
	return fmt.Errorf("%s: %w", path, unix.EACCES)
}
