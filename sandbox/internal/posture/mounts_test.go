// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseMounts(t *testing.T) {
	text := `36 35 98:0 /mnt1 /with\040space\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
37 36 0:5 / /proc rw,nosuid,nodev,noexec - proc proc rw
38 36 0:6 / /usr ro,nodev shared:1 master:2 - overlay overlay rw
39 36 0:7 /-\040x /frozen rw - erofs  ro,relatime
40 39 0:8 net:[402] /ns rw,nosuidx - nsfs nsfs rw
`
	got, err := parseMounts(text)
	want := []Mount{
		{36, 35, `/with space\`, "ext3", 0, "master:1"},
		{37, 36, "/proc", "proc", NoSuid | NoDev | NoExec, ""},
		{38, 36, "/usr", "overlay", ReadOnly | NoDev, "shared:1 master:2"},
		{39, 36, "/frozen", "erofs", ReadOnly | frozen, ""},
		{40, 39, "/ns", "nsfs", 0, ""},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	for _, bad := range []string{
		"36 35 98:0 / /x rw", "36 35 - ext3 /dev/x rw", "36 35 98:0 / /x rw - ext3", "x 35 98:0 / /x rw - ext3 /dev/x rw",
		"36 x 98:0 / /x rw - ext3 /dev/x rw", "36 35 98:0 /  rw - ext3 /dev/x rw", "36 35 98:0 / /x rw -  /dev/x rw",
		"36 35 98:0 / /x rw - ext3 /dev/x rw\n\n36 35 98:0 / /y rw - ext3 /dev/x rw",
	} {
		if _, err := parseMounts(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if got := unescape(`\0`) + unescape(`\999`) + unescape(`a\`); got != `\0\999a\` {
		t.Errorf("incomplete escapes: %q", got)
	}
}

// tree is a run: the root, /dev over itself, a read-only grant with a mount of the host in it and a writable grant on that,
// a file and a masked part of /proc.
func tree() (want []WantMount, got []Mount) {
	const fresh = NoSuid | NoDev
	want = Stack([]WantMount{
		{Point: "/", Type: "fuse", Flags: fresh},
		{Point: "/dev", Type: "tmpfs", Flags: fresh | ReadOnly},
		{Point: "/dev/null", Flags: NoSuid | NoExec},
		{Point: "/usr", Flags: fresh | ReadOnly, Tree: true},
		{Point: "/usr/src", Flags: fresh, Tree: true},
		{Point: "/usr/src/secret", Type: "fuse", Flags: fresh},
		{Point: "/proc", Type: "proc", Flags: fresh | NoExec},
		{Point: "/dev", Type: "tmpfs", Flags: fresh | ReadOnly},
		{Point: "/dev/null", Flags: NoSuid | NoExec},
		{Point: "/proc/keys", Flags: NoSuid | NoExec},
	})
	got = []Mount{
		{20, 1, "/", "fuse", fresh, ""},
		{21, 20, "/dev", "tmpfs", fresh | ReadOnly, ""},
		{22, 21, "/dev/null", "devtmpfs", NoSuid | NoExec, ""},
		{23, 20, "/usr", "ext4", fresh | ReadOnly, ""},
		{24, 23, "/usr/share", "nfs", fresh | ReadOnly | NoExec, ""},
		{25, 24, "/usr/share/doc", "ext4", fresh | ReadOnly, ""},
		{26, 23, "/usr/src", "xfs", fresh | ReadOnly, ""},
		{27, 26, "/usr/src", "ext4", fresh, ""},
		{28, 27, "/usr/src/secret", "fuse", fresh, ""},
		{29, 20, "/proc", "proc", fresh | NoExec, ""},
		{30, 21, "/dev", "tmpfs", fresh | ReadOnly, ""},
		{31, 30, "/dev/null", "devtmpfs", NoSuid | NoExec, ""},
		{32, 29, "/proc/keys", "devtmpfs", NoSuid | NoExec, ""},
	}
	return want, got
}

func differences(want []WantMount, got []Mount) []string {
	c := &comparison{}
	c.mounts(want, got)
	return fields(c.found)
}

func TestStack(t *testing.T) {
	want, _ := tree()
	var on []int
	for _, w := range want {
		on = append(on, w.On)
	}
	if !slices.Equal(on, []int{0, 0, 1, 0, 3, 4, 0, 1, 7, 6}) {
		t.Errorf("mounts are on %v", on)
	}
}

// TestMountsOrder: the kernel lists a table in whatever order.
func TestMountsOrder(t *testing.T) {
	want, got := tree()
	if d := differences(want, got); d != nil {
		t.Errorf("differences in %q", d)
	}
	slices.Reverse(got)
	if d := differences(want, got); d != nil {
		t.Errorf("reversed: differences in %q", d)
	}
}

// TestMountsDiffer tampers with the table, once in each way, and expects exactly the mounts that it is about.
func TestMountsDiffer(t *testing.T) {
	const fresh = NoSuid | NoDev
	at := func(got []Mount, id int) *Mount {
		return &got[slices.IndexFunc(got, func(m Mount) bool { return m.ID == id })]
	}
	for _, c := range []struct {
		name   string
		change func([]Mount) []Mount
		want   []string
	}{
		{"writable", func(g []Mount) []Mount { at(g, 23).Flags = fresh; return g }, []string{"/usr"}},
		{"suid", func(g []Mount) []Mount { at(g, 27).Flags = NoDev; return g }, []string{"/usr/src"}},
		{"devices", func(g []Mount) []Mount { at(g, 20).Flags = NoSuid; return g }, []string{"/"}},
		{"exec", func(g []Mount) []Mount { at(g, 29).Flags = fresh; return g }, []string{"/proc"}},
		{"shared", func(g []Mount) []Mount { at(g, 27).Propagation = "shared:4"; return g }, []string{"/usr/src"}},
		{"slave", func(g []Mount) []Mount { at(g, 24).Propagation = "master:4"; return g }, []string{"/usr/share"}},
		{"other root", func(g []Mount) []Mount { at(g, 20).Type = "ext4"; return g }, []string{"/"}},
		{"submount writable", func(g []Mount) []Mount { at(g, 25).Flags = fresh; return g }, []string{"/usr/share/doc"}},
		{"submount with devices", func(g []Mount) []Mount { at(g, 24).Flags = NoSuid | ReadOnly; return g }, []string{"/usr/share"}},
		{"hidden submount writable", func(g []Mount) []Mount { at(g, 26).Flags = fresh; return g }, []string{"/usr/src"}},
		{"new in a grant", func(g []Mount) []Mount { return append(g, Mount{40, 27, "/usr/src/x", "xfs", fresh, ""}) }, nil},
		{"writable by the wrong grant", func(g []Mount) []Mount { return append(g, Mount{40, 23, "/usr/src/x", "xfs", fresh, ""}) }, []string{"/usr/src/x"}},
		{"new on the root", func(g []Mount) []Mount { return append(g, Mount{40, 20, "/home", "ext4", fresh | ReadOnly, ""}) }, []string{"/home"}},
		{"new below that", func(g []Mount) []Mount {
			return append(g, Mount{40, 20, "/home", "ext4", fresh, ""}, Mount{41, 40, "/home/x", "ext4", fresh, ""})
		}, []string{"/home", "/home/x"}},
		{"new in what is no grant", func(g []Mount) []Mount { return append(g, Mount{40, 29, "/proc/sys", "proc", 0xf, ""}) }, []string{"/proc/sys"}},
		{"new in a hidden /dev", func(g []Mount) []Mount { return append(g, Mount{40, 21, "/dev/mem", "tmpfs", 0xf, ""}) }, []string{"/dev/mem"}},
		{"over a grant", func(g []Mount) []Mount { return append(g, Mount{40, 23, "/usr", "ext4", fresh | ReadOnly, ""}) }, []string{"/usr", "..."}},
		{"over the root", func(g []Mount) []Mount { return append(g, Mount{40, 20, "/", "ext4", fresh, ""}) }, []string{"/", "..."}},
		{"beside the root", func(g []Mount) []Mount { return append(g, Mount{40, 2, "/", "fuse", fresh, ""}) }, []string{"/"}},
		{"twice", func(g []Mount) []Mount { return append(g, Mount{40, 20, "/proc", "proc", 0xf, ""}) }, []string{"/proc"}},
		{"on the wrong mount", func(g []Mount) []Mount { at(g, 31).Parent = 21; return g }, []string{"/dev/null", "/dev/null"}},
		{"missing", func(g []Mount) []Mount { return g[:len(g)-1] }, []string{"/proc/keys"}},
		{"not hidden", func(g []Mount) []Mount { return slices.DeleteFunc(g, func(m Mount) bool { return m.ID == 28 }) }, []string{"/usr/src/secret"}},
		{"hidden under the host's", func(g []Mount) []Mount { at(g, 27).Parent, at(g, 26).Parent = 23, 27; return g }, []string{"/usr/src", "..."}},
		{"none", func(g []Mount) []Mount { return nil }, []string{"/", "/dev", "/dev/null", "/usr", "/usr/src", "/usr/src/secret", "/proc", "/dev", "/dev/null", "/proc/keys"}},
	} {
		want, got := tree()
		var names []string
		for _, point := range c.want {
			names = append(names, "mount "+strconv.Quote(point))
		}
		d := differences(want, c.change(got))
		if n := len(names); n > 0 && c.want[n-1] == "..." { // what lies on it is not where it should be either
			names, d = names[:n-1], d[:min(n-1, len(d))]
		}
		if !slices.Equal(d, names) {
			t.Errorf("%s: differences in %q, want %q", c.name, d, names)
		}
	}
}

// wantAll is a table as it is, as what is wanted.
func wantAll(got []Mount) (want []WantMount) {
	for _, m := range got {
		on := slices.IndexFunc(got, func(o Mount) bool { return o.ID == m.Parent })
		want = append(want, WantMount{Point: m.Point, Type: m.Type, Flags: m.Flags, On: max(on, 0)})
	}
	return want
}

// FuzzMounts: a directory of the host can have any name. The kernel's way to write it is undone, and a table that is compared
// with itself is as it should be, while one without its last mount is not.
// Containment checks: P01.
func FuzzMounts(f *testing.F) {
	f.Add("/home/ann/a b", "/mnt\n36 35 0:5 / /proc rw - proc proc rw", "")
	f.Add(`/\040`, "/-", " - ")
	f.Fuzz(func(t *testing.T, a, b, root string) {
		mangle := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace
		points := []string{"/", "/" + a, "/" + b}
		var text strings.Builder
		for i, point := range points {
			fmt.Fprintf(&text, "%d %d 0:5 /%s %s ro,nosuid - ext4 %s rw\n", i+2, 1+min(i, 1), mangle(root), mangle(point), mangle(root))
		}
		got, err := parseMounts(text.String())
		if err != nil || len(got) != len(points) {
			t.Fatalf("%+v, %v in %q", got, err, text.String())
		}
		for i, m := range got {
			if m != (Mount{i + 2, 1 + min(i, 1), points[i], "ext4", ReadOnly | NoSuid, ""}) {
				t.Errorf("%q is read as %+v", points[i], m)
			}
		}
		want := wantAll(got)
		if a == b {
			return // two at one place of one mount: the kernel makes none
		}
		if d := differences(want, got); d != nil {
			t.Errorf("differences in %q", d)
		}
		if d := differences(want, got[:2]); len(d) == 0 {
			t.Errorf("no difference without %q", points[2])
		}
	})
}

// FuzzMountTable: whatever the table, an answer, and none that is right without the root.
func FuzzMountTable(f *testing.F) {
	f.Add("36 36 0:5 / / rw - fuse x rw\n37 38 0:5 / /dev rw - fuse x rw\n38 37 0:5 / /dev rw - fuse x rw")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseMounts(text)
		if err != nil {
			return
		}
		want, _ := tree()
		if d := differences(want, got); len(got) < len(want) && len(d) == 0 {
			t.Errorf("%d mounts are all of %d", len(got), len(want))
		}
		differences(wantAll(got), got)
	})
}
