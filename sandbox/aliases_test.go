// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/agentjail/agentjail/profiles"
)

// twice is a machine that shows one file system at several places. The last but two covers what is mounted at a path in it, and shows that
// file system's directory of the same name at yet another.
const twice = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /home rw - ext4 /dev/sda2 rw
3 1 8:2 / /data rw - ext4 /dev/sda2 rw
4 2 8:2 /ann/src/sub /home/ann/src/in rw - ext4 /dev/sda2 rw
5 2 8:2 /ann/src/sub/deep /home/ann/src/deep rw - ext4 /dev/sda2 rw
6 2 8:2 /ann/src/sub /home/ann/src/over rw - ext4 /dev/sda2 rw
7 6 8:3 / /home/ann/src/over rw - ext4 /dev/sda3 rw
8 1 8:2 /ann/srcs /srv rw - ext4 /dev/sda2 rw
9 1 8:4 / /var/old rw - ext4 /dev/sda4 rw
10 1 8:5 / /var rw - ext4 /dev/sda5 rw
11 1 8:5 /old /mnt rw - ext4 /dev/sda5 rw
`

func TestAliases(t *testing.T) {
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(twice), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ whole, all string }{
		"/home/ann/src/sub/secret": {"/data/ann/src/sub/secret /home/ann/src/in/secret", "/data/ann/src/sub/secret /home/ann/src/in/secret"},
		"/home/ann/src/sub":        {"/data/ann/src/sub /home/ann/src/in", "/data/ann/src/sub /home/ann/src/deep /home/ann/src/in"},
		"/home/ann/src/in/secret":  {"/data/ann/src/sub/secret /home/ann/src/sub/secret", "/data/ann/src/sub/secret /home/ann/src/sub/secret"},
		"/home/ann/src/over/x":     {"", ""},
		"/etc/passwd":              {"", ""},
		"/home/ann/src": {"/data/ann/src", "/data/ann/src /data/ann/src/sub /data/ann/src/sub/deep /home/ann/src/deep /home/ann/src/in /home/ann/src/in/deep " +
			"/home/ann/src/sub /home/ann/src/sub/deep"},
		"/var/old/secret": {"/mnt/secret", "/mnt/secret"},
		"/home":           {"/data", "/data /data/ann/src/sub /data/ann/src/sub/deep /home/ann/src/deep /home/ann/src/in /home/ann/src/in/deep /home/ann/src/sub /home/ann/src/sub/deep /srv"},
	} {
		for all, want := range map[bool]string{false: want.whole, true: want.all} {
			found := map[string]bool{}
			for _, alias := range (keep{path: path, all: all}).aliases(newMountTree(mounts)) {
				found[alias] = true
			}
			if got := strings.Join(slices.Sorted(maps.Keys(found)), " "); got != want {
				t.Errorf("%s, all: %v:\n%q, want\n%q", path, all, got, want)
			}
		}
	}
}

// TestAliasesOfNFS: mounts of one server are one file system, whose directories the kernel tells in the names of what is mounted alone.
func TestAliasesOfNFS(t *testing.T) {
	const table = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:50 / /home rw - nfs4 nas:/export/home rw
3 1 0:50 / /project rw - nfs4 nas:/export/project rw
4 1 0:50 / /all rw - nfs4 [fd00::1]:/export/ rw
5 1 0:50 / /mnt rw - nfs4 nas:/export/home/ann/src rw
6 1 0:51 / /root rw - nfs4 nas:/ rw
7 1 0:51 / /srv rw - nfs4 nas:/pub rw
`
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/home/ann/.ssh":   "/all/home/ann/.ssh",
		"/home/ann/src/x":  "/all/home/ann/src/x /mnt/x",
		"/home/ann":        "/all/home/ann /mnt",
		"/project/ann":     "/all/project/ann",
		"/all/project":     "/project",
		"/mnt/x":           "/all/home/ann/src/x /home/ann/src/x",
		"/root/pub/secret": "/srv/secret",
		"/srv/secret":      "/root/pub/secret",
	} {
		got := newMountTree(mounts).aliases(path, true)
		if slices.Sort(got); strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestCompileAliases: what is kept from the command by one path is not shown by another, and each twin is.
// Containment check: B27.
func TestCompileAliases(t *testing.T) {
	const state = "agentjail's own state"
	for name, c := range map[string]struct{ mounts, policy, want string }{
		"hidden":                     {"/home/ann/src/other /home/ann/data", "{hide: [~/src/other/x], read: [~/src/other, ~/data]}", "--hide /home/ann/data/x"},
		"hidden by both":             {"/home/ann/src/other /home/ann/data", "{hide: [~/src/other/x, ~/data/x], read: [~/src/other, ~/data]}", ""},
		"hidden and not granted":     {"/home/ann/src/other /home/ann/data", "{hide: [~/src/other/x], read: [~/data]}", "--hide /home/ann/data/x"},
		"hidden, a part granted":     {"/home/ann/src/other /home/ann/data", "{hide: [~/src], read: [~/data], write: [~/src/app]}", ""},
		"a mount in what is hidden":  {"/home/ann/data /home/ann/src/other/sub", "{hide: [~/src/other], read: [~/src, ~/data]}", "--hide /home/ann/data"},
		"read-only":                  {"/home/ann/src/other /home/ann/data", "{read: [~/src/other], write: [~/src, ~/data]}", "--ro /home/ann/data"},
		"read-only by both":          {"/home/ann/src/other /home/ann/data", "{read: [~/src/other, ~/data], write: [~/src]}", ""},
		"state":                      {"/home/ann /data", "{read: [/data]}", state},
		"in the state":               {"/home/ann /data", "{read: [/data/.local/state/agentjail/runs]}", state},
		"beside the state":           {"/home/ann /data", "{read: [/data/src]}", ""},
		"a mount in the state":       {"/home/ann/.local/state/agentjail/runs /data", "{read: [/data]}", state},
		"the policy":                 {"/etc/agentjail /data", "{write: [/data]}", "--ro /data/p.yaml"},
		"the policy, read-only":      {"/etc/agentjail /data", "{read: [/data]}", ""},
		"nothing twice, for nothing": {"/nowhere /data", "{read: [/data]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			host := fakeHost()
			files := host.Files.(fakeFiles)
			from, to, _ := strings.Cut(c.mounts, " ")
			files["/proc/self/mountinfo"] = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 " + from + " " + to + " rw - ext4 /dev/sda1 rw\n"
			for _, file := range []string{"/data/src/x", "/data/.local/state/agentjail/runs/x", "/etc/agentjail/p.yaml"} {
				files[file] = ""
			}
			policy, err := profiles.Parse("/etc/agentjail/p.yaml", []byte("version: 1\nfilesystem: "+c.policy+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = Compile(base(t).With(policy), host, []string{"true"})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
