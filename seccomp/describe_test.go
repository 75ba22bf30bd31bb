// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		name string
		args [6]uint64
		want string
	}{
		{"socket", [6]uint64{unix.AF_VSOCK | 1<<32, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}, "socket(AF_VSOCK, SOCK_STREAM|SOCK_CLOEXEC, 0)"},
		{"socket", [6]uint64{unix.AF_APPLETALK, unix.SOCK_RAW, 1<<32 - 1}, "socket(AF_APPLETALK, SOCK_RAW, -1)"},
		{"socketpair", [6]uint64{99, 77, 0}, "socketpair(0x63, 0xd, 0)"},
		{"ioctl", [6]uint64{3, unix.TIOCSTI | 1<<40}, "ioctl(3, TIOCSTI)"},
		{"ioctl", [6]uint64{3, 0x5606}, "ioctl(3, VT_ACTIVATE)"},
		{"ioctl", [6]uint64{3, 0x56fe}, "ioctl(3, 0x56fe of virtual terminals)"},
		{"ioctl", [6]uint64{3, 1}, "ioctl(3, 0x1)"},
		{"setsockopt", [6]uint64{4, unix.SOL_TCP, unix.TCP_ULP}, "setsockopt(4, SOL_TCP, TCP_ULP)"},
		{"setsockopt", [6]uint64{4, unix.SOL_IPV6, 66}, "setsockopt(4, SOL_IPV6, 0x42)"},
		{"clone", [6]uint64{unix.CLONE_NEWUSER | 17}, "clone(CLONE_NEWUSER|0x11)"},
		{"prctl", [6]uint64{unix.PR_SET_MM}, "prctl(PR_SET_MM)"},
		{"keyctl", [6]uint64{0, 5}, "keyctl(0, 0x5)"},
		{"fchmodat2", [6]uint64{2: 0o4755}, "fchmodat2(mode 04755)"},
		{"mknod", [6]uint64{1: unix.S_IFCHR | 0o644}, "mknod(mode 020644)"},
		{"openat", [6]uint64{3: 0o644}, "openat"},
		{"reboot", [6]uint64{1, 2}, "reboot"},
	} {
		if got := describe(c.name, c.args); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// TestEveryRefusalHasAName: what is refused by a number has its name in the log, or at least that of its family.
func TestEveryRefusalHasAName(t *testing.T) {
	if n := len(strings.Fields(families)); n != unix.AF_MAX {
		t.Errorf("%d families have a name, and there are %d", n, unix.AF_MAX)
	}
	for n, name := range map[uint64]string{unix.AF_UNIX: "AF_UNIX", unix.AF_INET6: "AF_INET6", unix.AF_PACKET: "AF_PACKET", unix.AF_ALG: "AF_ALG", unix.AF_XDP: "AF_XDP", unix.AF_MCTP: "AF_MCTP"} {
		if family(n) != name {
			t.Errorf("%s is called %s", name, family(n))
		}
	}
	for _, n := range deniedIoctls {
		if got := ioctlRequest(uint64(n)); strings.HasPrefix(got, "0x") {
			t.Errorf("ioctl %s has no name", got)
		}
	}
	for _, n := range deniedIoctlTypes {
		if got := ioctlRequest(uint64(n) | 0xff); !strings.Contains(got, " of ") {
			t.Errorf("the family of ioctl %s has no name", got)
		}
	}
	seen := map[uint64]string{}
	for _, v := range ioctls {
		if other, ok := seen[v.n]; ok {
			t.Errorf("%#x is both %s and %s", v.n, other, v.name)
		}
		seen[v.n] = v.name
	}
}
