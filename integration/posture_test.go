// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// postureDetail is what run.posture says of the command's process.
type postureDetail struct {
	Posture struct {
		Digest     string
		Namespaces map[string]uint64
		FDs        []int
		Threads    int
		Seccomp    int
	}
}

// threadPosture is what the kernel holds one thread to, as /proc shows it to the host.
type threadPosture struct {
	Status     map[string]string
	Namespaces map[string]string
	FDs        []string
}

// processPosture is what it holds all threads of a process to.
type processPosture struct {
	Threads []threadPosture
	Limits  map[string]string
	UIDMap  string
	GIDMap  string
	Groups  string // /proc/PID/setgroups
	Cgroup  string
	Label   string
}

// statusFields are the lines of /proc/PID/status that say what a thread may do.
var statusFields = []string{
	"Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
	"NoNewPrivs", "Seccomp", "Seccomp_filters",
}

func readPosture(t *testing.T, pid int) processPosture {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	p := processPosture{
		Limits: map[string]string{}, UIDMap: words(procText(dir + "/uid_map")), GIDMap: words(procText(dir + "/gid_map")),
		Groups: words(procText(dir + "/setgroups")), Cgroup: procText(dir + "/cgroup"), Label: procText(dir + "/attr/current"),
	}
	for line := range strings.Lines(procText(dir + "/limits")) {
		if len(line) > 26 && strings.HasPrefix(line, "Max ") {
			p.Limits[strings.TrimSpace(line[:26])] = words(line[26:])
		}
	}
	tasks, err := filepath.Glob(dir + "/task/*")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, task := range tasks {
		p.Threads = append(p.Threads, readThread(t, task))
	}
	return p
}

func readThread(t *testing.T, task string) threadPosture {
	t.Helper()
	th := threadPosture{Status: map[string]string{}, Namespaces: map[string]string{}}
	for line := range strings.Lines(procText(task + "/status")) {
		if name, value, _ := strings.Cut(line, ":"); slices.Contains(statusFields, name) {
			th.Status[name] = words(value)
		}
	}
	links, err := filepath.Glob(task + "/ns/*")
	if err != nil || len(links) == 0 {
		t.Fatalf("%s has no namespaces: %v", task, err)
	}
	for _, link := range links {
		th.Namespaces[filepath.Base(link)], _ = os.Readlink(link)
	}
	files, err := os.ReadDir(task + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		th.FDs = append(th.FDs, f.Name())
	}
	return th
}

// procText is a file of /proc, "" where there is none.
func procText(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }

// jailed changes the posture of the same command without a jail to what it has to be inside.
func jailed(bare processPosture) processPosture {
	want := bare
	want.Limits = maps.Clone(bare.Limits)
	uid, gid := os.Getuid(), os.Getgid()
	want.UIDMap, want.GIDMap, want.Groups = fmt.Sprintf("%d %d 1", uid, uid), fmt.Sprintf("%d %d 1", gid, gid), "deny"
	core := 1
	if strings.HasPrefix(words(bare.Limits["Max core file size"]), "0 0 ") { // which cannot be raised
		core = 0
	}
	want.Limits["Max core file size"] = fmt.Sprintf("%d %d bytes", core, core)
	// The soft limit is a fixed one: the caller's is not known to a program in Go, which raises its own.
	var soft, hard int
	fmt.Sscan(bare.Limits["Max open files"], &soft, &hard)
	want.Limits["Max open files"] = fmt.Sprintf("%d %d files", min(1024, hard), hard)
	// Every signal has its default action when the command begins: what this process ignores, the bare command does too.
	inherited := signalSet(procText("/proc/self/status"))
	want.Threads = slices.Clone(bare.Threads)
	for i, th := range want.Threads {
		status := map[string]string{}
		for name, value := range th.Status {
			if strings.HasPrefix(name, "Cap") {
				value = "0000000000000000"
			}
			status[name] = value
		}
		status["SigIgn"] = fmt.Sprintf("%016x", signalSet("SigIgn:\t"+th.Status["SigIgn"]+"\n")&^inherited)
		filters := 0
		fmt.Sscan(status["Seccomp_filters"], &filters)
		status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"] = "1", "2", fmt.Sprint(filters+1)
		want.Threads[i].Status, want.Threads[i].FDs = status, []string{"0", "1", "2"}
	}
	return want
}

// signalSet is the set of ignored signals in the text of /proc/PID/status.
func signalSet(status string) (set uint64) {
	_, ignored, _ := strings.Cut(status, "SigIgn:")
	fmt.Sscanf(ignored, "%x", &set)
	return set
}

