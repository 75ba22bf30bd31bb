// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files")

func defaultPolicy(t testing.TB) Policy {
	t.Helper()
	p, err := Default(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Both architectures compile, and stay within the kernel's bound.
func TestCompileFor(t *testing.T) {
	for _, arch := range []uint32{ArchAMD64, ArchARM64} {
		program, err := defaultPolicy(t).CompileFor(arch)
		if err != nil || len(program) == 0 || len(program) > MaxInstructions {
			t.Errorf("%#x: %d instructions, %v", arch, len(program), err)
		}
	}
	if _, err := defaultPolicy(t).CompileFor(unix.AUDIT_ARCH_I386); err == nil {
		t.Error("a filter for an unknown architecture was made")
	}
}

// Containment check: G04.
func TestDisassemblyGolden(t *testing.T) {
	instructions, err := defaultPolicy(t).assemble(ArchAMD64)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, in := range instructions {
		fmt.Fprintf(&b, "%4d  %s\n", i, in)
	}
	const golden = "testdata/filter.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
}

// Each known call is on exactly one list: one that a newer kernel brings must be decided about.
// Containment check: F01.
func TestEveryCallIsOnOneList(t *testing.T) {
	seen := map[string]int{}
	for _, l := range lists {
		for name := range strings.FieldsSeq(l.Calls) {
			seen[name]++
		}
	}
	known := map[string]bool{}
	for _, table := range tables {
		for i, n := range table {
			known[n.Name] = true
			if seen[n.Name] != 1 {
				t.Errorf("%s is on %d lists", n.Name, seen[n.Name])
			}
			if i > 0 && table[i-1].Nr >= n.Nr {
				t.Errorf("the table is not sorted at %s", n.Name)
			}
		}
	}
	for name := range seen {
		if !known[name] {
			t.Errorf("%s is on a list but is no call", name)
		}
	}
	for name := range argumentRules() {
		if seen[name] != 1 {
			t.Errorf("%s has a rule but is on %d lists", name, seen[name])
		}
	}
}

// nr looks a call of this architecture up.
func nr(t *testing.T, name string) uint32 {
	t.Helper()
	for _, n := range tables[NativeArch()] {
		if n.Name == name {
			return n.Nr
		}
	}
	t.Fatalf("%s is not a call of this architecture", name)
	return 0
}

// TestVerdicts (F12, F14, F15, F16, F17, G20): what must be refused, each with a twin that must not be.
// Containment checks: E01, F08, G01, G13.
func TestVerdicts(t *testing.T) {
	p := defaultPolicy(t)
	const high = 1 << 32
	for _, c := range []struct {
		name string
		args [6]uint64
		want Kind
	}{
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}, Allow},
		{"socket", [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, Allow},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, Deny},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, 132}, Deny},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_RAW, 0}, Deny},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, Allow},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, Deny},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, Allow},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, Deny},
		{"socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, Deny},
		{"socket", [6]uint64{unix.AF_VSOCK | high, unix.SOCK_STREAM, 0}, Deny},
		{"socket", [6]uint64{unix.AF_INET | high, unix.SOCK_STREAM, 0}, Allow},
		{"socketpair", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}, Allow},
		{"socketpair", [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, Deny},
		{"ioctl", [6]uint64{0, unix.TIOCSTI}, Deny},
		{"ioctl", [6]uint64{0, unix.TIOCSTI | high}, Deny},
		{"ioctl", [6]uint64{0, unix.TIOCGWINSZ}, Allow},
		{"ioctl", [6]uint64{0, unix.SIOCSIFFLAGS}, Deny}, {"ioctl", [6]uint64{0, unix.SIOCBRADDBR | high}, Deny}, {"ioctl", [6]uint64{0, 0x8983}, Deny},
		{"ioctl", [6]uint64{0, unix.SIOCDEVPRIVATE + 1}, Deny}, {"ioctl", [6]uint64{0, unix.SIOCGSKNS}, Deny}, {"ioctl", [6]uint64{0, unix.SIOCGIFADDR}, Allow},
		{"ioctl", [6]uint64{0, unix.SIOCGIFINDEX}, Allow}, {"ioctl", [6]uint64{0, 0x80108906}, Allow}, {"ioctl", [6]uint64{0, 0x541b}, Allow},
		{"ioctl", [6]uint64{0, 0x50009401}, Deny}, {"ioctl", [6]uint64{0, 0x5000940e}, Deny}, {"ioctl", [6]uint64{0, 0x50009417 | high}, Deny}, // subvolumes
		{"ioctl", [6]uint64{0, 0x5000943f}, Deny}, {"ioctl", [6]uint64{0, 0x4010bc10}, Deny},
		{"ioctl", [6]uint64{0, unix.FICLONE}, Allow}, {"ioctl", [6]uint64{0, unix.FICLONERANGE}, Allow}, {"ioctl", [6]uint64{0, unix.FIDEDUPERANGE}, Allow},
		{"ioctl", [6]uint64{0, unix.TCGETS}, Allow},
		{"ioctl", [6]uint64{0, 0x4B46}, Deny}, // KDGKBENT's family
		{"ioctl", [6]uint64{0, 0x40087602}, Deny},
		{"ioctl", [6]uint64{0, 0x40047602}, Deny},
		{"ioctl", [6]uint64{0, 0x40086604}, Deny},
		{"ioctl", [6]uint64{0, 0x40046604}, Deny},
		{"ioctl", [6]uint64{0, 0xc028660f}, Deny},
		{"ioctl", [6]uint64{0, 0xc0c0586d}, Deny},
		{"ioctl", [6]uint64{0, 0x80087601}, Allow}, // FS_IOC_GETVERSION
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, Allow},
		{"clone", [6]uint64{unix.CLONE_NEWUSER}, Deny},
		{"clone", [6]uint64{unix.CLONE_NEWUSER | high}, Deny},
		{"clone3", [6]uint64{}, Deny},
		{"unshare", [6]uint64{}, Deny},
		{"personality", [6]uint64{0xffffffff}, Allow},
		{"personality", [6]uint64{0x40000}, Deny},
		{"openat", [6]uint64{0, 0, unix.O_RDONLY | unix.O_CLOEXEC | unix.O_DIRECTORY}, Allow},
		{"openat", [6]uint64{0, 0, unix.O_WRONLY}, Write},
		{"openat", [6]uint64{0, 0, unix.O_RDONLY | unix.O_CREAT}, Write},
		{"openat", [6]uint64{0, 0, unix.O_WRONLY | unix.O_CREAT, 0o755}, Write},
		{"openat", [6]uint64{0, 0, unix.O_WRONLY | unix.O_CREAT, 0o4755}, Deny},
		{"openat", [6]uint64{0, 0, unix.O_RDWR | unix.O_TMPFILE, 0o2755}, Deny},
		{"openat", [6]uint64{0, 0, unix.O_RDONLY | unix.O_DIRECTORY, 0o4755}, Allow}, // there is no mode without a file to make
		{"fchmodat", [6]uint64{0, 0, 0o755}, Write},
		{"fchmodat", [6]uint64{0, 0, 0o4755}, Deny},
		{"mknodat", [6]uint64{0, 0, unix.S_IFIFO | 0o644}, Write},
		{"mknodat", [6]uint64{0, 0, unix.S_IFCHR | 0o644}, Deny},
		{"seccomp", [6]uint64{1, 0}, Allow},
		{"seccomp", [6]uint64{1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, Deny},
		{"setrlimit", [6]uint64{unix.RLIMIT_NOFILE, 1}, Allow},
		{"setrlimit", [6]uint64{unix.RLIMIT_CORE, 1}, Done},
		{"setrlimit", [6]uint64{unix.RLIMIT_CORE | high}, Done},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_NOFILE, 1, 1}, Allow},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_CORE, 0, 1}, Allow},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_CORE, 1, 0}, Done},
		{"prlimit64", [6]uint64{7, unix.RLIMIT_CORE | high, 1 << 32, 0}, Done},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_CORE, 1, 1}, Deny},
		{"connect", [6]uint64{}, Connect},
		{"listen", [6]uint64{}, Listen},
		{"setsockopt", [6]uint64{0, unix.SOL_TCP, 31}, Deny},
		{"setsockopt", [6]uint64{0, unix.SOL_TCP, unix.TCP_NODELAY}, Allow},
		{"setsockopt", [6]uint64{0, unix.SOL_SOCKET, unix.SO_MARK | high}, Deny},
		{"setsockopt", [6]uint64{0, unix.SOL_SOCKET, unix.SO_REUSEADDR}, Allow},
		{"prctl", [6]uint64{unix.PR_SET_NAME}, Allow},
		{"prctl", [6]uint64{unix.PR_SET_MM}, Deny},
		{"io_uring_setup", [6]uint64{}, Deny}, {"bpf", [6]uint64{}, Deny}, {"ptrace", [6]uint64{}, Deny}, {"keyctl", [6]uint64{}, Deny},
		{"read", [6]uint64{}, Allow}, {"execve", [6]uint64{}, Allow},
	} {
		if got := p.Verdict(NativeArch(), nr(t, c.name), c.args); got.Kind != c.want {
			t.Errorf("%s%#x: %+v, want kind %d", c.name, c.args, got, c.want)
		}
	}
	if got := p.Verdict(NativeArch(), nr(t, "clone3"), [6]uint64{}); got.Errno != unix.ENOSYS {
		t.Errorf("clone3: %v, want ENOSYS", got.Errno)
	}
	if got := p.Verdict(NativeArch(), 5000, [6]uint64{}); got.Kind != Deny || got.Errno != unix.ENOSYS {
		t.Errorf("a call newer than the table: %+v", got)
	}
}

