// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be each process of a run and of the doctor, as the program is.
func TestMain(m *testing.M) {
	Main(nil)
	os.Exit(m.Run())
}

// goodHost is one on which everything works.
func goodHost() doctorFacts {
	return doctorFacts{
		Release: "6.8.0-45-generic", UID: 1000, Program: "/usr/local/bin/agentjail", FuseMode: "0666",
		Settings: map[string]string{"user.max_user_namespaces": "63000", "lsm": "lockdown,yama,apparmor"},
		Trials: map[string]trial{
			trialUser: {}, trialMounts: {}, trialFuse: {}, trialNetwork: {Value: 1, Text: "nftables TPROXY"}, trialSpaces: {}, trialProc: {}, trialIdentity: {}, trialBound: {}, trialNested: {},
			trialFilter: {}, trialKillable: {}, trialSync: {}, trialLandlock: {Value: 6}, trialLimits: {Text: "cgroup v2"},
			trialState: {Text: "/home/u/.local/state/agentjail"},
		},
	}
}

// with changes a host. A change of trials to nil takes them away.
func (f doctorFacts) with(change func(*doctorFacts)) doctorFacts {
	f.Settings, f.Trials = maps.Clone(f.Settings), maps.Clone(f.Trials)
	change(&f)
	return f
}

func no(errno syscall.Errno, what string) trial {
	return trial{Error: fmt.Sprintf("%s: %v", what, errno), Errno: errno}
}

// without takes away all that is tried after the user namespace.
func (f *doctorFacts) without(names ...string) {
	for _, name := range names {
		delete(f.Trials, name)
	}
}

var inside = []string{
	trialMounts, trialFuse, trialNetwork, trialSpaces, trialProc, trialIdentity, trialBound, trialNested, trialFilter, trialKillable, trialSync,
	trialLandlock,
}

// doctorHosts are hosts as users meet them.
var doctorHosts = map[string]doctorFacts{
	"good": goodHost(),
	"ubuntu-apparmor": goodHost().with(func(f *doctorFacts) {
		f.Settings["kernel.apparmor_restrict_unprivileged_userns"] = "1"
		f.without(inside...)
		f.Trials[trialMounts] = no(unix.EACCES, "make private /")
		f.Trials[trialNetwork] = no(unix.EPERM, "network namespace: unshare")
		f.Trials[trialSpaces] = no(unix.EPERM, "fork/exec /proc/self/exe")
	}),
	"docker": goodHost().with(func(f *doctorFacts) {
		f.Container, f.UID, f.FuseMode = "docker", 0, ""
		f.without(inside...)
		f.Trials[trialUser] = no(unix.EPERM, "fork/exec /proc/self/exe")
		f.Trials[trialLimits] = trial{Error: "cgroup v2: mkdir: read-only file system", Errno: unix.EROFS, Fix: "put the limits on the container"}
	}),
	"docker-masked": goodHost().with(func(f *doctorFacts) {
		f.Container, f.UID, f.FuseMode = "docker", 0, ""
		f.without(trialIdentity, trialNested, trialFilter, trialKillable, trialSync, trialLandlock)
		f.Trials[trialFuse] = no(unix.ENOENT, "open /dev/fuse")
		f.WithoutFUSE = "open /dev/fuse: no such file or directory"
		f.Trials[trialProc] = no(unix.EPERM, "mount proc")
	}),
	"kubernetes": goodHost().with(func(f *doctorFacts) {
		f.Container, f.UID, f.FuseMode = "kubernetes", 1000, ""
		f.without(trialIdentity, trialNested, trialFilter, trialKillable, trialSync, trialLandlock)
		f.Trials[trialFuse] = no(unix.ENOENT, "open /dev/fuse")
		f.WithoutFUSE = "open /dev/fuse: no such file or directory"
		f.Trials[trialProc] = no(unix.EPERM, "mount proc")
	}),
	"debian-11": goodHost().with(func(f *doctorFacts) {
		f.Release = "5.10.0-30-amd64"
		f.Settings["kernel.unprivileged_userns_clone"] = "0"
		f.without(inside...)
		f.Trials[trialUser] = no(unix.EPERM, "fork/exec /proc/self/exe")
	}),
	"no-nft": goodHost().with(func(f *doctorFacts) {
		f.Trials[trialNetwork] = trial{Error: "nftables tproxy: no such file or directory", Errno: unix.ENOENT, Fix: "modprobe nft_tproxy"}
		f.Trials[trialFuse] = no(unix.EACCES, "open /dev/fuse")
		f.WithoutFUSE = "open /dev/fuse: permission denied"
		f.FuseMode = "0600"
		f.Trials[trialLimits] = trial{Error: "the bus is gone\nand so is systemd", Fix: "one line\nand another"}
		f.Trials[trialState] = trial{Error: "/srv: permission denied", Errno: unix.EACCES, Text: "/srv/agentjail"}
	}),
	"no-tproxy": goodHost().with(func(f *doctorFacts) {
		f.Trials[trialNetwork] = trial{
			Value: 1, Text: "nftables REDIRECT", Fix: "modprobe nft_tproxy",
			Lines: []string{"nftables tproxy: no such file or directory", "network: captured by nftables REDIRECT"},
		}
	}),
	"no-more-namespaces": goodHost().with(func(f *doctorFacts) {
		f.Trials[trialBound] = no(unix.EROFS, "the limit of ipc namespaces: open /proc/sys/user/max_ipc_namespaces")
		f.Trials[trialNested] = no(unix.EUSERS, "fork/exec /proc/self/exe")
	}),
	"sudo-closed": goodHost().with(func(f *doctorFacts) {
		f.FuseMode = "0600"
		f.Trials[trialFuse] = failed(&closedError{1000, unix.EACCES, unix.EPERM})
	}),
	"newer": goodHost().with(func(f *doctorFacts) { f.Release = "8.1.0-rc2" }),
	"old-but-works": goodHost().with(func(f *doctorFacts) {
		f.Release, f.UID = "5.15.0-generic", 0
		f.Trials[trialNetwork] = trial{Text: "nftables TPROXY"}
		f.Trials[trialKillable] = no(unix.EINVAL, "seccomp")
		f.Trials[trialSync] = no(unix.EINVAL, "ioctl")
		f.Trials[trialLandlock] = trial{Value: 1}
		f.without(trialLimits)
	}),
}

