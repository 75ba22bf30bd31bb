// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"strings"
	"testing"
)

func TestCheckGrant(t *testing.T) {
	for _, p := range []string{
		"/usr", "/etc/ssl/certs", "~/.nvm", "~/a b/é", "/srv/app/[id]/x?.ts",
		"/dev/kvm", "/sys/class", "/processes", "/a~", "/...", "~/..x",
		"/" + strings.Repeat("a", maxPath-1),
	} {
		if err := checkGrant(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, tc := range []struct{ path, want string }{
		{"", "empty"},
		{"/", "as a whole"},
		{"~", "as a whole"},
		{"~/", "as a whole"},
		{".", "relative"},
		{".env", "relative"},
		{"~root/x", "relative"},
		{" /x", "relative"},
		{"/etc/", `write "/etc"`},
		{"~/.ssh/", `write "~/.ssh"`},
		{"//", "ends in a slash"},
		{"//etc", `write "/etc"`},
		{"/a//b", `write "/a/b"`},
		{"/a/./b", `write "/a/b"`},
		{"/a/.", `write "/a"`},
		{"~/./a", `write "~/a"`},
		{"/a/../b", "leads upwards"},
		{"~/../b", "leads upwards"},
		{"/..", "leads upwards"},
		{"/a\nb", "control characters"},
		{"/a\x00", "control characters"},
		{"/a\u009b1m", "control characters"},
		{"/\xff", "not UTF-8"},
		{"/home/*/x", "wildcards"},
		{"~/*", "wildcards"},
		{"/proc", "machine's"},
		{"/proc/1/root", "machine's"},
		{"/dev", "machine's"},
		{"/sys", "machine's"},
		{"/" + strings.Repeat("a", maxPath), "longer than"},
	} {
		err := checkGrant(tc.path)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: got %v, want an error with %q", tc.path, err, tc.want)
		}
		if err != nil && !isASCII(err.Error()) {
			t.Errorf("%q: the error repeats the input raw: %q", tc.path, err)
		}
	}
}

func TestNeverPrivate(t *testing.T) {
	for _, p := range NeverPrivate() {
		if err := checkPrivate(p); err == nil {
			t.Errorf("%s is accepted as private", p)
		}
		if err := checkPrivate(p + "/below"); err == nil {
			t.Errorf("%s/below is accepted as private", p)
		}
	}
	if err := checkPrivate("~/.config"); err != nil {
		t.Errorf("a directory above a refused one: %v", err)
	}
	NeverPrivate()[0] = "changed"
	if NeverPrivate()[0] == "changed" {
		t.Error("the list can be changed from outside")
	}
}

func TestIsNoise(t *testing.T) {
	f := Files{Noise: []string{"/sys/fs/cgroup", "/proc/sys/*/max", "~/.terminfo", "/opt/*a*b/x"}}
	for _, tc := range []struct {
		path string
		want bool
	}{
		{"/sys/fs/cgroup", true},
		{"/sys/fs/cgroup/cpu.max", true},
		{"/sys/fs/cgroupx", false},
		{"/sys/fs", false},
		{"/proc/sys/vm/max", true},
		{"/proc/sys/vm/max/below", true},
		{"/proc/sys/vm/min", false},
		{"/proc/sys/max", false},
		{"/proc/sys/a/b/max", false},
		{"/home/u/.terminfo/x/xterm", true},
		{"/home/v/.terminfo", false},
		{"/opt/ab/x", true},
		{"/opt/1a2a3b/x/y", true},
		{"/opt/ba/x", false},
		{"/opt/a/b/x", false},
		{"", false},
		{"/", false},
	} {
		if got := f.IsNoise(tc.path, "/home/u"); got != tc.want {
			t.Errorf("%q: got %v", tc.path, got)
		}
	}
	if (Files{}).IsNoise("/x", "/home/u") {
		t.Error("an empty list covers something")
	}
}

func TestMatchName(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "x", true},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"*ab*ab", "ab", false},
		{"*ab*ab", "xabab", true}, {"a**b", "ab", true}, {"*a*", "bab", true}, {"*a*", "bbb", false},
	} {
		if got := matchName(tc.pattern, tc.name); got != tc.want {
			t.Errorf("%q on %q: got %v", tc.pattern, tc.name, got)
		}
	}
}