// Containment check: G06.
func TestZeroPolicyDenies(t *testing.T) {
	for _, n := range tables[NativeArch()] {
		if got := (Policy{}).Verdict(NativeArch(), n.Nr, [6]uint64{}); got.Kind != Deny {
			t.Errorf("%s: %+v", n.Name, got)
		}
	}
}

// TestGroups is what each group adds, and nothing else: all other verdicts stay.
func TestGroups(t *testing.T) {
	type call struct {
		name string
		args [6]uint64
	}
	calls := []call{
		{"ptrace", [6]uint64{16, 1}}, {"process_vm_readv", [6]uint64{}}, {"kcmp", [6]uint64{}}, {"pidfd_getfd", [6]uint64{}},
		{"personality", [6]uint64{noRandomization}}, {"personality", [6]uint64{noRandomization | 8}}, {"prctl", [6]uint64{prSetPtracer}},
		{"prctl", [6]uint64{unix.PR_SET_MM}}, {"perf_event_open", [6]uint64{}}, {"ioctl", [6]uint64{0, '$'<<8 | 1}}, {"ioctl", [6]uint64{0, '!'<<8 | 1}},
		{"ioctl", [6]uint64{0, unix.TIOCSTI}}, {"chmod", [6]uint64{0, 0o4755}}, {"openat", [6]uint64{0, 0, unix.O_CREAT, 0o2755}},
		{"mknodat", [6]uint64{0, 0, unix.S_IFREG | 0o4755}}, {"mknodat", [6]uint64{0, 0, unix.S_IFCHR | 0o4755}}, {"mount", [6]uint64{}},
		{"unshare", [6]uint64{unix.CLONE_NEWUSER}}, {"bpf", [6]uint64{}}, {"process_mrelease", [6]uint64{}},
		{"clone", [6]uint64{nestedFlags | uint64(unix.SIGCHLD)}}, {"unshare", [6]uint64{nestedFlags | unix.CLONE_FS}}, {"unshare", [6]uint64{unix.CLONE_FILES}},
		{"chroot", [6]uint64{}}, {"clone", [6]uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWNS}}, {"unshare", [6]uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWNS}},
		{"unshare", [6]uint64{unix.CLONE_NEWUTS}}, {"unshare", [6]uint64{unix.CLONE_NEWCGROUP}}, {"unshare", [6]uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWTIME}},
		{"unshare", [6]uint64{unix.CLONE_NEWUSER | 1<<20}}, {"setns", [6]uint64{0, unix.CLONE_NEWNET}}, {"umount2", [6]uint64{}}, {"pivot_root", [6]uint64{}},
		{"move_mount", [6]uint64{}}, {"clone3", [6]uint64{}}, {"open_by_handle_at", [6]uint64{}}, {"sethostname", [6]uint64{}},
	}
	want := map[string][]int{"debug": {0, 1, 2, 3, 4, 6}, "nested": {17, 20, 21, 22, 23}, "perf": {8, 9}, "packaging": {12, 13, 14}}
	for _, g := range groups {
		p, err := Default(Options{Allow: []string{g.Name}})
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for i, c := range calls {
			if p.Verdict(NativeArch(), nr(t, c.name), c.args).Kind != Deny {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want[g.Name]) {
			t.Errorf("%s allows %v, want %v", g.Name, got, want[g.Name])
		}
		if lines := strings.Join(p.Summary(), "\n"); !strings.Contains(lines, "the group "+g.Name+" is allowed: ") {
			t.Errorf("%s is not named:\n%s", g.Name, lines)
		}
	}
	for i, want := range []string{0: "debug", 8: "perf", 12: "packaging", 16: "", 17: "nested"} {
		if want == "" && i < 16 {
			continue
		}
		if got := groupFor(NativeArch(), nr(t, calls[i].name), calls[i].args); got != want {
			t.Errorf("%s: the group %q would allow it, want %q", calls[i].name, got, want)
		}
	}
}

func TestUnknownGroup(t *testing.T) {
	_, err := Default(Options{Allow: []string{"debug", "none"}})
	var unknown *UnknownGroupError
	if !errors.As(err, &unknown) || unknown.Name != "none" || !strings.Contains(err.Error(), "debug, nested, packaging, perf") {
		t.Errorf("got %v", err)
	}
}

func TestSummary(t *testing.T) {
	lines := strings.Join(defaultPolicy(t).Summary(), "\n")
	if !strings.Contains(lines, "allowed: ") || strings.Contains(lines, "allowed: 0 ") {
		t.Errorf("summary:\n%s", lines)
	}
}