func TestDoctorOnHosts(t *testing.T) {
	for name, facts := range doctorHosts {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			report := judge(facts)
			if err := report.Write(&got); err != nil {
				t.Fatal(err)
			}
			wantGolden(t, "doctor-"+name, got.String())
			for _, c := range report.Checks {
				if (c.Status == DoctorMissing) != (c.Status != DoctorWeaker && (c.Fix != "" || c.Detail == notTried)) {
					t.Errorf("%s is %s with fix %q", c.Layer, c.Status, c.Fix)
				}
			}
		})
	}
}

// A run is refused for each layer that cannot be built, and for nothing else.
func TestDoctorNeedsEveryLayer(t *testing.T) {
	if !judge(goodHost()).Works {
		t.Fatal("a good host does not work")
	}
	optional := map[string]bool{trialNested: true, trialKillable: true, trialSync: true, trialLimits: true}
	for name := range goodHost().Trials {
		for _, errno := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EINVAL, unix.ENOSPC, unix.EUSERS, unix.ENOENT, unix.EBUSY, unix.EOPNOTSUPP} {
			for _, container := range []string{"", "docker", "kubernetes", "lxc"} {
				r := judge(goodHost().with(func(f *doctorFacts) { f.Trials[name], f.Container = no(errno, "it"), container }))
				if r.Works != optional[name] {
					t.Errorf("%s fails with %v: works %v", name, errno, r.Works)
				}
				for _, c := range r.Checks {
					if c.Status == DoctorMissing && (c.Fix == "" || c.Detail == "") {
						t.Errorf("%s fails with %v in %q: no fix or detail: %+v", name, errno, container, c)
					}
				}
			}
		}
		if r := judge(goodHost().with(func(f *doctorFacts) { f.without(name) })); r.Works != optional[name] {
			t.Errorf("%s was not tried: works %v", name, r.Works)
		} else if text := written(t, r); strings.Contains(text, "agentjail run works here") != r.Works {
			t.Errorf("%s was not tried: %s", name, text)
		}
	}
}

func written(t *testing.T, r DoctorReport) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDoctorKernelVersions(t *testing.T) {
	for release, want := range map[string]DoctorStatus{
		"6.18.44": DoctorOK, "6.6.0": DoctorOK, "7.0-rc1": DoctorOK, "6.5.13": DoctorWeaker, "5.19": DoctorWeaker, "5.13.1": DoctorWeaker,
		"5.12.0": DoctorMissing, "4.19.0": DoctorMissing, "": DoctorWeaker, "rubbish": DoctorWeaker,
	} {
		if got := checkKernel(doctorFacts{Release: release}); got.Status != want {
			t.Errorf("%q is %s, want %s", release, got.Status, want)
		}
	}
}

