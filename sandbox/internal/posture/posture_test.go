// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const statusText = `Name:	sleep
Umask:	0027
State:	S (sleeping)
Pid:	77
Uid:	1000	1000	1000	1000
Gid:	100	100	100	100
FDSize:	64
Groups:	4 24 
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	1
SigBlk:	0000000000000000
SigIgn:	0000000000001000
SigCgt:	0000000180000000
CapInh:	0000000000000000
CapPrm:	0000000000000001
CapEff:	0000000000000002
CapBnd:	000001ffffffffff
CapAmb:	0000000000000004
`

func TestParseStatus(t *testing.T) {
	got, err := parseStatus(statusText)
	if err != nil {
		t.Fatal(err)
	}
	want := Thread{
		UIDs: [4]int{1000, 1000, 1000, 1000}, GIDs: [4]int{100, 100, 100, 100}, Groups: []int{4, 24}, Umask: 0o27,
		Caps: Caps{0, 1, 2, 0x1ffffffffff, 4}, NoNewPrivs: 1, Seccomp: 2, Filters: 1, Ignored: 0x1000, Caught: 0x180000000,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A field that is missing or odd must never read as a value.
func TestParseStatusRefuses(t *testing.T) {
	for _, name := range []string{"Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk",
		"SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		without := strings.Replace(statusText, "\n"+name+":", "\nX-"+name+":", 1)
		if _, err := parseStatus(without); err == nil {
			t.Errorf("without %s: no error", name)
		}
		odd := strings.Replace(statusText, "\n"+name+":\t", "\n"+name+":\tx", 1)
		if _, err := parseStatus(odd); err == nil {
			t.Errorf("odd %s: no error", name)
		}
	}
}

// A thread that has ended has no file system any more, and so no umask: it is none whose posture could be read.
func TestParseStatusEnded(t *testing.T) {
	for _, state := range []string{"Z (zombie)", "X (dead)"} {
		text := strings.Replace(strings.Replace(statusText, "Umask:\t0027\n", "", 1), "S (sleeping)", state, 1)
		if _, err := parseStatus(text); !vanished(err) {
			t.Errorf("%s: %v", state, err)
		}
	}
}

func TestParseMap(t *testing.T) {
	got, err := parseMap("         0       1000          1\n      1000     100000      65536\n")
	if want := []IDRange{{0, 1000, 1}, {1000, 100000, 65536}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"1 2", "1 2 x", "1 2 4294967296", "1 2 3 4"} {
		if _, err := parseMap(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseLimits(t *testing.T) {
	text := "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max core file size        0                    unlimited            bytes     \n" +
		"Max nice priority         0                    0                    \n" +
		"Max open files            1024                 524288               files     \n"
	got, err := parseLimits(text)
	want := map[string]Limit{
		"Max core file size": {0, Unlimited}, "Max nice priority": {0, 0}, "Max open files": {1024, 524288},
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"short", "Max open files            1024", "Max open files            1024   many   files"} {
		if _, err := parseLimits("heading\n" + bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseCloseOnExec(t *testing.T) {
	for text, want := range map[string]bool{
		"pos:\t0\nflags:\t02100001\nmnt_id:\t1\n": true,
		"pos:\t0\nflags:\t0100001\nmnt_id:\t1\n":  false,
	} {
		if got, err := parseCloseOnExec(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := parseCloseOnExec("pos:\t0\n"); err == nil {
		t.Error("no flags: no error")
	}
}

// TestReadSelf reads this process, whose posture is known.
func TestReadSelf(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name := filepath.Join(t.TempDir(), "open here")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Threads) < 2 {
		t.Errorf("%d threads of a Go program", len(p.Threads))
	}
	main := p.Threads[slices.IndexFunc(p.Threads, func(t Thread) bool { return t.TID == p.PID })]
	if main.UIDs[0] != os.Getuid() || main.GIDs[1] != os.Getegid() {
		t.Errorf("ids %v %v", main.UIDs, main.GIDs)
	}
	if !slices.Contains(main.Files, File{FD: int(f.Fd()), Target: name, CloseOnExec: true}) {
		t.Errorf("the open file is not among %v", main.Files)
	}
	own, err := Namespaces(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range Separated {
		if own[kind] == 0 || main.Namespaces[kind] != own[kind] {
			t.Errorf("namespace %s: %d and %d", kind, own[kind], main.Namespaces[kind])
		}
	}
	if len(p.UIDMap) == 0 || len(p.Cgroups) == 0 || p.Limits["Max open files"].Hard == 0 {
		t.Errorf("empty: %+v", p)
	}
	dir, err := os.Getwd()
	if err != nil || p.Dir != dir || !slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.ID == p.DirMount }) {
		t.Errorf("the working directory %s is %s in mount %d of %+v", dir, p.Dir, p.DirMount, p.Mounts)
	}
	if _, err := Read(1 << 30); err == nil {
		t.Error("a process that does not exist has a posture")
	}
}

func TestDetailIsJSON(t *testing.T) {
	p := held()
	b, err := json.Marshal(p.Detail())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"no_new_privs":1`, `"mounts":2`, `"cgroups":["cgroup of memory /agentjail-x","cgroup /user"]`, `"seccomp":2`, `"bounding":"0"`, `"fds":[0,1,2,3]`, `"umask":"022"`,
		`"uid_map":[[1000,0,1]]`, `"digest":"sha256:`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("no %s in %s", part, b)
		}
	}
	if _, err := json.Marshal(Posture{}.Detail()); err != nil {
		t.Errorf("the zero posture: %v", err)
	}
}

func TestDigest(t *testing.T) {
	a, b := held(), held()
	b.PID, b.Cgroups, b.Threads[0].TID = 99, []Cgroup{{"", "/other"}}, 99
	b.DirMount, b.Mounts[0].ID, b.Mounts[1].Parent = 5, 6, 6
	b.Threads[0].Namespaces = map[string]uint64{"user": 1}
	b.Threads[0].Files[0].Target = "/dev/other"
	if a.Digest() != b.Digest() {
		t.Error("the digest depends on what differs from run to run")
	}
	if !reflect.DeepEqual(a, held()) {
		t.Error("Digest changes its receiver")
	}
	for name, change := range map[string]func(*Posture){
		"capabilities": func(p *Posture) { p.Threads[0].Caps.Bounding = 1 },
		"mounts":       func(p *Posture) { p.Mounts[0].Flags = NoDev },
		"directory":    func(p *Posture) { p.Dir = "/" },
	} {
		if b = held(); a.Digest() != b.Digest() {
			t.Fatal("two equal ones differ")
		}
		if change(&b); a.Digest() == b.Digest() {
			t.Errorf("the digest does not depend on the %s", name)
		}
	}
}

// FuzzParse: whatever the text, an answer or an error.
func FuzzParse(f *testing.F) {
	f.Add(statusText)
	f.Add("0 1000 1\n")
	f.Add("heading\nMax core file size        0                    unlimited            bytes     \n")
	f.Add(`36 35 98:0 / /with\040space rw master:1 - ext3 /dev/root rw`)
	f.Fuzz(func(t *testing.T, text string) {
		if th, err := parseStatus(text); err == nil && !strings.Contains(text, "Seccomp_filters:") {
			t.Errorf("a status without filters: %+v", th)
		}
		parseMap(text)
		parseLimits(text)
		parseCloseOnExec(text)
		parseCgroups(text)
		if mounts, err := parseMounts(text); err == nil && len(mounts) != len(lines(text)) {
			t.Errorf("%d mounts in %d lines", len(mounts), len(lines(text)))
		}
	})
}