// running starts a command in a jail, and returns its pid on the host and what the log says of its posture.
func running(t *testing.T, p place, args ...string) (pid int, d postureDetail, events []event) {
	t.Helper()
	start(t, p, "agentjail", args...)
	eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
	events, err := newestEvents(p.state)
	if err != nil {
		t.Fatal(err)
	}
	posture := events[slices.IndexFunc(events, func(e event) bool { return e.Action == "run.posture" })]
	if err := json.Unmarshal(posture.Detail, &d); err != nil {
		t.Fatal(err)
	}
	return posture.PID, d, events
}

// TestA01Posture: what the kernel holds every thread of a command to is exactly what it holds the same command to outside,
// but for what the jail takes away (A01 A02 A03 A04 A24 A27 E07 G18 N04 N05 N07).
// Containment checks: E04, G06.
func TestA01Posture(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"one thread": {"python3", "-c", `import os, time; os.mkdir("ready"); time.sleep(300)`},
		"threads": {"python3", "-c", `
import os, threading, time
for i in range(3): threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
os.mkdir("ready")
time.sleep(300)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside, p := newPlace(t), newPlace(t)
			bare, _ := start(t, outside, command[0], command[1:]...)
			eventually(t, "the bare command runs", func() bool { return exists(outside.project + "/ready") })
			host := readPosture(t, bare.Process.Pid)
			pid, said, events := running(t, p, append([]string{"run", "--quiet", "--"}, command...)...)
			got := readPosture(t, pid)
			checkNamespaces(t, host, got, said)
			want := jailed(host)
			for i := range want.Threads {
				want.Threads[i].Namespaces = got.Threads[0].Namespaces
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("not as outside and as the jail should change it (-want +got):\n%s", diff)
			}
			checkMounts(t, pid, events[0])
			checkOthers(t, pid, got.Threads[0].Namespaces["pid"])
		})
	}
}

// checkNamespaces: every namespace that is promised differs from the host's, for every thread, and is the one that the log
// names.
func checkNamespaces(t *testing.T, host, got processPosture, said postureDetail) {
	t.Helper()
	for i, th := range got.Threads {
		for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
			link := th.Namespaces[kind]
			if link == "" || link == host.Threads[0].Namespaces[kind] {
				t.Errorf("thread %d is in the host's %s namespace, %q", i, kind, link)
			}
			if logged := fmt.Sprintf("%s:[%d]", kind, said.Posture.Namespaces[kind]); link != logged {
				t.Errorf("thread %d is in %s, and the log says %s", i, link, logged)
			}
		}
	}
}

// mount is a line of mountinfo.
type mount struct {
	root, point, kind string
	options           []string
}

func (m mount) has(option string) bool { return slices.Contains(m.options, option) }

// checkMounts compares the mounts with the grants of run.start and with what every run has.
func checkMounts(t *testing.T, pid int, first event) {
	t.Helper()
	var d struct{ Grants []string }
	if err := json.Unmarshal(first.Detail, &d); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"group", "hostname", "hosts", "passwd", "resolv.conf"} {
		d.Grants = append(d.Grants, "ro /etc/"+path)
	}
	for _, path := range []string{"full", "null", "pts", "random", "shm", "tty", "urandom", "zero"} {
		d.Grants = append(d.Grants, "rw /dev/"+path)
	}
	d.Grants = append(d.Grants, "ro /dev", "ro /sys/devices/system/cpu", "ro /sys/kernel/mm/transparent_hugepage", "rw /tmp", "rw /var/tmp", "rw /", "rw /proc")
	for line := range strings.Lines(procText(fmt.Sprintf("/proc/%d/mountinfo", pid))) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		m := mount{root: fields[3], point: fields[4], kind: strings.Fields(after)[0], options: strings.Split(fields[5], ",")}
		masked := strings.HasPrefix(m.point, "/proc/") && (m.has("ro") || m.root == "/null")
		writable := slices.Contains(d.Grants, "rw "+m.point)
		switch device := strings.HasPrefix(m.point, "/dev/") && m.kind != "tmpfs"; {
		case masked:
		case !writable && (!m.has("ro") || !slices.Contains(d.Grants, "ro "+m.point)):
			t.Errorf("a mount that nothing grants: %s", line)
		case !m.has("nosuid") || !device && !m.has("nodev"):
			t.Errorf("set-user-id programs or devices work on %s", line)
		}
	}
}

// checkOthers: the other processes of the pid namespace hold no power either.
func checkOthers(t *testing.T, pid int, namespace string) {
	t.Helper()
	found := 0
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		if target, _ := os.Readlink(link); target != namespace {
			continue
		}
		found++
		th := readThread(t, filepath.Dir(filepath.Dir(link)))
		for name, value := range th.Status {
			// Pid 1 keeps a bit in its bounding set. It bounds what an exec could gain, and the filter of pid 1 allows none.
			if strings.HasPrefix(name, "Cap") && name != "CapBnd" && value != "0000000000000000" {
				t.Errorf("%s: %s is %s", link, name, value)
			}
		}
		if th.Status["NoNewPrivs"] != "1" || th.Status["Seccomp"] != "2" {
			t.Errorf("%s is not confined: %v", link, th.Status)
		}
	}
	if found < 2 {
		t.Errorf("%d processes in the namespace of process %d, where pid 1 is one as well", found, pid)
	}
}

// TestA01Again: the posture is compared again while the command runs. Here somebody changes from outside what no command can, its limit of
// cores, which ends the run, also when the first thread of the command has ended. The twin: what the command may change, by itself or from
// outside, goes on past that time.
func TestA01Again(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, last string
		limit      int
	}{
		{"cores", "end()", unix.RLIMIT_CORE},
		{"files", "end()", unix.RLIMIT_NOFILE},
		{"cores without the first thread", "leave()", unix.RLIMIT_CORE},
		{"files without the first thread", "leave()", unix.RLIMIT_NOFILE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, limit := newPlace(t), tt.limit
			p.write(t, "change.py", `
import ctypes, os, signal, threading, time
def end():
    time.sleep(25)
    os._exit(7)
def leave():
    threading.Thread(target=end).start()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
os.umask(0); signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.mkdir("d"); os.chdir("d"); os.rmdir("../d"); open("/dev/null")
for i in range(3): threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
os.mkdir("`+p.project+`/ready")
`+tt.last)
			c, out := start(t, p, "agentjail", "run", "--quiet", "--", "python3", "change.py")
			eventually(t, "the command runs", func() bool { return exists(p.project + "/ready") })
			events, err := newestEvents(p.state)
			if err != nil {
				t.Fatal(err)
			}
			pid := events[slices.IndexFunc(events, func(e event) bool { return e.Action == "run.posture" })].PID
			var now unix.Rlimit
			if err := unix.Prlimit(pid, limit, nil, &now); err != nil {
				t.Fatal(err)
			}
			if now.Max == 0 && os.Getuid() != 0 {
				t.Skip("whoever started this test has a limit of cores that an ordinary user cannot change")
			}
			if err := unix.Prlimit(pid, limit, &unix.Rlimit{Cur: now.Max - 1, Max: now.Max}, nil); err != nil {
				t.Fatal(err)
			}
			c.Wait()
			code, ends := c.ProcessState.ExitCode(), limit == unix.RLIMIT_CORE
			if ends != (code == 125) || ends != strings.Contains(out.String(), "Max core file size is {0 1}, not {1 1}") || !ends && code != 7 {
				t.Errorf("exit %d\n%s", code, out)
			}
			if events := p.ended(t); ends {
				wantEvent(t, events, "report", "-n", "1", "-reason", "posture: the command does not run as planned any more: .*", "run", "run.failed")
			}
		})
	}
}

// TestA01Digest: the log has a hash of the posture, which is the same for the same policy and another for another.
func TestA01Digest(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, p.root+"/more/file", "x")
	digest := func(args ...string) string {
		t.Helper()
		os.Remove(p.project + "/ready")
		_, d, _ := running(t, p, append(append([]string{"run", "--quiet"}, args...), "--", "sh", "-c", "touch ready; exec sleep 300")...)
		if !strings.HasPrefix(d.Posture.Digest, "sha256:") || len(d.Posture.Digest) != len("sha256:")+64 {
			t.Fatalf("the digest is %q", d.Posture.Digest)
		}
		if !slices.Equal(d.Posture.FDs, []int{0, 1, 2, 3}) || d.Posture.Threads != 1 || d.Posture.Seccomp != 2 {
			t.Errorf("the log says %+v; file 3 is the hand-over, which ends with the exec", d.Posture)
		}
		return d.Posture.Digest
	}
	first := digest()
	if again := digest(); again != first {
		t.Errorf("the same policy has the digests %s and %s", first, again)
	}
	if other := digest("--ro", p.root+"/more"); other == first {
		t.Errorf("a grant more leaves the digest as it was, %s", first)
	}
}