func TestDoctorFixes(t *testing.T) {
	good := goodHost()
	apparmor := good.with(func(f *doctorFacts) { f.Settings["kernel.apparmor_restrict_unprivileged_userns"] = "1" })
	for name, c := range map[string]struct{ got, want string }{
		"no namespaces left":        {fixUser(good, trial{Errno: unix.ENOSPC}), "user.max_user_namespaces"},
		"AppArmor names the binary": {fixPrivilege(apparmor, trial{Errno: unix.EPERM}), "/usr/local/bin/agentjail flags=(unconfined) { userns, }"},
		"AppArmor and root":         {fixPrivilege(apparmor.with(func(f *doctorFacts) { f.UID = 0 }), trial{Errno: unix.EPERM}), fixOutside},
		"no /proc":                  {fixUser(good, trial{Errno: unix.ENOENT}), "mount -t proc"},
		"not configured":            {fixUser(good, trial{Errno: unix.EINVAL}), "CONFIG_USER_NS"},
		"the package knows":         {fixPrivilege(good, trial{Errno: unix.ENOENT, Fix: "modprobe x"}), "modprobe x"},
		"fuse module":               {fixFuse(good, trial{Errno: unix.ENODEV}), "modprobe fuse"},
		"fuse permission":           {fixFuse(good.with(func(f *doctorFacts) { f.FuseMode = "0600" }), trial{Errno: unix.EACCES}), "chmod 0666"},
		"fuse permission of root":   {fixFuse(good, failed(&closedError{1000, unix.EACCES, unix.EPERM})), "CAP_MKNOD"},
		"fuse permission of all":    {fixFuse(good.with(func(f *doctorFacts) { f.FuseMode = "0600" }), trial{Errno: unix.EACCES}), "with sudo"},
		"fuse in a device cgroup":   {fixFuse(good.with(func(f *doctorFacts) { f.Container = "docker" }), trial{Errno: unix.EPERM}), "--device /dev/fuse"},
		"proc is covered":           {fixProc(good, trial{Errno: unix.EPERM}), "mountinfo"},
		"landlock off":              {fixLandlock(good, trial{Errno: unix.EOPNOTSUPP}), "lsm=landlock,lockdown"},
		"second listener":           {fixFilter(good, trial{Errno: unix.EBUSY}), "outside"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q does not say %q", name, c.got, c.want)
		}
	}
}

func TestDoctorReportAsJSON(t *testing.T) {
	data, err := json.Marshal(judge(doctorHosts["docker"]))
	if err != nil {
		t.Fatal(err)
	}
	var back DoctorReport
	if err := json.Unmarshal(data, &back); err != nil || back.Works || back.Host["container"] != "docker" || back.Checks[1].Fix != fixDocker {
		t.Errorf("%v: %s", err, data)
	}
}

// The doctor's own processes, on this host. What does not work here is known to the tests of the packages.
// Containment check: A32.
func TestDoctorTries(t *testing.T) {
	report := Doctor()
	if os.Getenv("AGENTJAIL_MUST_WORK") != "" && !report.Works {
		t.Errorf("this host must work: %+v", report.Checks)
	}
	if len(report.Checks) != 12 || report.Host["release"] == "" {
		t.Errorf("%+v", report)
	}
	for _, c := range report.Checks {
		if strings.Contains(c.Detail, "exit status") {
			t.Errorf("a process of the doctor's failed: %+v", c)
		}
	}
}

// doctorIn runs the doctor in a user namespace without any to give, and returns its report.
func TestDoctorSeesWhatIsTakenAway(t *testing.T) {
	if os.Getenv("DOCTOR_TEST") != "" {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		json.NewEncoder(os.Stdout).Encode(Doctor())
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "DOCTOR_TEST=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("AGENTJAIL_MUST_WORK") != "" {
			t.Fatalf("%v: %s", err, out)
		}
		t.Skipf("no user namespace here: %v", err)
	}
	var report DoctorReport
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := report.Checks[1]
	if report.Works || c.Layer != "user namespace" || c.Status != DoctorMissing || !strings.Contains(c.Fix, "max_user_namespaces") {
		t.Errorf("%+v", c)
	}
}

func TestDoctorWordByHand(t *testing.T) {
	for _, args := range [][]string{{DoctorArg}, {DoctorArg, "command", "1", "1", "1"}, {DoctorArg, "x", "y", "z", "0", "0"}} {
		cmd := exec.Command("/proc/self/exe", args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != CodeNotStarted || !strings.Contains(string(out), "own use") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

func TestDoctorState(t *testing.T) {
	dir := t.TempDir()
	me := Identity{UID: os.Getuid(), GID: os.Getgid()}
	if got := tryState(filepath.Join(dir, "a/b/agentjail"), me); got.Error != "" {
		t.Errorf("%+v", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("something was made: %v", entries)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tryState(file, me); got.Errno != unix.ENOTDIR {
		t.Errorf("a file: %+v", got)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if got := tryState(filepath.Join(dir, "x"), me); os.Getuid() != 0 && got.Errno != unix.EACCES {
		t.Errorf("a directory without rights: %+v", got)
	}
	other := Identity{UID: os.Getuid() + 1, GID: os.Getgid() + 1}
	for mode, writable := range map[fs.FileMode]bool{0o700: false, 0o770: false, 0o703: true, 0o707: true, 0o705: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if got := tryState(filepath.Join(dir, "x"), other); (got.Error == "") != writable {
			t.Errorf("mode %o for another user: %+v", mode, got)
		}
	}
}
